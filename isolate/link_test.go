package isolate

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rcc/isolate/egress"
)

// linkPair is the exit's side of a link and the gate's, which may be hostile.
func linkPair(t *testing.T) (*link, *net.UnixConn) {
	t.Helper()
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	a, err := fileWire(ours)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fileWire(theirs)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	theirs.Close()
	t.Cleanup(func() { a.conn.Close(); b.conn.Close() })
	return newLink(a.conn, maxFromGate), b.conn
}

// tcpPair is a connection over loopback.
func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestLinkCarries(t *testing.T) {
	exit, conn := linkPair(t)
	gate := newLink(conn, maxToGate)
	client, server := tcpPair(t)
	if err := gate.Send([]byte("take"), server); err != nil {
		t.Fatal(err)
	}
	if server.RemoteAddr() == nil || server.Close() != nil {
		t.Error("the sender's own is gone")
	}
	b, c, err := exit.Receive()
	if err != nil || string(b) != "take" || c == nil {
		t.Fatalf("%q %v %v", b, c, err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != client.LocalAddr().String() {
		t.Errorf("the connection is of %s, want %s", c.RemoteAddr(), client.LocalAddr())
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "hello" {
		t.Errorf("%q %v", got, err)
	}
	// A long message one way, many senders the other.
	long := bytes.Repeat([]byte("x"), maxToGate)
	go exit.Send(long, nil)
	if b, _, err := gate.Receive(); err != nil || !bytes.Equal(b, long) {
		t.Errorf("a message of %d bytes came, %v", len(b), err)
	}
	var work sync.WaitGroup
	for range 20 {
		work.Go(func() { gate.Send([]byte(strings.Repeat("m", 5000)), nil) })
	}
	for range 20 {
		if b, _, err := exit.Receive(); err != nil || len(b) != 5000 {
			t.Errorf("a message of %d bytes came, %v", len(b), err)
		}
	}
	work.Wait()
	if err := exit.Send(make([]byte, maxToGate+1), nil); err == nil {
		t.Error("a message that is too large was sent")
	}
	gate.Close()
	if _, _, err := exit.Receive(); err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
	if err := exit.Send([]byte("x"), nil); err == nil {
		t.Error("a message was sent to nobody")
	}
}

// TestLinkAbuse: whatever a gate sends, the exit gets TCP connections and
// nothing else, and keeps no descriptor.
func TestLinkAbuse(t *testing.T) {
	client, _ := tcpPair(t)
	raw, err := client.File()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	tcp := int(raw.Fd())
	other := func(fd int, err error) int {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	udp := other(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	local := other(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	netlink := other(unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0))
	idle := other(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	listener := other(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	if err := unix.Listen(listener, 1); err != nil {
		t.Fatal(err)
	}
	file := other(unix.Open("/etc/passwd", unix.O_RDONLY, 0))
	folder := other(unix.Open("/", unix.O_PATH, 0))
	stream := idle // where the kernel has no other stream of its own
	for _, protocol := range []int{unix.IPPROTO_MPTCP, unix.IPPROTO_SCTP} {
		if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, protocol); err == nil {
			stream = other(fd, nil)
		}
	}
	many := make([]int, 200)
	for i := range many {
		many[i] = tcp
	}
	for _, tc := range []struct {
		name string
		head string
		fds  []int
		ok   bool
	}{
		{"a connection", "\x00\x00\x00\x01x", []int{tcp}, true},
		{"none", "\x00\x00\x00\x01x", nil, true},
		{"empty", "\x00\x00\x00\x00", nil, true},
		{"two connections", "\x00\x00\x00\x01x", []int{tcp, tcp}, false},
		{"three", "\x00\x00\x00\x01x", []int{tcp, tcp, tcp}, false},
		{"200", "\x00\x00\x00\x01x", many, false},
		{"UDP", "\x00\x00\x00\x01x", []int{udp}, false},
		{"a local socket", "\x00\x00\x00\x01x", []int{local}, false},
		{"netlink", "\x00\x00\x00\x01x", []int{netlink}, false},
		{"one that was reset", "\x00\x00\x00\x01x", []int{idle}, true}, // by then it looks so
		{"a stream of another protocol", "\x00\x00\x00\x01x", []int{stream}, stream == idle},
		{"a listener", "\x00\x00\x00\x01x", []int{listener}, false},
		{"a file", "\x00\x00\x00\x01x", []int{file}, false},
		{"a folder", "\x00\x00\x00\x01x", []int{folder}, false},
		{"too long", "\x00\x01\x00\x01x", nil, false},
		{"far too long, with a connection", "\xff\xff\xff\xffx", []int{tcp}, false},
		{"cut off", "\x00\x00\x00\x09x", []int{tcp}, false},
		{"half a length", "\x00\x00", []int{tcp}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			exit, gate := linkPair(t)
			before := openFiles(t)
			var oob []byte
			if tc.fds != nil {
				oob = unix.UnixRights(tc.fds...)
			}
			if _, _, err := gate.WriteMsgUnix([]byte(tc.head), oob, nil); err != nil {
				t.Fatal(err)
			}
			gate.CloseWrite()
			_, c, err := exit.Receive()
			if (err == nil) != tc.ok {
				t.Errorf("got %v, want ok %v", err, tc.ok)
			}
			if (c != nil) != (tc.ok && len(tc.fds) > 0) {
				t.Errorf("connection %v", c)
			}
			if c != nil {
				c.Close()
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
	t.Run("tied to the bytes", func(t *testing.T) {
		exit, gate := linkPair(t)
		before := openFiles(t)
		gate.Write([]byte("\x00\x00\x00\x02"))
		gate.WriteMsgUnix([]byte("xy"), unix.UnixRights(tcp, file), nil)
		if b, c, err := exit.Receive(); string(b) != "xy" || c != nil || err != nil {
			t.Errorf("%q %v %v", b, c, err)
		}
		if after := openFiles(t); after != before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

// TestLinkWithoutDescriptors: a connection for which there is no descriptor is
// lost, and nothing else: not its message, not the next one, not the link.
func TestLinkWithoutDescriptors(t *testing.T) {
	for free, what := range map[int]string{0: "none is left", 1: "one is left"} { // net.FileConn needs a second
		t.Run(what, func(t *testing.T) {
			exit, conn := linkPair(t)
			gate := newLink(conn, maxToGate)
			client, server := tcpPair(t)
			for _, b := range []string{"first", "second", "third"} {
				if err := gate.Send([]byte(b), server); err != nil {
					t.Fatal(err)
				}
			}
			before := openFiles(t)
			fill := exhaust(t, before+50)
			for _, fd := range fill[:free] {
				unix.Close(fd)
			}
			b, c, err := exit.Receive()
			b2, c2, err2 := exit.Receive()
			closeAll(fill[free:])
			if string(b) != "first" || string(b2) != "second" || c != nil || c2 != nil || !errors.Is(err, egress.ErrLost) || !errors.Is(err2, egress.ErrLost) {
				t.Errorf("%q %v %v, %q %v %v", b, c, err, b2, c2, err2)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
			b, c, err = exit.Receive()
			if string(b) != "third" || c == nil || err != nil {
				t.Fatalf("%q %v %v", b, c, err)
			}
			defer c.Close()
			io.WriteString(c, "x")
			if n, err := client.Read(make([]byte, 1)); n != 1 {
				t.Error(err)
			}
		})
	}
}

// exhaust leaves this process no descriptor, and gives those that it took.
func exhaust(t *testing.T, limit int) (fill []int) {
	t.Helper()
	limitFiles(t, uint64(limit))
	for range limit {
		fd, err := unix.Dup(2)
		if errors.Is(err, unix.EMFILE) {
			return fill
		}
		if err != nil {
			t.Fatal(err)
		}
		fill = append(fill, fd)
	}
	t.Fatal("there is no end to them")
	return nil
}

// TestLinkCloses: Close ends a Receive and a Send that wait.
func TestLinkCloses(t *testing.T) {
	exit, _ := linkPair(t)
	done := make(chan error, 2)
	go func() { _, _, err := exit.Receive(); done <- err }()
	go func() {
		for {
			if err := exit.Send(make([]byte, 1<<20), nil); err != nil {
				done <- err
				return
			}
		}
	}()
	time.Sleep(20 * time.Millisecond)
	exit.Close()
	for range 2 {
		select {
		case err := <-done:
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("it waits on")
		}
	}
}
