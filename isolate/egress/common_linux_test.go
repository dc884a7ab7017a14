package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A world is a sandbox, the way out, the host and the internet in one process
// and two network namespaces: that of the sandbox, where the gate listens on
// every address, and outside, where the servers of a test are.
type world struct {
	testing.TB
	exit  *Exit
	gate  *Gate
	names *Names
	link  *memLink // the gate's end
	hosts map[string][]netip.Addr

	mu     sync.Mutex
	events []Event
	dials  []netip.AddrPort

	cancel context.CancelFunc
	served chan error
	ran    chan error
}

// ports are those on which the gate of a test listens.
var ports = []uint16{22, 80, 443, 9000}

// newWorld makes a world; change, if any, has a look before it starts. At its
// end nothing of it may be left.
func newWorld(t testing.TB, p *Policy, change func(*world)) *world {
	t.Helper()
	needWorld(t)
	checkLeaks(t)
	w := &world{TB: t, names: NewNames(100), hosts: map[string][]netip.Addr{}, served: make(chan error, 1), ran: make(chan error, 1)}
	var other *memLink
	w.link, other = linkPair()
	w.exit = &Exit{
		Policy: p,
		Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if a := w.hosts[name]; a != nil {
				return a, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		},
		Own: func() ([]netip.Prefix, error) { return []netip.Prefix{netip.MustParsePrefix("45.0.0.99/30")}, nil },
		Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			w.mu.Lock()
			w.dials = append(w.dials, a)
			w.mu.Unlock()
			return dialOutside(ctx, a.String())
		},
		DialHost: func(ctx context.Context, port uint16) (net.Conn, error) {
			return dialOutside(ctx, fmt.Sprintf("127.0.0.1:%d", port))
		},
		Tell: func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	}
	w.gate = &Gate{
		Link: w.link, names: w.names, Forward: map[uint16][]net.Listener{},
		Dial: func(port uint16) (net.Conn, error) { return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)) },
	}
	for _, port := range ports {
		w.gate.TCP = append(w.gate.TCP, w.listen(fmt.Sprintf("0.0.0.0:%d", port)), w.listen(fmt.Sprintf("[::]:%d", port)))
	}
	if change != nil {
		change(w)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() { w.served <- w.exit.Serve(ctx, other) }()
	go func() { w.ran <- w.gate.Run() }()
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	w.cancel()
	if err := within(w, "the exit's end", w.served); err != nil {
		w.Errorf("exit: %v", err)
	}
	if err := within(w, "the gate's end", w.ran); err != nil {
		w.Errorf("gate: %v", err)
	}
}

// within waits for a value; not for ever.
func within[T any](t testing.TB, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(20 * time.Second):
		buf := make([]byte, 1<<20)
		t.Fatalf("waited 20 s for %s\n%s", what, buf[:runtime.Stack(buf, true)])
	}
	return v
}

// listen listens inside until the test ends. IPv6 does not take IPv4's port along.
func (w *world) listen(address string) net.Listener {
	w.Helper()
	network := "tcp4"
	if address[0] == '[' {
		network = "tcp6"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { l.Close() })
	return l
}

func (w *world) listenOutside(address string) (l net.Listener) {
	w.Helper()
	outside(func() { l = w.listen(address) })
	return l
}

func dialOutside(ctx context.Context, address string) (c net.Conn, err error) {
	outside(func() { c, err = new(net.Dialer).DialContext(ctx, "tcp", address) })
	return c, err
}

// server serves connections to an address outside until the test ends.
func (w *world) server(address string, serve func(*net.TCPConn)) {
	w.Helper()
	serveOn(w.listenOutside(address), serve)
}

func serveOn(l net.Listener, serve func(*net.TCPConn)) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
}

// echo answers what it gets, and ends when the other side does.
func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
}

// host names addresses.
func (w *world) host(name string, addrs ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[name] = nil
	for _, a := range addrs {
		w.hosts[name] = append(w.hosts[name], netip.MustParseAddr(a))
	}
}

// to gives where a program connects to for a name.
func (w *world) to(name string, port uint16) string {
	w.Helper()
	v4, _, ok := w.names.Assign(name)
	if !ok {
		w.Fatalf("no address for %s", name)
	}
	return netip.AddrPortFrom(v4, port).String()
}

// dial connects as a program does.
func (w *world) dial(address string) *net.TCPConn {
	w.Helper()
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(15 * time.Second))
	return c.(*net.TCPConn)
}

// say sends a text and expects one back.
func (w *world) say(c net.Conn, text, want string) {
	w.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		w.Fatalf("say %q: %v", text, err)
	}
	w.hear(c, want)
}

func (w *world) hear(c net.Conn, want string) {
	w.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); string(b) != want {
		w.Fatalf("heard %q, %v; want %q", b[:n], err, want)
	}
}

// wantReset reads until the connection is reset.
func (w *world) wantReset(c net.Conn) {
	w.Helper()
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		w.Fatalf("read %d bytes, then %v; want a reset", n, err)
	}
}

// wantRefused connects as a program does and is reset, which may be before it
// has noticed that it was connected.
func (w *world) wantRefused(address string) {
	w.Helper()
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		w.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(15 * time.Second))
	w.wantReset(c)
}

// wantEnd reads to an orderly end.
func (w *world) wantEnd(c net.Conn) {
	w.Helper()
	if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
		w.Fatalf("read %d bytes, then %v; want an end", n, err)
	}
}

// event waits for an event that f accepts.
func (w *world) event(what string, f func(Event) bool) Event {
	w.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		w.mu.Lock()
		for _, e := range w.events {
			if f(e) {
				w.mu.Unlock()
				return e
			}
		}
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Fatalf("no event: %s; there are %+v", what, w.events)
	return Event{}
}

func (w *world) kind(kind string) Event {
	w.Helper()
	return w.event(kind, func(e Event) bool { return e.Kind == kind })
}

func (w *world) dialled() []netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]netip.AddrPort(nil), w.dials...)
}

// rules makes a policy of the mode "allow".
func rules(t testing.TB, allow ...string) *Policy {
	t.Helper()
	p := &Policy{Net: NetAllow}
	for _, text := range allow {
		r, err := ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		p.Allow = append(p.Allow, r)
	}
	return p
}
