package egress

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func request(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }

// A flow to a name arrives at its address, over IPv4 and IPv6, and is told.
func TestFlow(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org"), nil)
	w.host("one.example.org", "45.0.0.1")
	w.server("45.0.0.1:80", echo)
	_, v6, _ := w.names.Assign("one.example.org")
	for _, to := range []string{w.to("one.example.org", 80), netip.AddrPortFrom(v6, 80).String()} {
		c := w.dial(to)
		w.say(c, request("one.example.org"), request("one.example.org"))
		c.CloseWrite()
		w.wantEnd(c)
		e := w.kind(KindFlow)
		size := int64(len(request("one.example.org")))
		if e.Name != "one.example.org" || e.Addr.String() != "45.0.0.1" || e.Port != 80 || e.Sent != size || e.Received != size || e.Text != "" || e.Count != 1 || e.Time <= 0 {
			t.Errorf("event %+v", e)
		}
		w.mu.Lock()
		w.events = nil
		w.mu.Unlock()
	}
}

// Where the server may speak first it does; the client's bytes wait for the gate.
func TestFlowServerFirst(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org", "45.0.0.2:9000"), nil)
	w.host("one.example.org", "45.0.0.1")
	greet := func(c *net.TCPConn) {
		io.WriteString(c, "hello\n")
		echo(c)
	}
	w.server("45.0.0.1:22", greet)
	w.server("45.0.0.2:9000", greet)
	for _, to := range []string{w.to("one.example.org", 22), "45.0.0.2:9000"} {
		c := w.dial(to)
		w.hear(c, "hello\n")
		w.say(c, "SSH-2.0-x\r\n", "SSH-2.0-x\r\n")
		w.say(c, "more\n", "more\n")
		c.CloseWrite()
		w.wantEnd(c)
	}
}

// Each side can end its half and still hear the other.
func TestFlowHalfClose(t *testing.T) {
	w := newWorld(t, rules(t, "45.0.0.1", "45.0.0.2"), nil)
	w.server("45.0.0.1:9000", func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		c.Write(b)
	})
	w.server("45.0.0.2:9000", func(c *net.TCPConn) {
		io.WriteString(c, "bye")
		c.CloseWrite()
		b, err := io.ReadAll(c)
		if string(b) != "later" || err != nil {
			t.Errorf("after its own end the server heard %q, %v", b, err)
		}
	})
	c := w.dial("45.0.0.1:9000")
	io.WriteString(c, "all of it")
	c.CloseWrite()
	w.hear(c, "all of it")
	w.wantEnd(c)

	c = w.dial("45.0.0.2:9000")
	w.hear(c, "bye")
	w.wantEnd(c)
	io.WriteString(c, "later")
	c.Close()
	w.event("the second flow's end", func(e Event) bool { return e.Received == 3 && e.Sent == 5 && e.Text == "" })

	// A client that ends without a word has said everything.
	c = w.dial("45.0.0.1:9000")
	c.CloseWrite()
	w.wantEnd(c)
}

// A reset by one side is a reset for the other.
func TestFlowReset(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org", "45.0.0.1"), nil)
	w.host("one.example.org", "45.0.0.1")
	got := make(chan error, 1)
	w.server("45.0.0.1:9000", func(c *net.TCPConn) {
		io.WriteString(c, "x")
		_, err := io.Copy(io.Discard, c)
		got <- err
	})
	w.server("45.0.0.1:22", func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		c.SetLinger(0)
	})
	for _, to := range []string{"45.0.0.1:9000", w.to("one.example.org", 9000)} {
		for _, first := range []string{"", "GET /", "said\n"} { // nothing, a part of a head, a whole one
			c := w.dial(to)
			w.say(c, first, "x")
			c.SetLinger(0)
			c.Close()
			if err := within(t, "the server's end", got); !isReset(err) {
				t.Errorf("the program reset its side of %s after %q, the server got %v", to, first, err)
			}
		}
	}
	c := w.dial("45.0.0.1:22")
	io.WriteString(c, "x")
	w.wantReset(c)
	w.event("reset by the server", func(e Event) bool { return e.Text == "reset by the server" })
	w.event("reset by the program", func(e Event) bool { return e.Text == "reset by the program" })
}

func isReset(err error) bool { return err != nil && strings.Contains(err.Error(), "reset by peer") }

// What a server said before it went is heard, though the program still sends.
func TestFlowEarlyAnswer(t *testing.T) {
	w := newWorld(t, rules(t, "45.0.0.1"), nil)
	w.server("45.0.0.1:9000", func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 10))
		io.WriteString(c, "too long")
		c.CloseWrite()
		time.Sleep(50 * time.Millisecond) // then closes with bytes unread: a reset
	})
	c := w.dial("45.0.0.1:9000")
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.CopyN(c, zero{}, 64<<20)
	}()
	w.hear(c, "too long")
	within(t, "the sender's end", sent)
}

// A side that cannot be written to is read from until it ends, and then the flow
// is reset; one that cannot be read from resets it at once.
func TestFlowEnds(t *testing.T) {
	w := newWorld(t, rules(t), nil)
	for _, tt := range []struct {
		what string
		ends []error
		open []bool // after each of them
	}{
		{"in order", []error{nil, nil}, []bool{true, true}}, // run closes it
		{"write, then end", []error{writeError{syscall.EPIPE}, nil}, []bool{true, false}},
		{"end, then write", []error{nil, writeError{syscall.EPIPE}}, []bool{true, false}},
		{"stuck write", []error{writeError{syscall.ETIMEDOUT}}, []bool{false}},
		{"read", []error{syscall.ECONNRESET}, []bool{false}},
	} {
		_, program := w.pair("127.0.0.1:7001")
		_, world := w.pair("127.0.0.1:7002")
		f := newFlow(program, world, time.Hour)
		f.timer = time.AfterFunc(f.idle, f.watch)
		for i, err := range tt.ends {
			f.ended(err)
			for _, c := range []*net.TCPConn{program, world} {
				if open := c.SetNoDelay(true) == nil; open != tt.open[i] {
					t.Errorf("%s: after end %d open is %t", tt.what, i+1, open)
				}
			}
		}
		f.timer.Stop()
	}
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { return len(b), nil }

// Nothing flows and nobody ends it.
func TestFlowIdle(t *testing.T) {
	w := newWorld(t, rules(t, "45.0.0.1"), func(w *world) { w.exit.Idle = 300 * time.Millisecond })
	w.server("45.0.0.1:9000", echo)
	quiet, busy, silent := w.dial("45.0.0.1:9000"), w.dial("45.0.0.1:9000"), w.dial("45.0.0.1:9000")
	w.say(quiet, "x\n", "x\n")
	for range 10 {
		w.say(busy, "x\n", "x\n")
		time.Sleep(60 * time.Millisecond)
	}
	w.wantReset(quiet)
	w.wantReset(silent)
	w.say(busy, "still\n", "still\n")
	w.event("idle", func(e Event) bool { return e.Text == "idle for 300ms" })
}

// splice(2) does not pass an urgent mark; the flow does.
func TestFlowUrgent(t *testing.T) {
	w := newWorld(t, rules(t, "45.0.0.1"), nil)
	w.server("45.0.0.1:9000", echo)
	c := w.dial("45.0.0.1:9000")
	w.say(c, "before\n", "before\n")
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) })
	if err != nil {
		t.Fatal(err)
	}
	w.say(c, "after\n", "after\n")
	w.say(c, "again\n", "again\n")
}

// A gigabyte passes, and not through this process: what it reads and writes is
// what the two ends of the test do.
func TestFlowBulk(t *testing.T) {
	const size = 1 << 30
	w := newWorld(t, rules(t, "45.0.0.1"), nil)
	got := make(chan int64, 1)
	w.server("45.0.0.1:9000", func(c *net.TCPConn) {
		n, _ := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c})
		got <- n
	})
	c := w.dial("45.0.0.1:9000")
	before, began := readByCalls(t), time.Now()
	buf := make([]byte, 256<<10)
	for range size / len(buf) {
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	c.CloseWrite()
	if n := within(t, "the server's count", got); n != size {
		t.Fatalf("%d bytes arrived of %d", n, size)
	}
	t.Logf("%.1f GB/s", 1/time.Since(began).Seconds())
	if through := readByCalls(t) - before - size; through > size/16 {
		t.Errorf("%d bytes were read by this process beside those of the server", through)
	}
	if e := w.kind(KindFlow); e.Sent != size {
		t.Errorf("event %+v", e)
	}
}

// readByCalls is how many bytes this process has read by read(2), which
// splice(2) is not counted in (proc_pid_io(5), rchar).
func readByCalls(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "rchar: "); ok {
			for _, c := range strings.TrimSpace(v) {
				n = n*10 + int64(c-'0')
			}
		}
	}
	return n
}

// Waiting costs no time of the processor: for a head that does not come, for
// the rest of one, for a server that says nothing.
func TestFlowQuiet(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org", "45.0.0.1"), nil)
	w.host("one.example.org", "45.0.0.1")
	w.server("45.0.0.1:9000", echo)
	var open int
	for range 30 {
		w.dial(w.to("one.example.org", 80))
		c := w.dial(w.to("one.example.org", 80))
		io.WriteString(c, "GET / HTTP/1.1\r\nHos")
		c = w.dial(w.to("one.example.org", 9000))
		io.WriteString(c, "GET / HTTP/1.1\r\nHos")
		w.dial(w.to("one.example.org", 9000))
		c = w.dial("45.0.0.1:9000")
		w.say(c, "x\n", "x\n")
		open += 5
	}
	time.Sleep(200 * time.Millisecond)
	before := cpu(t)
	time.Sleep(time.Second)
	if used := cpu(t) - before; used > 100*time.Millisecond {
		t.Errorf("%d waiting connections took %s of a second", open, used)
	}
}

func cpu(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
