package isolate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"rcc/isolate/egress"
)

// What a side of the link takes in one message, in bytes. The gate may have been
// taken over by what it reads, and shall not make the supervisor hold much.
const (
	maxFromGate = 64 << 10
	maxToGate   = 8 << 20
)

// link is an egress.Link over a stream socket: each message is its length, to
// which a connection is tied, and its bytes.
type link struct {
	conn *net.UnixConn
	max  uint32 // of a message that is received

	sending, receiving sync.Mutex
}

var _ egress.Link = (*link)(nil)

func newLink(c *net.UnixConn, limit uint32) *link { return &link{conn: c, max: limit} }

// Send is safe for concurrent use. A connection is duplicated by the kernel.
func (l *link) Send(b []byte, c net.Conn) error {
	if len(b) > maxToGate {
		return errors.New("message is too large")
	}
	l.sending.Lock()
	defer l.sending.Unlock()
	if c == nil {
		return l.write(b, nil)
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("cannot pass on a %T", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	// While the function runs, the descriptor is not closed.
	err = raw.Control(func(fd uintptr) { sendErr = l.write(b, syscall.UnixRights(int(fd))) })
	return errors.Join(err, sendErr)
}

func (l *link) write(b, oob []byte) error {
	m := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b)))
	m = append(m, b...)
	n, _, err := l.conn.WriteMsgUnix(m, oob, nil)
	if err == nil && n < len(m) { // the descriptor went with the first byte
		_, err = l.conn.Write(m[n:])
	}
	return err
}

// Receive is safe for concurrent use. After an error other than egress.ErrLost the
// link is of no more use.
func (l *link) Receive() ([]byte, net.Conn, error) {
	l.receiving.Lock()
	defer l.receiving.Unlock()
	var head [4]byte
	// Room for two descriptors, which one and its padding take: the kernel
	// never installs more than there is room for, and tells of it.
	oob := make([]byte, syscall.CmsgSpace(4))
	n, on, flags, _, err := l.conn.ReadMsgUnix(head[:], oob)
	if err != nil {
		return nil, nil, ended(err)
	}
	files, _, err := rights(oob[:on])
	// A descriptor that could not be installed is left out without a word of why
	// (scm_detach_fds in net/core/scm.c): there is no number left for it, or a
	// security module does not let it through. The message is whole.
	lost := flags&syscall.MSG_CTRUNC != 0 && len(files) == 0
	if err == nil && (flags&syscall.MSG_CTRUNC != 0 && !lost || len(files) > 1) {
		err = errors.New("more than one connection in a message")
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	var b []byte
	if err == nil {
		b, err = l.read(head, n)
	}
	if err != nil {
		closeAll(files)
		return nil, nil, err
	}
	switch {
	case lost:
		return b, nil, fmt.Errorf("%w: too many open files, or a security module forbids it", egress.ErrLost)
	case len(files) == 0:
		return b, nil, nil
	}
	c, err := connection(files[0])
	if err != nil && !errors.Is(err, egress.ErrLost) {
		b = nil
	}
	return b, c, err
}

// read takes the rest of a message of which n bytes of the length are there.
// Descriptors that were tied to it are dropped by the kernel.
func (l *link) read(head [4]byte, n int) ([]byte, error) {
	if _, err := io.ReadFull(l.conn, head[n:]); err != nil {
		return nil, ended(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > l.max {
		return nil, errors.New("message is too large")
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(l.conn, b); err != nil {
		return nil, ended(err)
	}
	return b, nil
}

// ended makes io.EOF of all the ways in which the other side can go.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return err
}

// Close ends the link for both sides.
func (l *link) Close() error { return l.conn.Close() }

// connection makes a connection of a descriptor that came over the link, if it
// is one over TCP. The descriptor is taken.
func connection(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close() // net.FileConn has one of its own
	for _, want := range []struct {
		option int
		values [2]int
	}{
		{unix.SO_DOMAIN, [2]int{unix.AF_INET, unix.AF_INET6}},
		{unix.SO_TYPE, [2]int{unix.SOCK_STREAM, unix.SOCK_STREAM}},
		{unix.SO_PROTOCOL, [2]int{unix.IPPROTO_TCP, unix.IPPROTO_TCP}},
		{unix.SO_ACCEPTCONN, [2]int{0, 0}},
	} {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, want.option)
		if err != nil || got != want.values[0] && got != want.values[1] {
			return nil, errors.New("a descriptor that is no TCP connection came over the link")
		}
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", egress.ErrLost, err)
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		return tcp, nil
	}
	c.Close()
	return nil, errors.New("a descriptor that is no TCP connection came over the link")
}
