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
	out    chan<- parcel
	in     <-chan parcel
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
	for {
		select {
		case p := <-l.in:
			if p.c != nil {
				p.c.Close()
			}
		default:
			return nil, nil, io.EOF
		}
	}
}

func (l *memLink) Close() error {
	l.once.Do(func() { close(l.closed) })
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
