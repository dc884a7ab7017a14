package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Query says where a DNS packet came from and which address it was sent to:
// the answer has to leave from that one.
type Query struct{ Client, Local netip.AddrPort }

// A PacketConn is a UDP socket that DNS queries arrive on.
type PacketConn interface {
	// ReadQuery waits for the next packet; net.ErrClosed ends the reading.
	ReadQuery(b []byte) (n int, q Query, err error)
	// WriteReply answers q. Several goroutines may call it.
	WriteReply(b []byte, q Query) error
	Close() error
}

// A Refusal is a packet that the rules of the network namespace rejected.
type Refusal struct {
	Proto        string // "udp", "icmp", "sctp", or a number of IANA's protocol registry
	Client, Dest netip.AddrPort
}

// A Gate stands where the agent's packets arrive. It reads what the agent wrote,
// the queries and the heads of flows, and nothing else; whatever it says, the
// exit decides again. It has no files, starts nothing and holds no secret.
type Gate struct {
	Link Link
	// TCP are listeners whose connections were meant for their LocalAddr.
	TCP    []net.Listener
	DNS    []PacketConn
	DNSTCP []net.Listener
	// Forward are the listeners for ports of the host's loopback.
	Forward map[uint16][]net.Listener
	// Refused waits for the next packet that was rejected; nil: none are told.
	// Run calls it until it gives an error, or returns without waiting for it.
	Refused func() (Refusal, error)
	// Dial connects to a port of the sandbox's own loopback.
	Dial func(port uint16) (net.Conn, error)

	names *Names // nil: new ones; a test that asks no resolver has its own
}

const (
	maxNames   = 65536 // names that have an address
	maxQueries = 512   // DNS queries that are being answered
	maxStreams = 64    // DNS connections
	maxRepeats = 1024  // denials that repeats are counted of, each for itself

	// ackWait is how long a refusal is held back so that the exit can find the
	// program behind it while its socket is still there.
	ackWait = 100 * time.Millisecond
)

// Run serves until the link ends, which is not an error. The first message has
// to be the policy. When it returns, all that it was given is closed.
func (g *Gate) Run() error {
	r := &gateRun{Gate: g, post: post{link: g.Link}, later: map[uint64]net.Conn{}, repeats: map[denial]*repeat{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	defer r.close()
	m, c, err := r.post.receive(MaxLinkMessage)
	if err != nil {
		return r.ended(err)
	}
	if c != nil {
		c.Close()
	}
	if m.Kind != msgPolicy || m.Policy == nil || m.Limits == nil {
		return fmt.Errorf("cannot start the gate: the first message is %q, not the policy", m.Kind)
	}
	r.start(m.Policy, m.Limits.whole())
	for {
		m, c, err := r.post.receive(maxMessage)
		if err != nil {
			return r.ended(err)
		}
		r.take(m, c)
	}
}

// gateRun is a Gate at work.
type gateRun struct {
	*Gate
	post     post
	calls    calls
	policy   *Policy
	limits   Limits
	resolver *Resolver

	conns    chan struct{} // slots: connections that the gate holds
	heads    chan struct{} // slots: those that nothing is dialled for yet
	queries  chan struct{} // slots: DNS queries being answered
	streams  chan struct{} // slots: DNS connections
	reaching chan struct{} // slots: connections being made for published ports

	ctx    context.Context // over when Run returns
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	later   map[uint64]net.Conn // flows that are open and whose head is awaited
	repeats map[denial]*repeat  // what was denied in the last second
	others  int                 // what did not fit into repeats
}

func (r *gateRun) start(p *Policy, l Limits) {
	r.policy, r.limits = p, l
	r.conns = make(chan struct{}, l.Heads+l.Flows)
	r.heads = make(chan struct{}, l.Heads)
	r.reaching = make(chan struct{}, l.Flows)
	r.queries = make(chan struct{}, maxQueries)
	r.streams = make(chan struct{}, maxStreams)
	if r.names == nil {
		r.names = NewNames(maxNames)
	}
	r.resolver = &Resolver{Policy: p, Names: r.names, Denied: r.deniedName}
	if p.Net == NetPublic {
		r.resolver.Exists = r.exists
	}
	for _, l := range r.TCP {
		r.work.Go(func() { r.accept(l, r.conns, r.flow) })
	}
	for _, l := range r.DNSTCP {
		r.work.Go(func() { r.accept(l, r.streams, r.stream) })
	}
	for _, c := range r.DNS {
		r.work.Go(func() { r.packets(c) })
	}
	for _, ls := range r.Forward {
		for _, l := range ls {
			r.work.Go(func() { r.accept(l, r.conns, r.forward) })
		}
	}
	if r.Refused != nil {
		go r.refusals()
	}
}

// take handles a message. It never waits for the other side: a gate that did,
// and an exit that did, would wait for each other.
func (r *gateRun) take(m message, c net.Conn) {
	if c != nil {
		c.Close() // the exit has none to give
	}
	switch m.Kind {
	case msgAck, msgKnown:
		r.calls.answer(answer{message: m})
	case msgEnd:
		r.endLater(m.ID)
	case msgSettle: // not here: a link that is full is emptied by who reads
		r.work.Go(func() {
			r.settle()
			r.post.send(message{Kind: msgSettled, ID: m.ID}, nil)
		})
	case msgReach:
		select {
		case r.reaching <- struct{}{}:
			r.work.Go(func() {
				defer func() { <-r.reaching }()
				r.reach(m)
			})
		default: // the exit stops waiting by itself
		}
	}
}

// reach connects to a published port.
func (r *gateRun) reach(m message) {
	c, err := r.Dial(m.Port)
	if err != nil {
		r.post.send(message{Kind: msgReached, ID: m.ID, Error: plain(err)}, nil)
		return
	}
	defer c.Close()
	r.post.send(message{Kind: msgReached, ID: m.ID}, c)
}

// close ends everything and waits for it. A client that is still waiting is
// reset.
func (r *gateRun) close() {
	r.cancel()
	r.Link.Close()
	for _, l := range r.listeners() {
		l.Close()
	}
	for _, c := range r.DNS {
		c.Close()
	}
	r.work.Wait()
}

func (r *gateRun) listeners() []net.Listener {
	ls := append(append([]net.Listener(nil), r.TCP...), r.DNSTCP...)
	for _, f := range r.Forward {
		ls = append(ls, f...)
	}
	return ls
}

// ended is what Run returns when the link gives err.
func (r *gateRun) ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("cannot hear the exit: %w", err)
}
