package egress

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// loadWorld has a name that answers on ports 80 and 9000.
func loadWorld(t testing.TB, change func(*world)) *world {
	w := newWorld(t, rules(t, "one.example.org"), change)
	w.host("one.example.org", "45.0.0.1")
	w.server("45.0.0.1:80", echo)
	w.server("45.0.0.1:9000", echo)
	return w
}

// 10,000 connections, one after the other.
func TestLoadMany(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 500
	}
	w := loadWorld(t, nil)
	to, text := w.to("one.example.org", 80), request("one.example.org")
	for range n {
		c, err := net.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		w.say(c, text, text)
		c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: the ports would run out
		c.Close()
	}
}

// 1,000 connections at once, all open until the last one is.
func TestLoadAtOnce(t *testing.T) {
	const n = 1000
	var have syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &have); err != nil || have.Cur < 16_000 {
		t.Skipf("this machine lets a program open %d files, and this test needs 16000", have.Cur)
	}
	w := loadWorld(t, nil)
	to, text := w.to("one.example.org", 9000), "hello\n"
	var open, wg sync.WaitGroup
	open.Add(n)
	for range n {
		wg.Go(func() {
			c, err := net.DialTimeout("tcp", to, 10*time.Second)
			if err != nil {
				t.Error(err)
				open.Done()
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			b := make([]byte, len(text))
			io.WriteString(c, text)
			if _, err := io.ReadFull(c, b); err != nil {
				t.Error(err)
			}
			open.Done()
			open.Wait()
		})
	}
	wg.Wait()
}

// More flows than the limit: the newest waits, and is reset and told by its name if
// that is in vain.
func TestLoadLimit(t *testing.T) {
	w := loadWorld(t, func(w *world) { w.exit.Flows = 3 })
	to := w.to("one.example.org", 9000)
	var held []*net.TCPConn
	for range 3 {
		c := w.dial(to)
		w.say(c, "x\n", "x\n")
		held = append(held, c)
	}
	began := time.Now()
	w.wantRefused(to)
	if took := time.Since(began); took < slotWait {
		t.Errorf("refused after %s", took)
	}
	if e := w.kind(KindFailed); e.Text != "3 flows are open already" || e.Name != "one.example.org" || e.Port != 9000 || e.Rule != "" {
		t.Errorf("event %+v", e)
	}
	next := w.dial(to)
	time.Sleep(50 * time.Millisecond)
	held[0].Close()
	w.say(next, "x\n", "x\n")
	w.say(held[1], "x\n", "x\n")
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.IndexFunc(w.events, func(e Event) bool { return e.Kind == KindDenied }); i >= 0 {
		t.Errorf("event %+v", w.events[i])
	}
}

// As many as there are slots wait; one more is reset at once.
func TestLoadCrowd(t *testing.T) {
	w := loadWorld(t, func(w *world) { w.exit.Flows = 1 })
	to := w.to("one.example.org", 9000)
	held := w.dial(to)
	w.say(held, "x\n", "x\n")
	waits := w.dial(to)
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	w.wantRefused(to)
	if took := time.Since(began); took > slotWait/2 {
		t.Errorf("refused after %s", took)
	}
	w.wantReset(waits)
	w.say(held, "y\n", "y\n")
}

// Where it is descriptors that are too few, that is told with what to do.
func TestLoadFewFiles(t *testing.T) {
	w := loadWorld(t, func(w *world) { w.exit.Flows = 1 << 22 })
	w.dial(w.to("one.example.org", 9000)).Close()
	w.kind(KindFlow)
	if err := w.exit.serving.Load().fullError(); !strings.HasSuffix(err.Error(), "raise ulimit -n") {
		t.Error(err)
	}
}

// Clients that send nothing, or half a head, or one byte at a time, disturb
// nobody; beyond the limit the newest is reset.
func TestLoadSlow(t *testing.T) {
	w := loadWorld(t, func(w *world) { w.exit.Heads = 60 })
	to, text := w.to("one.example.org", 80), request("one.example.org")
	slow := w.dial(to)
	for i := range 58 {
		c := w.dial(to)
		io.WriteString(c, text[:i%len(text)])
	}
	for i := range text {
		io.WriteString(slow, text[i:i+1])
		if i%8 == 0 {
			w.say(w.dial(to), text, text)
		}
	}
	w.hear(slow, text)
	time.Sleep(50 * time.Millisecond)
	for range 2 {
		w.dial(to)
	}
	time.Sleep(50 * time.Millisecond)
	w.wantRefused(to)
	w.event("the limit", func(e Event) bool { return e.Kind == KindFailed && e.Text == "60 connections are waiting already" })
}

// A program that does not read stops its own flow, and no other.
func TestLoadStuck(t *testing.T) {
	w := loadWorld(t, nil)
	to := w.to("one.example.org", 9000)
	stuck := w.dial(to)
	stuck.SetDeadline(time.Now().Add(500 * time.Millisecond))
	n, err := io.CopyN(stuck, zero{}, 1<<30)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("sent %d bytes, %v; want to be stuck", n, err)
	}
	w.say(w.dial(to), "x\n", "x\n")
}

// A listener that fails for a while is asked again, without haste.
func TestAcceptFails(t *testing.T) {
	var fails *failing
	w := loadWorld(t, func(w *world) {
		fails = &failing{Listener: w.gate.TCP[0]}
		for i, l := range w.gate.TCP {
			if l.Addr().(*net.TCPAddr).Port == 9000 && l.Addr().(*net.TCPAddr).IP.To4() != nil {
				fails.Listener = l
				w.gate.TCP[i] = fails
			}
		}
	})
	w.say(w.dial(w.to("one.example.org", 9000)), "x\n", "x\n")
	if n := fails.n.Load(); n < 5 || n > 7 {
		t.Errorf("accept was called %d times", n)
	}
}

type failing struct {
	net.Listener
	n atomic.Int32
}

func (f *failing) Accept() (net.Conn, error) {
	if f.n.Add(1) <= 5 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

// How long a flow takes to stand, and one message there and back.
func BenchmarkConnect(b *testing.B) {
	w := loadWorld(b, nil)
	to, text := w.to("one.example.org", 80), request("one.example.org")
	buf := make([]byte, len(text))
	for b.Loop() {
		c, err := net.Dial("tcp", to)
		if err != nil {
			b.Fatal(err)
		}
		io.WriteString(c, text)
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	w := loadWorld(b, nil)
	c, err := net.Dial("tcp", w.to("one.example.org", 9000))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	w.say(c, "hello\n", "hello\n")
	buf := make([]byte, 1)
	for b.Loop() {
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// To 45.0.0.1 there is a name; this is the same without the way out.
func BenchmarkConnectBare(b *testing.B) {
	w := loadWorld(b, nil)
	text := request("one.example.org")
	buf := make([]byte, len(text))
	for b.Loop() {
		c, err := dialOutside(b.Context(), "45.0.0.1:80")
		if err != nil {
			b.Fatal(err)
		}
		io.WriteString(c, text)
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	_ = w
}

// The tally: first at once, then counts, each for itself up to a bound.
func TestTally(t *testing.T) {
	var told []Event
	y := tally{tell: func(e Event) { told = append(told, e) }}
	a := Event{Kind: KindDenied, Name: "a", Program: Program{PID: 1}}
	b := Event{Kind: KindDenied, Name: "a", Program: Program{PID: 2}}
	y.add(a)
	y.add(b)
	y.add(a)
	y.add(a)
	if !y.repeat(Event{Kind: KindDenied, Name: "a"}, 3) || y.repeat(Event{Kind: KindDenied, Name: "b"}, 3) {
		t.Error("repeats of a are not known, or those of b are")
	}
	y.flush()
	want := "a/1 1, a/2 1, a/1 5, "
	if got := short(told); got != want {
		t.Errorf("told %s; want %s", got, want)
	}
	told = nil
	y.flush()
	y.flush()
	y.add(a)
	if got := short(told); got != "a/1 1, " {
		t.Errorf("after a quiet time told %s", got)
	}
	told = nil
	for i := range maxTally + 10 {
		y.add(Event{Kind: KindDenied, Name: "n", Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})})
	}
	y.more(5)
	if len(told) != maxTally-1 {
		t.Errorf("told %d", len(told))
	}
	told = nil
	y.flush()
	if got := short(told); got != "/0 16, " {
		t.Errorf("told %s", got)
	}
}

func short(events []Event) (s string) {
	for _, e := range events {
		s += fmt.Sprintf("%s/%d %d, ", e.Name, e.Program.PID, e.Count)
	}
	return s
}
