package egress

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// memLink is one end of a Link in memory; connections are duplicated as a unix
// socket does it.
type memLink struct {
	out    chan parcel
	in     chan parcel
	closed chan struct{}
	once   *sync.Once
}

type parcel struct {
	b   []byte
	c   net.Conn
	err error
}

// lostConn is one that the other end cannot take over.
type lostConn struct{ net.Conn }

func linkPair() (a, b *memLink) {
	ab, ba := make(chan parcel, 16), make(chan parcel, 16)
	closed, once := make(chan struct{}), new(sync.Once)
	return &memLink{ab, ba, closed, once}, &memLink{ba, ab, closed, once}
}

func (l *memLink) Send(b []byte, c net.Conn) error {
	p := parcel{b: append([]byte(nil), b...)}
	if _, lost := c.(lostConn); lost {
		p.err = fmt.Errorf("%w: %w", ErrLost, unix.EMFILE)
	} else if c != nil {
		var err error
		if p.c, err = duplicate(c); err != nil {
			return err
		}
	}
	select {
	case <-l.closed:
	case l.out <- p:
		select {
		case <-l.closed: // maybe just now, and nobody takes it any more
			drain(l.out)
		default:
		}
		return nil
	}
	if p.c != nil {
		p.c.Close()
	}
	return io.ErrClosedPipe
}

func (l *memLink) Receive() ([]byte, net.Conn, error) {
	select {
	case <-l.closed:
	default:
		select {
		case p := <-l.in:
			return p.b, p.c, p.err
		case <-l.closed:
		}
	}
	drain(l.in)
	return nil, nil, io.EOF
}

// drain closes the connections that nobody took.
func drain(ch chan parcel) {
	for {
		select {
		case p := <-ch:
			if p.c != nil {
				p.c.Close()
			}
		default:
			return
		}
	}
}

func (l *memLink) Close() error {
	l.once.Do(func() { close(l.closed) })
	drain(l.in)
	drain(l.out)
	return nil
}

func duplicate(c net.Conn) (net.Conn, error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, dupErr
	}
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	return net.FileConn(f)
}
