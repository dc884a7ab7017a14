package isolate

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rcc/isolate/egress"
)

// A name and its address out in the world, which here is a network namespace of
// the test's own: nothing leaves this machine.
const (
	worldName    = "shop.example.org"
	worldAddress = "93.184.216.34"
)

// outside is a network namespace where every address is its own, and a process in
// it that connects for others.
type outside struct {
	link *link
	mu   sync.Mutex
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestHelperOutside$")
	c.Env = append(os.Environ(), "RCC_TEST_OUTSIDE=1", "RCC_TEST_STAGE="+stagePath)
	c.ExtraFiles = []*os.File{theirs}
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	w, err := fileWire(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{link: newLink(w.conn, maxFromGate)}
	t.Cleanup(func() { o.link.Close(); c.Wait() })
	if b, _, err := o.link.Receive(); string(b) != "ready" {
		t.Fatalf("the world does not stand: %q %v", b, err)
	}
	return o
}

// TestHelperOutside is the process of an outside. Its ports 80 and 7 answer each
// line with "welcome".
func TestHelperOutside(t *testing.T) {
	if os.Getenv("RCC_TEST_OUTSIDE") == "" {
		t.Skip("only for tests of the network")
	}
	w, err := fileWire(os.NewFile(3, "link"))
	if err != nil {
		t.Fatal(err)
	}
	if err := loopbackUp(); err != nil {
		t.Fatal(err)
	}
	if err := routesHome(); err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{"80", "7"} {
		l, err := net.Listen("tcp", net.JoinHostPort(worldAddress, port))
		if err != nil {
			t.Fatal(err)
		}
		go welcome(l)
	}
	l := newLink(w.conn, maxFromGate)
	l.Send([]byte("ready"), nil)
	for {
		b, _, err := l.Receive()
		if err != nil {
			os.Exit(0)
		}
		c, err := dialTCP(context.Background(), netip.MustParseAddrPort(string(b)), -1)
		if err != nil {
			l.Send([]byte(err.Error()), nil)
			continue
		}
		l.Send(nil, c)
		c.Close()
	}
}

func welcome(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if _, err := c.Read(make([]byte, 4096)); err == nil {
				io.WriteString(c, "welcome\n")
			}
		}()
	}
}

func (o *outside) dial(_ context.Context, a netip.AddrPort) (net.Conn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.link.Send([]byte(a.String()), nil); err != nil {
		return nil, err
	}
	b, c, err := o.link.Receive()
	if err == nil && c == nil {
		err = fmt.Errorf("%s", b)
	}
	return c, err
}

// listenHost answers each line on a port of the host's loopback with "welcome".
func listenHost(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go welcome(l)
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// serve serves the world's link by an exit that leads outside, and gives what it
// tells.
func (w *world) serve(t *testing.T, policy egress.Policy, published ...egress.Published) (events func() []egress.Event, ended <-chan error) {
	t.Helper()
	x := w.exit(newOutside(t), policy)
	x.Published = published
	return w.serveBy(t, x)
}

// exit is one that leads outside, where every name has the world's address.
func (w *world) exit(o *outside, policy egress.Policy) *egress.Exit {
	return &egress.Exit{
		Policy: &policy,
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(worldAddress)}, nil
		},
		Own:  func() ([]netip.Prefix, error) { return nil, nil },
		Dial: o.dial,
		DialHost: func(ctx context.Context, port uint16) (net.Conn, error) {
			return Dialer(w.plan.HostUID)(ctx, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
		},
		Who: w.Who,
	}
}

func (w *world) serveBy(t *testing.T, x *egress.Exit) (events func() []egress.Event, ended <-chan error) {
	var mu sync.Mutex
	var told []egress.Event
	x.Tell = func(e egress.Event) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	served := make(chan struct{})
	go func() { done <- x.Serve(ctx, w.Link()); close(served) }()
	t.Cleanup(func() { cancel(); <-served })
	return func() []egress.Event {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(told)
	}, done
}

// waitFor gives the first event that fits.
func waitFor(t *testing.T, events func() []egress.Event, what string, fits func(egress.Event) bool) egress.Event {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if i := slices.IndexFunc(events(), fits); i >= 0 {
			return events()[i]
		}
	}
	t.Fatalf("no event tells of %s: %+v", what, events())
	return egress.Event{}
}

// stage runs this package's test program inside.
func (w *world) stage(t *testing.T, args ...string) string {
	t.Helper()
	p, out := w.startStage(t, args...)
	defer out.Close()
	b, _ := io.ReadAll(out)
	p.Wait()
	return strings.TrimSpace(string(b))
}

func (w *world) startStage(t *testing.T, args ...string) (*Process, *os.File) {
	t.Helper()
	r, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer wr.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p, err := w.Spawn(Program{Self: true, Args: append([]string{"stage"}, args...), Files: []*os.File{null, wr, wr}})
	if err != nil {
		t.Fatal(err)
	}
	return p, r
}

func (w *world) wantStage(t *testing.T, want string, args ...string) {
	t.Helper()
	if got := w.stage(t, args...); got != want {
		t.Errorf("%v\ngot  %q\nwant %q", args, got, want)
	}
}

// allowing is a policy with these rules.
func allowing(t *testing.T, rules ...string) egress.Policy {
	t.Helper()
	p := egress.Policy{Net: egress.NetAllow}
	for _, text := range rules {
		r, err := egress.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		p.Allow = append(p.Allow, r)
	}
	return p
}

const (
	refused      = "connection refused 111"
	reset        = "connection reset by peer 104"
	notPermitted = "operation not permitted 1"
)

// TestWayOut: a program that knows nothing of rcc reaches what is allowed, and
// is refused at once what is not.
func TestWayOut(t *testing.T) {
	port := listenHost(t)
	w := newWorldNet(t, Policy{Net: NetAllow, Forward: []uint16{port}, Publish: []uint16{3000}}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rules := allowing(t, worldName, worldAddress+":7")
	rules.Forward = []uint16{port}
	events, _ := w.serve(t, rules, egress.Published{Listener: l, Port: 3000})
	w.want(t, "cat /etc/resolv.conf", "nameserver 127.0.0.1")
	w.wantStage(t, "welcome\nwelcome\nwelcome", "dial", "tcp", worldName+":80", worldName+":7", worldAddress+":7")
	w.wantStage(t, "2 false", "lookup", worldName)
	// Whichever nameserver a program asks, it is answered by that address.
	for _, server := range []string{"9.9.9.9:53", "127.0.0.53:53", "[2620:fe::9]:53", "[::1]:53"} {
		for _, network := range []string{"udp", "tcp"} {
			w.wantStage(t, "2 false", "lookup", worldName, network, server)
		}
	}
	w.wantStage(t, "0 true", "lookup", "other.example.org")
	w.wantStage(t, "welcome\nwelcome", "dial", "tcp", fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("[::1]:%d", port))
	w.wantStage(t, refused, "dial", "tcp", fmt.Sprintf("127.0.0.1:%d", port^1))
	start := time.Now()
	w.wantStage(t, reset, "dial", "tcp", worldAddress+":8")
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("a refusal took %s", took)
	}
	w.wantStage(t, reset, "dial", "tcp", "10.1.2.3:7")
	w.wantStage(t, notPermitted, "dial", "udp", worldAddress+":7")
	for what, fits := range map[string]func(egress.Event) bool{
		"a flow": func(e egress.Event) bool { return e.Kind == egress.KindFlow && e.Name == worldName && e.Received == 8 },
		"a port": func(e egress.Event) bool { return e.Kind == egress.KindDenied && e.Proto == "tcp" && e.Port == 8 },
		"an address": func(e egress.Event) bool {
			return e.Kind == egress.KindDenied && e.Addr == netip.MustParseAddr("10.1.2.3")
		},
		"a name":           func(e egress.Event) bool { return e.Kind == egress.KindDenied && e.Name == "other.example.org" },
		"a packet over IP": func(e egress.Event) bool { return e.Kind == egress.KindDenied && e.Proto == "udp" && e.Port == 7 },
	} {
		e := waitFor(t, events, what, fits)
		if e.Kind == egress.KindDenied && e.Proto == "tcp" && (e.Program.Name == "" || e.Program.PID < 2) {
			t.Errorf("%s: nobody is named: %+v", what, e)
		}
	}
	server, out := w.startStage(t, "listen", "127.0.0.1:3000")
	defer out.Close()
	io.ReadFull(out, make([]byte, len("listening\n")))
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "over there")
	got := make([]byte, 10)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "over there" {
		t.Errorf("the published port answered %q, %v", got, err)
	}
	server.Signal(unix.SIGKILL)
}

// TestNothingElseLeaves: what is no TCP flow gets an error at once, and the
// gate's own listener is nobody's.
func TestNothingElseLeaves(t *testing.T) {
	python := need(t, "/usr/bin/python3")
	w := newWorldNet(t, Policy{Net: NetPublic}, nil)
	events, _ := w.serve(t, egress.Policy{Net: egress.NetPublic})
	w.want(t, python+` - <<'EOF'
import socket as s, struct
def to(what, family, kind, proto, address):
    try:
        c = s.socket(family, kind, proto)
        c.settimeout(3)
        c.connect(address) if kind == s.SOCK_STREAM else c.sendto(b"x" * 64, address)
        print(what, "sent")
    except OSError as e: print(what, e.errno)
for a in ("93.184.216.34", "10.1.2.3", "169.254.169.254", "224.0.0.251", "255.255.255.255"):
    to("udp " + a, s.AF_INET, s.SOCK_DGRAM, 0, (a, 443))
for a in ("2606:2800:220::34", "fd00:ec2::254", "ff02::fb"):
    to("udp " + a, s.AF_INET6, s.SOCK_DGRAM, 0, (a, 443))
to("udplite", s.AF_INET, s.SOCK_DGRAM, 136, ("93.184.216.34", 443))
to("ping", s.AF_INET, s.SOCK_DGRAM, s.IPPROTO_ICMP, ("93.184.216.34", 0))
to("raw", s.AF_INET, s.SOCK_RAW, 255, ("93.184.216.34", 0))
to("raw6", s.AF_INET6, s.SOCK_RAW, 58, ("2606:2800:220::34", 0))
for a in ("127.0.0.1", "127.9.9.9", "0.0.0.0"):
    to("listener " + a, s.AF_INET, s.SOCK_STREAM, 0, (a, 1))
for a in ("::1", "::ffff:127.0.0.1", "::"):
    to("listener " + a, s.AF_INET6, s.SOCK_STREAM, 0, (a, 1))
try: s.socket(s.AF_PACKET, s.SOCK_RAW, 3); print("packet")
except OSError as e: print("packet", e.errno)
for port in (1, 53):
    try: s.socket().bind(("127.0.0.1", port)); print("bound", port)
    except OSError as e: print("bind", e.errno)
c = s.socket(); c.bind(("127.0.0.1", 0)); c.listen(); d = s.create_connection(c.getsockname()); print("loopback")
u = s.socket(s.AF_INET, s.SOCK_DGRAM); u.bind(("127.0.0.1", 0)); u.sendto(b"x", u.getsockname()); print("loopback", u.recv(9))
EOF`, `udp 93.184.216.34 1
udp 10.1.2.3 1
udp 169.254.169.254 1
udp 224.0.0.251 1
udp 255.255.255.255 13
udp 2606:2800:220::34 1
udp fd00:ec2::254 1
udp ff02::fb 1
udplite 1
ping 13
raw 1
raw6 1
listener 127.0.0.1 111
listener 127.9.9.9 111
listener 0.0.0.0 111
listener ::1 111
listener ::ffff:127.0.0.1 111
listener :: 111
packet 1
bind 13
bind 13
loopback
loopback b'x'`)
	e := waitFor(t, events, "UDP to a private address", func(e egress.Event) bool { return e.Proto == "udp" && e.Addr == netip.MustParseAddr("10.1.2.3") })
	if e.Port != 443 || e.Kind != egress.KindDenied {
		t.Errorf("%+v", e)
	}
}

// TestNetworkBelongsToTheKeeper: not even a root that the program makes itself
// changes a rule, a route or a link.
func TestNetworkBelongsToTheKeeper(t *testing.T) {
	need(t, "nft")
	need(t, "ip")
	w := &world{}
	p := worldPlan(t, Policy{Net: NetAllow}, &w.tree, nil)
	p.UserNamespaces = 100 // the kernel frees them late
	w.start(t, p)
	w.serve(t, allowing(t, worldAddress+":7"))
	for _, what := range []string{
		"nft list ruleset", "nft flush ruleset", "nft add table inet x", "nft delete table inet rcc",
		"ip link set lo down", "ip link add x type veth", "ip route flush table local", "ip route add 10.0.0.0/8 dev lo", "ip addr add 10.0.0.1/8 dev lo",
		"nsenter -n -t 1 true", "sh -c 'echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start'",
	} {
		if out, status := w.sh(t, "unshare -Ur "+what); status == 0 && out != "" || status == 0 && what != "nft list ruleset" {
			t.Errorf("%s worked: %s", what, out)
		}
	}
	// Control: in a network of its own the same root may.
	for _, what := range []string{"nft add table inet x", "ip link set lo up", "ip route add 10.0.0.0/8 dev lo"} {
		if out, status := w.sh(t, "unshare -Urn sh -c 'ip link set lo up && "+what+"'"); status != 0 {
			t.Errorf("no control: %s: %s", what, out)
		}
	}
	w.wantStage(t, "welcome\n"+reset, "dial", "tcp", worldAddress+":7", worldAddress+":8")
}

// TestRulesCount: what the rules let pass and what they refuse is counted, by
// rules that stand in the sandbox's own network.
func TestRulesCount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may look into a process that hides itself")
	}
	need(t, "nft")
	w := newWorldNet(t, Policy{Net: NetAllow}, nil)
	w.serve(t, allowing(t, worldAddress+":7"))
	enter := []string{"-n", "-t", fmt.Sprint(w.keeper.Process.Pid), "nft", "list", "counters"}
	before, err := exec.Command("nsenter", enter...).CombinedOutput()
	if err != nil || strings.Count(string(before), "packets 0 bytes 0") < 4 {
		t.Fatalf("%v\n%s", err, before)
	}
	w.wantStage(t, "welcome", "dial", "tcp", worldAddress+":7")
	w.wantStage(t, notPermitted, "dial", "udp", worldAddress+":7")
	w.wantStage(t, refused, "dial", "tcp", "127.0.0.1:1")
	w.stage(t, "lookup", worldName)
	after, err := exec.Command("nsenter", enter...).CombinedOutput()
	if err != nil || strings.Contains(string(after), "packets 0 bytes 0") {
		t.Errorf("a counter does not move: %v\n%s", err, after)
	}
}

// TestFirstInstruction: a program that connects as soon as it runs finds the
// rules there.
func TestFirstInstruction(t *testing.T) {
	for range 10 {
		w := newWorldNet(t, Policy{Net: NetAllow}, nil)
		w.serve(t, allowing(t, worldAddress+":7"))
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				w.wantStage(t, notPermitted+"\n"+notPermitted, "dial", "udp", "10.0.0.1:9", "[fd00::1]:9")
				w.wantStage(t, "welcome\n"+reset, "dial", "tcp", worldAddress+":7", "10.0.0.1:7")
			})
		}
		work.Wait()
		w.Close()
	}
}

// TestManyFlows: the gate lives through a crowd, within what it is confined to.
func TestManyFlows(t *testing.T) {
	w := newWorldNet(t, Policy{Net: NetAllow}, nil)
	events, _ := w.serve(t, allowing(t, worldName))
	addresses := slices.Repeat([]string{worldName + ":80", worldName + ":7", worldAddress + ":9"}, 25)
	want := strings.TrimSpace(strings.Repeat("welcome\nwelcome\n"+reset+"\n", 25))
	var work sync.WaitGroup
	for range 12 {
		work.Go(func() { w.wantStage(t, want, append([]string{"dial", "tcp"}, addresses...)...) })
	}
	work.Wait()
	flows := 0
	for _, e := range events() {
		if e.Kind == egress.KindGate {
			t.Error("the gate is gone")
		}
		if e.Kind == egress.KindFlow {
			flows += e.Count
		}
	}
	if flows < 12*50-12 { // the last may not have ended yet
		t.Errorf("%d flows were told", flows)
	}
}

// TestFewDescriptors: a name with many dead addresses, asked for by many, does
// not take the descriptors from the link or from those who come next.
func TestFewDescriptors(t *testing.T) {
	const many = 40
	dead := "dead.example.org"
	w := newWorldNet(t, Policy{Net: NetAllow}, nil)
	x := w.exit(newOutside(t), allowing(t, worldName, dead))
	x.Connect = 5 * time.Second
	resolve, dial := x.Resolve, x.Dial
	x.Resolve = func(ctx context.Context, name string) (out []netip.Addr, err error) {
		if name != dead {
			return resolve(ctx, name)
		}
		for i := range byte(16) {
			out = append(out, netip.AddrFrom4([4]byte{93, 184, 217, i}))
		}
		return out, nil
	}
	var tries atomic.Int32
	x.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		if a.Addr() == netip.MustParseAddr(worldAddress) {
			return dial(ctx, a)
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		tries.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	limitFiles(t, uint64(openFiles(t)+11*many)) // the pipes of the programs included
	events, ended := w.serveBy(t, x)
	var work sync.WaitGroup
	for range many {
		work.Go(func() { w.stage(t, "dial", "tcp", dead+":7") })
	}
	work.Wait()
	// The last may still be on their way to their ends.
	waitFor(t, events, "a failure", func(e egress.Event) bool { return e.Kind == egress.KindFailed && e.Text == "timed out" })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := w.stage(t, "dial", "tcp", worldName+":7")
		if got == "welcome" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the next flow: %s; %+v", got, events())
		}
	}
	select {
	case err := <-ended:
		t.Errorf("the way out ended: %v", err)
	default:
	}
	if i := slices.IndexFunc(events(), func(e egress.Event) bool { return strings.Contains(e.Text, "too many open files") }); i >= 0 {
		t.Errorf("%+v", events()[i])
	}
	if tries.Load() < 100 {
		t.Errorf("no control: %d addresses were tried", tries.Load())
	}
}

// limitFiles lets this process have so many descriptors until the test ends.
func limitFiles(t *testing.T, n uint64) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	})
}
