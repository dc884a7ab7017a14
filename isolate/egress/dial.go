package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	stagger       = 250 * time.Millisecond // between two attempts (RFC 8305, section 5)
	maxCandidates = 16                     // addresses of a name that are tried
	maxAttempts   = 6                      // of them at once: each has a descriptor, of those that Limits.Flows counts
	ownFor        = time.Second            // how long the host's own addresses are taken as known
)

// reach connects to where a flow wants to go. The verdict is about the addresses
// that it leads to; only with its OK is there a connection or an error.
func (s *exitRun) reach(name string, dest netip.AddrPort) (*net.TCPConn, Verdict, error) {
	select {
	case s.dials <- struct{}{}:
		defer func() { <-s.dials }()
	case <-s.ctx.Done():
		return nil, Verdict{OK: true}, s.ctx.Err()
	}
	addrs := []netip.Addr{dest.Addr()}
	if name != "" {
		var err error
		if addrs, err = s.resolved.get(s.ctx, name); err != nil {
			return nil, Verdict{OK: true}, err
		}
	}
	own, err := s.ownAddrs()
	if err != nil {
		return nil, Verdict{OK: true}, fmt.Errorf("cannot tell the host's own addresses: %w", err)
	}
	candidates, v := s.candidates(addrs, dest.Port(), own)
	if !v.OK {
		return nil, v, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.limits.Connect)
	defer cancel()
	c, err := s.dialFirst(ctx, candidates)
	if err == nil {
		v = s.Policy.MayDial(addrPort(c.RemoteAddr()).Addr(), dest.Port(), own)
	}
	return c, v, err
}

// candidates drops the addresses that the policy refuses. If none is left, the
// verdict is that about the first.
func (s *exitRun) candidates(addrs []netip.Addr, port uint16, own []netip.Prefix) (ok []netip.AddrPort, refused Verdict) {
	refused = Verdict{Rule: "its name leads to no address"}
	for i, a := range interleave(addrs) {
		v := s.Policy.MayDial(a, port, own)
		if v.OK && len(ok) < maxCandidates {
			ok = append(ok, netip.AddrPortFrom(a, port))
		}
		if i == 0 {
			refused = v
		}
	}
	if len(ok) > 0 {
		return ok, Verdict{OK: true}
	}
	return nil, refused
}

// interleave takes turns between IPv6 and IPv4, IPv6 first, each in the order
// that the resolver gave (RFC 8305, section 4).
func interleave(addrs []netip.Addr) []netip.Addr {
	var v4, v6, out []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	for len(v4)+len(v6) > 0 {
		if len(v6) > 0 {
			out, v6 = append(out, v6[0]), v6[1:]
		}
		if len(v4) > 0 {
			out, v4 = append(out, v4[0]), v4[1:]
		}
	}
	return out
}

// dialled is what came of one attempt.
type dialled struct {
	index int
	conn  *net.TCPConn
	err   error
}

// dialFirst gives the first connection that comes about. The next attempt starts
// when one fails, or takes too long (RFC 8305, "Happy Eyeballs"). Where as many as
// may are open, the oldest is given up for it.
func (s *exitRun) dialFirst(ctx context.Context, addrs []netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialled, len(addrs))
	next, waiting := 0, 0
	open := make([]context.CancelFunc, len(addrs)) // nil: not begun, or over
	start := func() {
		i := next
		one, cancel := context.WithCancel(ctx)
		open[i] = cancel
		next++
		waiting++
		s.work.Go(func() {
			defer cancel()
			c, err := s.dialOne(one, addrs[i])
			if err != nil && one.Err() != nil && ctx.Err() == nil {
				err = context.DeadlineExceeded // given up
			}
			results <- dialled{i, c, err}
		})
	}
	start()
	var first error
	timer := time.NewTicker(stagger)
	defer timer.Stop()
	for waiting > 0 {
		select {
		case r := <-results:
			waiting--
			open[r.index] = nil
			if r.err == nil {
				s.work.Go(func() { closeLate(results, waiting) })
				return r.conn, nil
			}
			if first == nil {
				first = r.err
			}
		case <-timer.C:
			if waiting >= maxAttempts && next < len(addrs) {
				oldest := slices.IndexFunc(open, func(c context.CancelFunc) bool { return c != nil })
				open[oldest]()
				continue // its result starts the next
			}
		}
		if next < len(addrs) && ctx.Err() == nil {
			start()
			timer.Reset(stagger)
		}
	}
	return nil, first
}

// closeLate closes the connections that came second.
func closeLate(results <-chan dialled, n int) {
	for range n {
		if r := <-results; r.conn != nil {
			r.conn.Close()
		}
	}
}

// dialOne connects to one address and sees that it is that one.
func (s *exitRun) dialOne(ctx context.Context, a netip.AddrPort) (*net.TCPConn, error) {
	c, err := s.Dial(ctx, a)
	if err != nil {
		return nil, err
	}
	t, ok := c.(*net.TCPConn)
	if !ok || addrPort(c.RemoteAddr()) != a || addrPort(c.LocalAddr()) == a {
		c.Close()
		return nil, errors.New("the connection leads somewhere else")
	}
	return t, nil
}

// ownAddrs gives the host's own addresses.
func (s *exitRun) ownAddrs() ([]netip.Prefix, error) {
	s.ownLock.Lock()
	defer s.ownLock.Unlock()
	if s.ownTime.IsZero() || time.Since(s.ownTime) > ownFor {
		own, err := s.Own()
		if err != nil {
			return nil, err
		}
		s.own, s.ownTime = own, time.Now()
	}
	return s.own, nil
}
