package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// reachTimeout is how long the gate has to connect to a published port.
const reachTimeout = 10 * time.Second

// forward serves a connection that goes to a port of the host's loopback: the
// one that its socket says.
func (s *exitRun) forward(_ message, c *net.TCPConn) {
	s.serve(c, "", func() {}, func() {
		e := s.event("", c)
		v := s.Policy.MayForward(e.Port)
		if v.OK && !e.Addr.IsLoopback() {
			v = Verdict{Rule: "it was not meant for a forwarded port"}
		}
		if !v.OK {
			s.refuse(e, v, c)
			return
		}
		e.Rule = v.Rule
		ctx, cancel := context.WithTimeout(s.ctx, s.limits.Connect)
		host, err := s.dialHost(ctx, e.Port)
		cancel()
		if err != nil {
			s.fail(e, err, c)
			return
		}
		s.carry(e, newFlow(c, host, s.limits.Idle), nil)
	})
}

// dialHost connects to the host's loopback, and sees that it is that.
func (s *exitRun) dialHost(ctx context.Context, port uint16) (*net.TCPConn, error) {
	c, err := s.DialHost(ctx, port)
	if err != nil {
		return nil, err
	}
	t, ok := c.(*net.TCPConn)
	remote, local := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
	if !ok || !remote.Addr().IsLoopback() || remote.Port() != port || local == remote {
		c.Close()
		return nil, errors.New("the connection leads somewhere else")
	}
	return t, nil
}

// publish leads connections of the host to a port of the sandbox.
func (s *exitRun) publish(p Published) {
	var pause backoff
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !pause.wait(s.ctx) {
				return
			}
			continue
		}
		pause = 0
		t, ok := c.(*net.TCPConn)
		if !ok {
			c.Close()
			continue
		}
		s.publishOne(p.Port, t)
	}
}

func (s *exitRun) publishOne(port uint16, c *net.TCPConn) {
	e := Event{Proto: "tcp", Port: port, Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Rule: fmt.Sprintf("publish %d", port)}
	s.enter(func() {
		inside, err := s.askReach(port)
		if err != nil {
			reset(c)
			if s.ctx.Err() == nil {
				e.Kind, e.Text = KindFailed, plain(err)
				s.tally.add(e)
			}
			return
		}
		e.Addr = addrPort(inside.RemoteAddr()).Addr()
		s.carry(e, newFlow(inside, c, s.limits.Idle), nil)
	}, func(err error) {
		s.crowded(e, err)
		reset(c)
	})
}

// askReach has the gate connect to a port of the sandbox.
func (s *exitRun) askReach(port uint16) (*net.TCPConn, error) {
	id, ch := s.calls.begin()
	defer s.calls.end(id, ch)
	if err := s.post.send(message{Kind: msgReach, ID: id, Port: port}, nil); err != nil {
		return nil, err
	}
	late := time.NewTimer(reachTimeout)
	defer late.Stop()
	select {
	case a := <-ch:
		if c, ok := a.conn.(*net.TCPConn); ok {
			return c, nil
		}
		return nil, errors.New(cut(a.Error, maxText))
	case <-late.C:
		return nil, errors.New("timed out")
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}
