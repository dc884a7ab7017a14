package egress

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// A head is what came of waiting for a client's first bytes.
type head struct {
	verdict Verdict
	gone    bool // the client reset the connection, or ended it without a word where it had to speak
}

// headBuffers are used while bytes are looked at, not while they are awaited:
// a thousand slow clients cost no memory.
var headBuffers = sync.Pool{New: func() any { return new([MaxHead]byte) }}

// awaitHead waits until the first bytes of a connection can be decided on. They
// stay in the socket. first: the client has to speak, from now on within the
// limit; otherwise it may be silent for ever, and has the limit to finish what
// it began.
func (r *gateRun) awaitHead(c net.Conn, name string, dest netip.AddrPort, first bool) head {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return head{gone: true}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return head{gone: true}
	}
	if first {
		c.SetReadDeadline(time.Now().Add(r.limits.Head))
	}
	var h head
	begun := first
	err = raw.Read(func(fd uintptr) (done bool) {
		// Asked before the bytes are: those are all that there will be.
		fin, rst := ended(fd)
		buf := headBuffers.Get().(*[MaxHead]byte)
		defer headBuffers.Put(buf)
		n, err := peek(fd, buf[:])
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return false
		case errors.Is(err, io.EOF):
			h = head{gone: first, verdict: Verdict{OK: true}} // nothing was said: nothing to look at
			return true
		case err != nil:
			h = head{gone: true}
			return true
		}
		v, err := r.policy.CheckHead(buf[:n], name, dest.Addr(), dest.Port())
		switch {
		case err == nil:
			h.verdict = v
		case !errors.Is(err, ErrMore):
			h.verdict = Verdict{Rule: plain(err)}
		case rst:
			h.gone = true
		case fin && r.passesEnded(buf[:n], name, dest):
			h.verdict = Verdict{OK: true}
		case fin:
			h.verdict = Verdict{Rule: "the client ended in the middle of its TLS hello or HTTP head"}
		case n == len(buf):
			h.verdict = Verdict{Rule: fmt.Sprintf("its TLS hello or HTTP head is longer than %d bytes", MaxHead)}
		default:
			if !begun {
				begun = true
				c.SetReadDeadline(time.Now().Add(r.limits.Head))
			}
			// A wait that ends when more comes: the poller reports every
			// arrival (epoll(7), edge-triggered), whatever was left unread.
			return false
		}
		return true
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return head{verdict: Verdict{Rule: fmt.Sprintf("no whole TLS hello or HTTP head came within %s", r.limits.Head)}}
	}
	if err != nil {
		return head{gone: true}
	}
	return h
}

// passesEnded decides on the bytes of a client that sends no more, and whose head
// is not whole: some servers take the end for that of a line.
func (r *gateRun) passesEnded(b []byte, name string, dest netip.AddrPort) bool {
	v, err := r.policy.CheckHead(append(b, '\n'), name, dest.Addr(), dest.Port())
	return err == nil && v.OK
}
