package egress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// newHostile makes a world whose gate is the test itself: it speaks by w.link.
func newHostile(t *testing.T, p *Policy, change func(*world)) *world {
	w := newWorld(t, p, func(w *world) {
		var gate *memLink
		gate, w.gate.Link = linkPair() // the real one has nobody to talk to
		t.Cleanup(func() { gate.Close() })
		if change != nil {
			change(w)
		}
		for _, l := range w.gate.TCP {
			l.Close()
		}
		go func() { w.ran <- nil }()
	})
	if m := w.receive(); m.Kind != msgPolicy {
		t.Fatalf("first came %q", m.Kind)
	}
	return w
}

func (w *world) send(m message, c net.Conn) {
	w.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		w.Fatal(err)
	}
	if err := w.link.Send(b, c); err != nil {
		w.Fatal(err)
	}
}

func (w *world) receive() (m message) {
	w.Helper()
	got := make(chan []byte, 1)
	go func() {
		b, _, _ := w.link.Receive()
		got <- b
	}()
	if err := json.Unmarshal(within(w, "a message", got), &m); err != nil {
		w.Fatal(err)
	}
	return m
}

// pair makes a connection of the sandbox that was meant for an address: the
// program's end and the gate's.
func (w *world) pair(dest string) (program, gate *net.TCPConn) {
	w.Helper()
	l := w.listen(dest)
	defer l.Close()
	program = w.dial(dest)
	c, err := l.Accept()
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	return program, c.(*net.TCPConn)
}

// open passes a connection for dest to the exit, with m, and keeps nothing of it.
func (w *world) open(m message, dest string) *net.TCPConn {
	w.Helper()
	program, gate := w.pair(dest)
	w.send(m, gate)
	gate.Close()
	return program
}

// Whatever the gate claims, the exit does what the policy says, and goes on.
func TestHostileOpen(t *testing.T) {
	const good = "one.example.org"
	for _, tt := range []struct {
		what string
		m    message
		dest string // "": the name's own
	}{
		{"a name that is not allowed", message{Kind: msgOpen, ID: 1, Name: "two.example.org", Checked: true}, ""},
		{"a port that is not allowed", message{Kind: msgOpen, ID: 1, Name: good, Checked: true}, "198.18.0.77:25"},
		{"an odd spelling", message{Kind: msgOpen, ID: 1, Name: "ONE.example.org.", Checked: true}, ""},
		{"an address as a name", message{Kind: msgOpen, ID: 1, Name: "127.0.0.1", Checked: true}, ""},
		{"an empty name", message{Kind: msgOpen, ID: 1, Checked: true}, ""},
		{"a name for an address", message{Kind: msgOpen, ID: 1, Name: good, Checked: true}, "45.0.0.9:80"},
		{"an address that is not allowed", message{Kind: msgOpen, ID: 1, Checked: true}, "45.0.0.9:80"},
		{"a loopback address", message{Kind: msgOpen, ID: 1, Checked: true}, "127.0.0.1:80"},
		{"unlooked at", message{Kind: msgOpen, ID: 1, Name: good}, ""},
		{"no id", message{Kind: msgOpen, Name: good}, ""},
		{"a forward that is none", message{Kind: msgForward, ID: 1}, "127.0.0.1:80"},
		{"a forward of another port", message{Kind: msgForward, ID: 1}, "127.0.0.1:81"},
		{"a forward from elsewhere", message{Kind: msgForward, ID: 1}, "45.0.0.9:5432"},
		{"an answer without a question", message{Kind: msgReached, ID: 1}, ""},
		{"a connection with a denial", message{Kind: msgDenied, ID: 1, Proto: "tcp"}, ""},
		{"a kind that there is not", message{Kind: "sesame", ID: 1}, ""},
		{"a policy", message{Kind: msgPolicy, Policy: &Policy{Net: NetPublic}}, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			p := rules(t, good+":80", good+":9000")
			p.Forward = []uint16{5432}
			w := newHostile(t, p, nil)
			w.host(good, "45.0.0.1")
			for _, other := range []string{"two.example.org", "ONE.example.org.", "127.0.0.1"} {
				w.host(other, "45.0.0.2")
			}
			var reached atomic.Int32
			for _, at := range []string{"127.0.0.1:80", "127.0.0.1:81", "127.0.0.1:5432", "45.0.0.2:80", "45.0.0.9:80", "45.0.0.1:25"} {
				w.server(at, func(*net.TCPConn) { reached.Add(1) })
			}
			w.server("45.0.0.1:80", echo)
			if tt.dest == "" {
				tt.dest = w.to(good, 80)
			}
			c := w.open(tt.m, tt.dest)
			if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection: %v", err)
			}
			if d := w.dialled(); len(d) != 0 || reached.Load() != 0 {
				t.Errorf("dialled %v, %d came through", d, reached.Load())
			}
			// The control: what is allowed, said rightly, works, and still does.
			c = w.open(message{Kind: msgOpen, ID: 2, Name: good, Checked: true}, w.to(good, 80))
			w.say(c, "x\n", "x\n")
		})
	}
}

// Words about flows that the gate does not have, or had, change nothing.
func TestHostileHead(t *testing.T) {
	w := newHostile(t, rules(t, "45.0.0.1"), nil)
	w.server("45.0.0.1:9000", echo)
	yes, no := &Verdict{OK: true}, &Verdict{Rule: "no"}
	w.send(message{Kind: msgHead, ID: 1, Verdict: yes}, nil) // before the flow: not kept
	first := w.open(message{Kind: msgOpen, ID: 1}, "45.0.0.1:9000")
	second := w.open(message{Kind: msgOpen, ID: 1}, "45.0.0.1:9000")
	w.wantReset(second) // one flow for each id
	io.WriteString(first, "x")
	first.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := first.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d, %v before the head was seen", n, err)
	}
	first.SetDeadline(time.Now().Add(10 * time.Second))
	w.send(message{Kind: msgHead, ID: 1, Verdict: yes}, nil)
	w.hear(first, "x")
	w.send(message{Kind: msgHead, ID: 1, Verdict: no}, nil) // a second word
	w.send(message{Kind: msgHead, ID: 9, Verdict: no}, nil)
	w.say(first, "y\n", "y\n")

	third := w.open(message{Kind: msgOpen, ID: 3}, "45.0.0.1:9000")
	w.send(message{Kind: msgHead, ID: 3}, nil) // no verdict is a no
	w.wantReset(third)
}

// A connection that could not be taken over is the only one that ends by it.
func TestLostConnections(t *testing.T) {
	p := rules(t, "one.example.org", "45.0.0.1")
	p.Forward = []uint16{5432}
	var published net.Listener
	w := newHostile(t, p, func(w *world) {
		published = w.listenOutside("127.0.0.1:0")
		w.exit.Published = []Published{{published, 3000}}
	})
	w.server("45.0.0.1:9000", echo)
	before := w.open(message{Kind: msgOpen, ID: 1, Checked: true}, "45.0.0.1:9000")
	w.say(before, "x\n", "x\n")
	lost := func(m message) { w.send(m, lostConn{}) }
	lost(message{Kind: msgOpen, ID: 2, Name: "one.example.org", Checked: true})
	w.event("a failure of a name", func(e Event) bool {
		return e.Kind == KindFailed && e.Name == "one.example.org" && e.Text == "too many open files"
	})
	lost(message{Kind: msgOpen, ID: 3, Dest: "45.0.0.1:9001"})
	w.event("a failure of an address", func(e Event) bool {
		return e.Kind == KindFailed && e.Addr == netip.MustParseAddr("45.0.0.1") && e.Port == 9001 && e.Text == "too many open files"
	})
	if m := w.receive(); m.Kind != msgEnd || m.ID != 3 { // or the gate would hold it for ever
		t.Errorf("answered by %+v", m)
	}
	caller, err := dialOutside(t.Context(), published.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	lost(message{Kind: msgReached, ID: w.receive().ID})
	w.wantReset(caller)
	w.event("a failure of the published port", func(e Event) bool { return e.Kind == KindFailed && e.Port == 3000 && e.Text == "too many open files" })
	for _, kind := range []string{msgForward, msgHead, msgDenied, "sesame"} {
		lost(message{Kind: kind, ID: 9})
	}
	w.say(before, "y\n", "y\n")
	after := w.open(message{Kind: msgOpen, ID: 4, Checked: true}, "45.0.0.1:9000")
	w.say(after, "x\n", "x\n")
}

// What a denial claims becomes an event of bounded size, and a mend that is a rule.
func TestHostileDenied(t *testing.T) {
	long := strings.Repeat("ä", 5000)
	for _, tt := range []struct {
		what       string
		m          message
		rule, mend string
	}{
		{"a head", message{Proto: "tcp", Name: "one.example.org", Dest: "198.18.0.9:443", Verdict: &Verdict{Rule: "r", Mend: "Two.Example.org:443"}}, "r", "two.example.org:443"},
		{"a wide mend", message{Proto: "tcp", Name: "one.example.org", Dest: "198.18.0.9:443", Verdict: &Verdict{Rule: "r", Mend: "*.example.org"}}, "r", ""},
		{"an address", message{Proto: "udp", Dest: "45.0.0.9:443", Verdict: &Verdict{Rule: "r", Mend: "10.0.0.1:443"}}, "r", "10.0.0.1:443"},
		{"a range", message{Proto: "udp", Dest: "45.0.0.9:443", Verdict: &Verdict{Rule: "r", Mend: "10.0.0.0/8"}}, "r", ""},
		{"a metadata service", message{Proto: "udp", Dest: "45.0.0.9:443", Verdict: &Verdict{Rule: "r", Mend: "169.254.169.254:80"}}, "r", ""},
		{"another form of one", message{Proto: "udp", Dest: "45.0.0.9:443", Verdict: &Verdict{Rule: "r", Mend: "[64:ff9b::a9fe:a9fe]:80"}}, "r", ""},
		{"no rule", message{Proto: "tcp", Name: "one.example.org", Dest: "198.18.0.9:443", Verdict: &Verdict{Rule: "r", Mend: "x\"\n]\nnet = \"public\""}}, "r", ""},
		{"its own words", message{Proto: "dns", Name: "two.example.org", Verdict: &Verdict{Rule: "because", Mend: "three.example.org"}}, "it is not in the allow list", "two.example.org:443"},
		{"no addresses", message{Proto: "udp", Client: "x", Dest: long, Verdict: &Verdict{Rule: "r"}}, "r", ""},
		{"no verdict", message{Proto: "udp"}, "", ""},
		{"long", message{Proto: "udp" + long, Name: long, Verdict: &Verdict{Rule: long, Mend: long}}, long[:maxText], ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			w := newHostile(t, rules(t, "one.example.org"), nil)
			tt.m.Kind, tt.m.ID = msgDenied, 7
			w.send(tt.m, nil)
			if m := w.receive(); m.Kind != msgAck || m.ID != 7 {
				t.Errorf("answered by %+v", m)
			}
			e := w.kind(KindDenied)
			if e.Rule != tt.rule || e.Mend != tt.mend || len(e.Name) > maxText || len(e.Proto) > 16 {
				t.Errorf("event %+v; want rule %q, mend %q", e, tt.rule, tt.mend)
			}
		})
	}
}

// What is not a message ends the link, with every flow.
func TestHostileMessages(t *testing.T) {
	for _, tt := range []struct{ what, text, want string }{
		{"empty", "", "unexpected EOF"},
		{"not JSON", "hello", "invalid character"},
		{"a field too many", `{"kind":"head","root":true}`, "unknown field"},
		{"more behind it", `{"kind":"head"}{"kind":"head"}`, "more behind its end"},
		{"a number too big", `{"kind":"open","id":99999999999999999999}`, "cannot unmarshal"},
		{"too long", `{"kind":"head","name":"` + strings.Repeat("x", maxMessage) + `"}`, "at most 65536"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			w := newHostile(t, rules(t, "45.0.0.1"), nil)
			w.server("45.0.0.1:9000", echo)
			c := w.open(message{Kind: msgOpen, ID: 1, Checked: true}, "45.0.0.1:9000")
			w.say(c, "x\n", "x\n")
			if err := w.link.Send([]byte(tt.text), nil); err != nil {
				t.Fatal(err)
			}
			if err := within(t, "the exit's end", w.served); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Serve: %v; want %q", err, tt.want)
			}
			w.served <- nil
			w.wantReset(c)
			w.kind(KindGate)
		})
	}
}

// A gate that floods waits; questions beyond the limit are answered at once.
func TestHostileFlood(t *testing.T) {
	var looking, most atomic.Int32
	p := &Policy{Net: NetPublic}
	w := newHostile(t, p, func(w *world) {
		w.exit.Lookups = 4
		w.exit.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
			if name == "six.example.org" {
				return []netip.Addr{netip.MustParseAddr("2600::1")}, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		w.exit.Who = func(string, netip.AddrPort, netip.AddrPort) Program {
			n := looking.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Millisecond)
			looking.Add(-1)
			return Program{}
		}
	})
	for i := range 10 {
		w.send(message{Kind: msgExists, ID: uint64(i + 1), Name: fmt.Sprintf("n%d.example.org", i)}, nil)
	}
	for range 6 {
		if m := w.receive(); m.Kind != msgKnown || !strings.Contains(m.Error, "too many") {
			t.Errorf("answered by %+v", m)
		}
	}
	go func() {
		for i := range 2000 {
			b, _ := json.Marshal(message{Kind: msgDenied, Proto: "udp", Client: "45.0.0.1:1", Dest: fmt.Sprintf("45.0.0.1:%d", i)})
			w.link.Send(b, nil)
		}
		b, _ := json.Marshal(message{Kind: msgDenied, ID: 1, Proto: "udp"})
		w.link.Send(b, nil)
	}()
	if m := w.receive(); m.Kind != msgAck {
		t.Errorf("answered by %+v", m)
	}
	if most.Load() > 32 {
		t.Errorf("%d programs were looked for at once", most.Load())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) > maxTally {
		t.Errorf("%d events", len(w.events))
	}
}

// The world knows a name, or not, by family; of a name that is not allowed
// nothing is asked.
func TestExists(t *testing.T) {
	p := &Policy{Net: NetPublic}
	deny, _ := ParseRule("no.example.org")
	p.Deny = []Rule{deny}
	var asked atomic.Int32
	w := newHostile(t, p, func(w *world) {
		resolve := w.exit.Resolve
		w.exit.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
			asked.Add(1)
			if name == "bad.example.org" {
				return nil, &net.DNSError{Err: "server misbehaving", Name: name}
			}
			return resolve(ctx, name)
		}
	})
	w.host("four.example.org", "45.0.0.1")
	w.host("six.example.org", "2600::1")
	w.host("both.example.org", "2600::1", "45.0.0.1")
	for i, tt := range []struct {
		name   string
		v4, v6 bool
		err    string
	}{
		{"four.example.org", true, false, ""},
		{"six.example.org", false, true, ""},
		{"both.example.org", true, true, ""},
		{"none.example.org", false, false, ""},
		{"bad.example.org", false, false, "its name cannot be resolved: server misbehaving"},
		{"no.example.org", false, false, "it is not allowed"},
		{"Four.example.org", false, false, "it is not allowed"},
		{"127.0.0.1", false, false, "it is not allowed"},
	} {
		w.send(message{Kind: msgExists, ID: uint64(i + 1), Name: tt.name}, nil)
		if m := w.receive(); m.Kind != msgKnown || m.ID != uint64(i+1) || m.V4 != tt.v4 || m.V6 != tt.v6 || m.Error != tt.err {
			t.Errorf("%s: %+v", tt.name, m)
		}
	}
	if asked.Load() != 5 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// A gate that gets no policy, or something else, serves nothing.
func TestGateWithoutPolicy(t *testing.T) {
	needWorld(t)
	checkLeaks(t)
	for _, first := range []string{`{"kind":"ack","id":1}`, `{"kind":"policy"}`, `{}`, `x`, ""} {
		w := &world{TB: t}
		l := w.listen("0.0.0.0:9000")
		a, b := linkPair()
		ran := make(chan error, 1)
		go func() { ran <- (&Gate{Link: a, TCP: []net.Listener{l}}).Run() }()
		if first == "" {
			b.Close()
		} else {
			b.Send([]byte(first), nil)
		}
		if err := within(t, "the gate's end", ran); (err == nil) != (first == "") {
			t.Errorf("after %q: %v", first, err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after %q the listener is open: %v", first, err)
		}
	}
}
