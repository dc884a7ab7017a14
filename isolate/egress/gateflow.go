package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// headFirst tells whether the client of a flow has to show whom it means before
// anything is dialled: on these ports it is the client that speaks first.
func headFirst(name string, port uint16) bool {
	return name != "" && (port == 443 || port == 80)
}

// accept takes connections until the gate ends, each into a slot. When there is
// none the newest is reset, so that those who came first are not disturbed.
func (r *gateRun) accept(l net.Listener, slots chan struct{}, serve func(net.Conn)) {
	var pause backoff
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !pause.wait(r.ctx) {
				return
			}
			continue
		}
		pause = 0
		select {
		case slots <- struct{}{}:
			r.work.Go(func() {
				defer func() { <-slots }()
				stop := context.AfterFunc(r.ctx, func() { reset(c) })
				defer stop()
				serve(c)
			})
		default:
			r.crowded(c, cap(slots))
		}
	}
}

// backoff grows while something fails that may pass, such as EMFILE, so that
// no loop is busy with it.
type backoff time.Duration

// wait is false when ctx was over first.
func (b *backoff) wait(ctx context.Context) bool {
	*b = min(max(*b*2, backoff(5*time.Millisecond)), backoff(500*time.Millisecond))
	t := time.NewTimer(time.Duration(*b))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// crowded resets a connection for which there is no room.
func (r *gateRun) crowded(c net.Conn, limit int) {
	dest := addrPort(c.LocalAddr())
	name, _ := r.decide(dest)
	d := tcpDenial(name, dest)
	v := Verdict{Rule: fmt.Sprintf("%d connections are waiting already", limit)}
	m := r.deniedMessage(d, addrPort(c.RemoteAddr()), dest, v)
	m.Full = true
	r.count(d, m)
	reset(c)
}

// flow serves one connection that wants to leave.
func (r *gateRun) flow(c net.Conn) {
	defer c.Close()
	client, dest := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
	name, v := r.decide(dest)
	first := headFirst(name, dest.Port())
	if v.OK && first {
		select {
		case r.heads <- struct{}{}:
			h := r.awaitHead(c, name, dest, true)
			<-r.heads
			if h.gone {
				reset(c)
				return
			}
			v = h.verdict
		default:
			r.crowded(c, cap(r.heads))
			return
		}
	}
	switch {
	case !v.OK:
		r.refuse(tcpDenial(name, dest), client, dest, v, true)
		reset(c)
	case first || !r.looks(name, dest):
		r.post.send(message{Kind: msgOpen, ID: r.calls.id(), Name: name, Dest: dest.String(), Checked: true}, c)
	default:
		r.flowLater(c, name, dest)
	}
}

// looks tells whether anything about a flow hangs on its first bytes.
func (r *gateRun) looks(name string, dest netip.AddrPort) bool {
	v, err := r.policy.CheckHead(nil, name, dest.Addr(), dest.Port())
	return err != nil || !v.OK
}

// decide finds the name that a connection means, and whether it may go there.
func (r *gateRun) decide(dest netip.AddrPort) (string, Verdict) {
	if !Synthetic(dest.Addr()) {
		return "", r.policy.MayReach(dest.Addr(), dest.Port())
	}
	name, ok := r.names.Lookup(dest.Addr())
	if !ok {
		return "", Verdict{Rule: "no name has this address; it is not one of the world's"}
	}
	return name, r.policy.MayConnect(name, dest.Port())
}

// flowLater opens a flow at once: the server may be the one who speaks first.
// What the client says is held by the exit until its head was seen here.
func (r *gateRun) flowLater(c net.Conn, name string, dest netip.AddrPort) {
	id := r.calls.id()
	r.mu.Lock()
	r.later[id] = c
	r.mu.Unlock()
	defer r.endLater(id)
	if r.post.send(message{Kind: msgOpen, ID: id, Name: name, Dest: dest.String()}, c) != nil {
		return
	}
	h := r.awaitHead(c, name, dest, false)
	r.post.send(message{Kind: msgHead, ID: id, Verdict: &h.verdict, Reset: h.gone}, nil)
}

// endLater closes the gate's hold on a flow. What the exit does with its own is
// seen by the client only then (close(2): the last descriptor counts).
func (r *gateRun) endLater(id uint64) {
	r.mu.Lock()
	c := r.later[id]
	delete(r.later, id)
	r.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

// forward hands a connection to a forwarded port over.
func (r *gateRun) forward(c net.Conn) {
	defer c.Close()
	r.post.send(message{Kind: msgForward, ID: r.calls.id(), Dest: addrPort(c.LocalAddr()).String()}, c)
}

// reset ends a connection so that its other side gets ECONNRESET (socket(7),
// SO_LINGER with a time of 0).
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		l.SetLinger(0)
	}
	c.Close()
}

// addrPort gives the end of a connection, without IPv4's mapping into IPv6.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(t.AddrPort().Addr().Unmap(), t.AddrPort().Port())
}
