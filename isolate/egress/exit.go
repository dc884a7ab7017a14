package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Published port is one of the sandbox's that a listener of the host leads to.
type Published struct {
	Listener net.Listener // Serve closes it
	Port     uint16       // inside
}

// An Exit is the other side of a Gate, on the host. It believes nothing that the
// gate says: it takes the ends of a connection from its socket, decides by the
// policy, resolves the name and dials literal addresses that it checked. It
// never reads a byte of a flow.
type Exit struct {
	Policy *Policy
	// Resolve gives the addresses of a name, on the host. It has LookupTime.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	// Own gives the addresses of the host's interfaces, which are never dialled,
	// each with the length of its network's prefix: 192.0.2.5/24.
	Own func() ([]netip.Prefix, error)
	// Dial connects to an address out in the world, and only to that.
	Dial func(ctx context.Context, a netip.AddrPort) (net.Conn, error)
	// DialHost connects to a port of the host's loopback, for forward.
	DialHost func(ctx context.Context, port uint16) (net.Conn, error)
	// Who finds the program of a socket inside; nil: none is found. Several
	// goroutines may call it.
	Who func(proto string, client, dest netip.AddrPort) Program
	// Tell is called for every event, one at a time; while it runs, whoever has
	// the next one waits.
	Tell      func(Event)
	Published []Published
	Limits

	serving atomic.Pointer[exitRun]
}

// settleTime bounds how long Settle waits for the gate.
const settleTime = 250 * time.Millisecond

// Settle has the gate tell what it has counted and not told yet, so that nothing
// is missing when Serve is ended after it. It waits 250 ms at most, and not at all
// while nothing is served.
func (x *Exit) Settle() {
	s := x.serving.Load()
	if s == nil {
		return
	}
	id, ch := s.calls.begin()
	defer s.calls.end(id, ch)
	if s.post.send(message{Kind: msgSettle, ID: id}, nil) != nil {
		return
	}
	select {
	case <-ch:
	case <-s.ctx.Done():
	case <-time.After(settleTime):
	}
}

// Serve serves a gate until the link ends or ctx is over. Then every flow is
// reset, every listener closed and, unless ctx is over, KindGate told and an
// error given. An Exit serves one link.
func (x *Exit) Serve(ctx context.Context, l Link) error {
	s := &exitRun{Exit: x, post: post{link: l}, limits: x.Limits.whole(), laters: map[uint64]chan message{}}
	wanted := s.limits.Flows
	s.limits = s.limits.within(openFiles())
	s.fewFiles = s.limits.Flows < wanted
	s.tally.tell = s.tell
	s.flows = make(chan struct{}, s.limits.Flows)
	s.crowd = make(chan struct{}, s.limits.Flows)
	s.dials = make(chan struct{}, s.limits.Dials)
	s.lookups = make(chan struct{}, s.limits.Lookups)
	s.denials = make(chan struct{}, 32)
	s.asks = make(chan struct{}, s.limits.Lookups)
	s.resolved.resolve = s.lookup
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, func() { l.Close() })
	defer x.serving.Store(nil)

	s.work.Go(func() { s.tally.run(s.ctx) })
	err := s.listen()

	over := ctx.Err() != nil
	cancel()
	stop()
	l.Close()
	for _, p := range x.Published {
		p.Listener.Close()
	}
	s.work.Wait()
	s.tally.flush()
	if over {
		return nil
	}
	s.tell(Event{Kind: KindGate, Count: 1, Text: plain(err)})
	return err
}

// exitRun is an Exit at work.
type exitRun struct {
	*Exit
	post     post
	calls    calls
	limits   Limits
	fewFiles bool // the process's descriptors limit the flows
	tally    tally
	resolved resolved

	flows   chan struct{} // slots: open flows
	crowd   chan struct{} // slots: flows that wait for one of those
	dials   chan struct{} // slots: flows being dialled
	lookups chan struct{} // slots: names being asked for
	asks    chan struct{} // slots: questions of the gate about names
	denials chan struct{} // slots: refusals whose program is being looked for

	ctx  context.Context // over when Serve is about to return
	work sync.WaitGroup

	telling sync.Mutex
	mu      sync.Mutex
	laters  map[uint64]chan message // flows whose head is awaited
	ownLock sync.Mutex
	own     []netip.Prefix // what Own said
	ownTime time.Time      // and when
}

// listen gives the gate its policy and handles what it says until it is gone.
func (s *exitRun) listen() error {
	if err := s.post.send(message{Kind: msgPolicy, Policy: s.Policy, Limits: &s.limits}, nil); err != nil {
		return fmt.Errorf("cannot give the gate its policy: %w", err)
	}
	s.serving.Store(s)              // from here on other messages may be sent: the policy has to be the first
	for _, p := range s.Published { // only now: the policy is the first that the gate hears
		s.work.Go(func() { s.publish(p) })
	}
	for {
		m, c, err := s.post.receive(maxMessage)
		switch {
		case err == nil && m.Kind == msgError:
			if c != nil {
				c.Close()
			}
			return errors.New(cut(m.Error, maxText))
		case err == nil:
			s.take(m, c)
		case errors.Is(err, ErrLost):
			s.lost(m, err)
		case errors.Is(err, io.EOF):
			return errors.New("the gate is gone")
		default:
			return fmt.Errorf("cannot hear the gate: %w", err)
		}
	}
}

// lost lets go of a connection that came with a message and could not be taken
// over.
func (s *exitRun) lost(m message, err error) {
	switch m.Kind {
	case msgOpen, msgForward:
		e := Event{Kind: KindFailed, Proto: "tcp", Name: cut(m.Name, maxText), Text: plain(err)}
		dest, _ := netip.ParseAddrPort(m.Dest)
		e.meant(dest)
		s.tally.add(e)
		if m.Kind == msgOpen && !m.Checked { // the gate holds it too
			s.post.send(message{Kind: msgEnd, ID: m.ID}, nil)
		}
	case msgReached:
		m.Error = plain(err)
		s.calls.answer(answer{message: m})
	}
}

// take handles one message. What waits has a goroutine of its own, and of each
// kind there is a bounded number.
func (s *exitRun) take(m message, c net.Conn) {
	conn, _ := c.(*net.TCPConn)
	if c != nil && conn == nil {
		c.Close()
	}
	switch m.Kind {
	case msgOpen:
		if conn != nil {
			s.open(m, conn)
			return
		}
	case msgForward:
		if conn != nil {
			s.forward(m, conn)
			return
		}
	case msgReached, msgSettled:
		a := answer{message: m}
		if conn != nil {
			a.conn = conn
		}
		s.calls.answer(a)
		return
	case msgHead:
		s.head(m)
	case msgExists:
		s.exists(m)
	case msgDenied:
		s.denied(m)
	}
	if conn != nil {
		conn.Close()
	}
}

// tell passes an event on.
func (s *exitRun) tell(e Event) {
	if s.Tell == nil {
		return
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	s.Tell(e)
}
