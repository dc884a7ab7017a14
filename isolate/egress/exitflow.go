package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// open serves a connection that the gate opens.
func (s *exitRun) open(m message, c *net.TCPConn) {
	var heads chan message
	if !m.Checked {
		heads = make(chan message, 1)
		s.mu.Lock()
		_, used := s.laters[m.ID]
		if !used {
			s.laters[m.ID] = heads
		}
		s.mu.Unlock()
		if used || m.ID == 0 {
			reset(c)
			return
		}
	}
	finish := func() {
		if heads != nil {
			s.endLater(m.ID)
		}
	}
	s.serve(c, m.Name, finish, func() {
		e := s.event(m.Name, c)
		s.out(m, e, c, heads)
	})
}

// serve gives a connection a slot and a goroutine, or resets it. name is the host
// that it is for, if any; finish is called when it is closed.
func (s *exitRun) serve(c *net.TCPConn, name string, finish, f func()) {
	s.enter(func() {
		stop := context.AfterFunc(s.ctx, func() { reset(c) })
		defer stop()
		defer finish()
		f()
	}, func(err error) {
		s.crowded(s.event(name, c), err)
		reset(c)
		finish()
	})
}

// event begins an event about a connection of the sandbox.
func (s *exitRun) event(name string, c *net.TCPConn) Event {
	e := Event{Proto: "tcp", Name: cut(name, maxText)}
	e.meant(addrPort(c.LocalAddr()))
	return e
}

// out carries a flow to the world, from decision to end.
func (s *exitRun) out(m message, e Event, c *net.TCPConn, heads <-chan message) {
	dest := addrPort(c.LocalAddr())
	v := s.decide(m, dest)
	var world *net.TCPConn
	var err error
	if v.OK {
		world, v, err = s.reach(m.Name, dest)
	}
	switch {
	case !v.OK:
		s.refuse(e, v, c)
		return
	case err != nil:
		s.fail(e, err, c)
		return
	}
	e.Rule, e.Addr = v.Rule, addrPort(world.RemoteAddr()).Addr()
	var hold func() error
	f := newFlow(c, world, s.limits.Idle)
	if heads != nil {
		hold = func() error { return s.awaitHead(e, c, f, heads) }
	}
	s.carry(e, f, hold)
}

// decide asks the policy about a flow, whatever the gate thinks of it.
func (s *exitRun) decide(m message, dest netip.AddrPort) Verdict {
	if m.Name == "" {
		if Synthetic(dest.Addr()) {
			return Verdict{Rule: "no name has this address; it is not one of the world's"}
		}
		return s.mayReach(dest)
	}
	name, err := NormalName(m.Name)
	switch {
	case err != nil || name != m.Name:
		return Verdict{Rule: "it is not a name of a host"}
	case !Synthetic(dest.Addr()):
		return Verdict{Rule: "an address of the world was given a name"}
	case headFirst(name, dest.Port()) && !m.Checked:
		return Verdict{Rule: "its first bytes were not looked at"}
	}
	return s.Policy.MayConnect(name, dest.Port())
}

// mayReach is the policy's MayReach, which knows nothing of the host: what MayDial
// refuses for good has no mend.
func (s *exitRun) mayReach(dest netip.AddrPort) Verdict {
	v := s.Policy.MayReach(dest.Addr(), dest.Port())
	if v.OK || v.Mend == "" {
		return v
	}
	own, err := s.ownAddrs()
	if err != nil {
		return v
	}
	if d := s.Policy.MayDial(dest.Addr(), dest.Port(), own); !d.OK && d.Mend == "" {
		return d
	}
	return v
}

// refuse tells of a denial and resets the connection; in this order, since the
// program is found by its socket.
func (s *exitRun) refuse(e Event, v Verdict, c *net.TCPConn) {
	e.Kind, e.Rule, e.Mend, e.Program = KindDenied, v.Rule, v.Mend, s.program(c)
	s.tally.add(e)
	reset(c)
}

// fail tells what could not be done, and resets the connection.
func (s *exitRun) fail(e Event, err error, c *net.TCPConn) {
	if s.ctx.Err() == nil {
		e.Kind, e.Text, e.Program = KindFailed, plain(err), s.program(c)
		s.tally.add(e)
	}
	reset(c)
}

func (s *exitRun) program(c *net.TCPConn) Program {
	return s.who("tcp", addrPort(c.RemoteAddr()), addrPort(c.LocalAddr()))
}

func (s *exitRun) who(proto string, client, dest netip.AddrPort) Program {
	if s.Who == nil || !client.IsValid() {
		return Program{}
	}
	return s.Who(proto, client, dest)
}

// awaitHead holds what the client sends until the gate has seen whom it means.
func (s *exitRun) awaitHead(e Event, c *net.TCPConn, f *flow, heads <-chan message) error {
	select {
	case m := <-heads:
		switch {
		case m.Reset:
			return errors.New("reset by the program")
		case m.Verdict == nil || !m.Verdict.OK:
			s.refuse(e, s.gatesVerdict(m), c)
			return errHeld
		}
		return nil
	case <-f.broken:
		return net.ErrClosed
	}
}

// head hands the gate's word about a flow's first bytes to that flow. There is
// one word for each; what comes for others is ignored.
func (s *exitRun) head(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := s.laters[m.ID]; ch != nil {
		delete(s.laters, m.ID)
		ch <- m
	}
}

// endLater tells the gate that a flow has ended whose head it still waits for.
func (s *exitRun) endLater(id uint64) {
	s.mu.Lock()
	_, waits := s.laters[id]
	delete(s.laters, id)
	s.mu.Unlock()
	if waits {
		s.post.send(message{Kind: msgEnd, ID: id}, nil)
	}
}

// carry runs a flow and tells how it was.
func (s *exitRun) carry(e Event, f *flow, hold func() error) {
	stop := context.AfterFunc(s.ctx, func() { f.cut(errors.New("the way out was closed")) })
	err := f.run(hold)
	stop()
	e.Kind, e.Count = KindFlow, 1
	e.Sent, e.Received = f.sent.Load(), f.received.Load()
	e.Time = time.Since(f.began)
	if err != nil {
		e.Text = plain(err)
	}
	s.tell(e)
}
