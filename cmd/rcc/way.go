package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"rcc/isolate"
	"rcc/isolate/egress"
	"rcc/worktree"
)

// A way is the way out of one sandbox: what is asked for there is decided,
// resolved, opened and told by this process, on the host.
type way struct {
	exit *egress.Exit
	end  context.CancelFunc
	over chan struct{} // closed when every flow is over and all of it was told
}

// port is one of the sandbox's that the host's loopback has too.
type port struct {
	Host    uint16 `json:"host"`
	Sandbox uint16 `json:"sandbox"`
}

// openWay begins to serve a sandbox's way out, if it has one.
func (s *session) openWay(sb *isolate.Sandbox) error {
	link := sb.Link()
	if link == nil {
		return nil
	}
	published, err := s.publish()
	if err != nil {
		return err
	}
	x := &egress.Exit{
		Policy: s.rec.Network, Resolve: resolveHost, Own: ownAddresses,
		Dial: withWall(isolate.Dialer(s.rec.HostUID)), DialHost: dialLoopback,
		Who: sb.Who, Tell: s.tellNet, Published: published,
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &way{exit: x, end: cancel, over: make(chan struct{})}
	go func() {
		defer close(w.over)
		x.Serve(ctx, link) // what it ended with was told
	}()
	s.way = w
	return nil
}

// leave ends a sandbox and its way out.
func (s *session) leave(sb *isolate.Sandbox) error {
	if s.way != nil {
		s.way.exit.Settle()
		s.way.end() // before the sandbox ends it: that would look like an accident
	}
	err := sb.Close()
	if s.way != nil {
		<-s.way.over
		s.way = nil
		s.ledger.settle()
	}
	return err
}

// publish opens the host's ends of the published ports. One that was picked stays
// the same when the sandbox has to be made anew before the command begins.
func (s *session) publish() (out []egress.Published, err error) {
	defer func() {
		if err != nil {
			for _, p := range out {
				p.Listener.Close()
			}
		}
	}()
	for i, want := range s.rec.Publish {
		if want.Host == 0 && i < len(s.rec.Ports) {
			want.Host = s.rec.Ports[i].Host
		}
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(want.Host))))
		if errors.Is(err, syscall.EADDRINUSE) {
			return out, fmt.Errorf("cannot publish port %d: something listens on it; --publish 0:%d picks a free one", want.Host, want.Port)
		}
		if err != nil {
			return out, fmt.Errorf("cannot publish port %d: %w", want.Host, underlying(err))
		}
		out = append(out, egress.Published{Listener: l, Port: want.Port})
		got := port{Host: uint16(l.Addr().(*net.TCPAddr).Port), Sandbox: want.Port}
		if i == len(s.rec.Ports) {
			s.rec.Ports = append(s.rec.Ports, got)
		}
		s.tell([]string{fmt.Sprintf("port %d of the sandbox is 127.0.0.1:%d here", got.Sandbox, got.Host)})
	}
	return out, nil
}

// ownAddresses are those of the host's interfaces, now, each with the length of
// its network's prefix.
func ownAddresses() ([]netip.Prefix, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if bits, _ := n.Mask.Size(); ok {
			out = append(out, netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	return out, nil
}

// dialLoopback opens a port of the host's own, for --forward.
func dialLoopback(ctx context.Context, port uint16) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
	if errors.Is(err, syscall.ECONNREFUSED) {
		if c6, err6 := d.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.IPv6Loopback(), port).String()); err6 == nil {
			return c6, nil
		}
	}
	return c, err
}

// wayClosed is what a task is told when the process that guards its way out is gone.
const wayClosed = "the way out is closed for the rest of this run: the process that reads what the task asks for has ended"

// denied counts what was denied to a task, and what it could not reach though it
// was allowed, for a word at its end.
type denied struct {
	mu    sync.Mutex
	first []event // each target and reason once, the first of them
	seen  map[string]bool
}

// maxDenied bounds how many are told apart, and how many a run shows.
const (
	maxDenied   = 1000
	shownDenied = 5
)

func (d *denied) count(kind string, n *netEvent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		d.seen = map[string]bool{}
	}
	key := kind + " " + n.target() + " " + n.reason()
	if !d.seen[key] && len(d.seen) < maxDenied {
		d.seen[key] = true
		d.first = append(d.first, event{Event: kind, Net: n})
	}
}

// notes say what a user should know of it. A run keeps nothing, so that all there
// is to say is said.
func (d *denied) notes(r *Record) (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Run {
		for _, ev := range d.first[:min(len(d.first), shownDenied)] {
			text := ev.Event + " " + ev.Net.text(ev.Event)
			if ev.Event == eventDenied && ev.Net.Allow != "" {
				text += "; --allow " + ev.Net.Allow + " would let it"
			}
			out = append(out, text)
		}
		if more := len(d.first) - len(out); more > 0 {
			out = append(out, fmt.Sprintf("denied or failed: %d more", more))
		}
		return out
	}
	count := map[string]int{}
	for _, ev := range d.first {
		count[ev.Event]++
	}
	if n := count[eventDenied]; n > 0 {
		out = append(out, fmt.Sprintf("%s denied on the network; rcc why %s tells which and what would allow them", things(n), r.ID))
	}
	if n := count[eventFailed]; n > 0 {
		out = append(out, fmt.Sprintf("%s allowed but not reached; rcc why %s tells why", things(n), r.ID))
	}
	return out
}

func things(n int) string {
	switch {
	case n == 1:
		return "one thing was"
	case n >= maxDenied:
		return fmt.Sprintf("%d things and more were", n)
	}
	return fmt.Sprintf("%d things were", n)
}

// network works out what the task may reach.
func (st *start) network(ctx context.Context, flags netFlags, agent string) (err error) {
	if st.net, err = st.netSource().plan(ctx, flags, agent); err != nil {
		return err
	}
	st.record.NetFlags, st.record.Agent = flags, agent
	st.record.takeNetwork(st.net)
	return nil
}

func (r *Record) takeNetwork(p *netPlan) {
	r.Network, r.Publish, r.Ports = p.Policy, p.Publish, nil
}

// net is the mode of the way out.
func (r *Record) net() string {
	if r.Network == nil {
		return netNone
	}
	return r.Network.Net
}

// tellNetwork says what the network's files ask for in vain.
func (st *start) tellNetwork() {
	if st.net == nil { // of a run that is a hook
		return
	}
	for _, n := range st.net.Notes {
		st.env.say("%s: %s", st.record.ID, Inert(n))
		st.record.Notes = append(st.record.Notes, n)
	}
}

// networkAgain does the same for a task that is over: what counts is what the
// files say now.
func (s *session) networkAgain(ctx context.Context) error {
	plan, err := networkNow(ctx, s.env, s.git, s.rec, s.rec.NetFlags, s.rec.Agent)
	if err != nil {
		return err
	}
	s.rec.takeNetwork(plan)
	s.tell(plan.Notes)
	return nil
}

// networkNow works out what programs of a task that has begun may reach, by its
// commit and by the files of the user and the system as they are now.
func networkNow(ctx context.Context, env *surroundings, git *worktree.Git, r *Record, flags netFlags, agent string) (*netPlan, error) {
	repo, sight, err := git.Look(ctx, r.Repository, r.Start, r.ID)
	if err != nil {
		return nil, err
	}
	config, err := readConfig(ctx, env, repo, sight)
	if err != nil {
		return nil, err
	}
	n := netSource{env: env, repo: repo, sight: sight, store: env.dirs.store(repo.Key()), config: config}
	return n.plan(ctx, flags, agent)
}

// network is what the sandbox's plan knows of the way out.
func (s *session) network() isolate.Policy {
	p := s.rec.Network
	if p == nil || s.undressed {
		return isolate.Policy{Net: "none"}
	}
	way := isolate.Policy{Net: p.Net, Forward: slices.Clone(p.Forward)}
	for _, p := range s.rec.Publish {
		if !slices.Contains(way.Publish, p.Port) {
			way.Publish = append(way.Publish, p.Port)
		}
	}
	return way
}
