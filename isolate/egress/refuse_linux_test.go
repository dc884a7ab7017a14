package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What the policy does not allow is reset, told with its program, and dials
// nothing. The listener at each place is the control: allowed, it is reached.
func TestRefuse(t *testing.T) {
	const name = "one.example.org"
	for _, tt := range []struct {
		what     string
		allow    []string
		control  []string // what has to be added to be let through
		leads    string   // where the name leads
		to       string   // where the program goes; "": to the name, on port
		port     uint16
		wantRule string
		wantMend string
	}{
		{"port", []string{name + ":80"}, []string{name + ":22"}, "45.0.0.1", "", 22, "not in the allow list", name + ":22"},
		{"address", []string{name}, []string{"45.0.0.1:22"}, "", "45.0.0.1:22", 22, "not in the allow list", "45.0.0.1:22"},
		{"IPv6 address", []string{name}, []string{"[2600::1]:22"}, "", "[2600::1]:22", 22, "not in the allow list", "[2600::1]:22"},
		{"private by name", []string{name}, []string{"10.0.0.1:22"}, "10.0.0.1", "", 22, "private", "10.0.0.1:22"},
		{"metadata by name", []string{name}, nil, "169.254.169.254", "", 22, "169.254.169.254", ""},
		{"loopback by name", []string{name}, nil, "127.0.0.1", "", 22, "127.0.0.1", ""},
		{"mapped by name", []string{name}, nil, "::ffff:127.0.0.1", "", 22, "127.0.0.1", ""},
		{"the host by name", []string{name}, nil, "45.0.0.99", "", 22, "address of this machine", ""},
		{"a neighbour by name", []string{name, "45.0.0.0/8"}, []string{"45.0.0.98:22"}, "45.0.0.98", "", 22, "45.0.0.98 lies in a network that this machine is on", "45.0.0.98:22"},
		{"the host by address", []string{"45.0.0.99"}, nil, "", "45.0.0.99:22", 22, "address of this machine", ""},
		{"the host by an address that is not listed", []string{name}, nil, "", "45.0.0.99:22", 22, "address of this machine", ""},
		{"no name's address", []string{name}, nil, "", "198.18.77.77:22", 22, "no name has this address", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			var reached atomic.Int32
			try := func(t *testing.T, allow []string) (*world, string) {
				w := newWorld(t, rules(t, allow...), func(w *world) { w.exit.Who = whoAlive(t) })
				l := w.listenOutside("0.0.0.0:22")
				l6 := w.listenOutside("[::]:22")
				for _, l := range []net.Listener{l, l6} {
					serveOn(l, func(c *net.TCPConn) {
						reached.Add(1)
						echo(c)
					})
				}
				if tt.leads != "" {
					w.host(name, tt.leads)
				}
				to := tt.to
				if to == "" {
					to = w.to(name, tt.port)
				}
				return w, to
			}
			t.Run("refused", func(t *testing.T) {
				w, to := try(t, tt.allow)
				w.wantRefused(to)
				e := w.kind(KindDenied)
				if !strings.Contains(e.Rule, tt.wantRule) || tt.wantMend != "" && e.Mend != tt.wantMend || e.Port != 22 || e.Proto != "tcp" || e.Count != 1 || e.Program.Name != "alive" {
					t.Errorf("event %+v; want rule %q, mend %q", e, tt.wantRule, tt.wantMend)
				}
				if n := len(w.dialled()); n != 0 || reached.Load() != 0 {
					t.Errorf("dialled %d times, %d came through", n, reached.Load())
				}
			})
			if tt.control == nil {
				return
			}
			t.Run("control", func(t *testing.T) {
				w, to := try(t, append(tt.control, tt.allow...))
				w.say(w.dial(to), "x\n", "x\n")
				if reached.Load() != 1 {
					t.Errorf("%d came through", reached.Load())
				}
			})
		})
	}
}

// whoAlive finds the program of a socket as long as that is not reset: the
// client's end must be there when it is looked for.
func whoAlive(t *testing.T) func(string, netip.AddrPort, netip.AddrPort) Program {
	return func(proto string, client, dest netip.AddrPort) Program {
		// The port of a connection that stands cannot be had by another.
		l, err := net.Listen("tcp", client.String())
		if err == nil {
			l.Close()
			t.Errorf("%s from %s to %s is looked for after its end", proto, client, dest)
			return Program{}
		}
		return Program{PID: 1, Name: "alive"}
	}
}

// The head of a flow has to mean the name that the flow is to; nothing of
// another reaches the server, and on port 80 it is not even dialled.
func TestRefuseHead(t *testing.T) {
	for _, tt := range []struct {
		what, says string
		port       uint16
		half       bool // ends its half afterwards
		dials      int
		want       string // in the event's rule; "": none
	}{
		{"another host on 80", request("two.example.org"), 80, false, 0, "two.example.org"},
		{"another host on 9000", request("two.example.org"), 9000, false, 1, "two.example.org"},
		{"cut off on 80", "GET / HTTP/1.1\r\nHo", 80, true, 0, "middle"},
		{"cut off on 9000", "GET / HTTP/1.1\r\nHo", 9000, true, 1, "middle"},
		{"ended in the line on 80", "GET", 80, true, 0, "middle"},
		{"ended in the line on 9000", "GET http://two.example.org/ HTTP/1.0", 9000, true, 1, "middle"},
		{"no TLS after all on 443", "\x16\x03\x01\x02\x00\x02", 443, false, 0, "TLS"},
		{"ended in TLS on 9000", "\x16\x03\x01\x02\x00\x01", 9000, true, 1, "middle"},
		{"slow on 80", "GET / HTTP/1.1\r\nHo", 80, false, 0, "within"},
		{"slow on 9000", "GET / HTTP/1.1\r\nHo", 9000, false, 1, "within"},
		{"silent on 80", "", 80, false, 0, "within"},
		{"no TLS on 443", request("one.example.org"), 443, false, 0, "TLS"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			w := newWorld(t, rules(t, "one.example.org"), func(w *world) { w.exit.Head = 400 * time.Millisecond })
			w.host("one.example.org", "45.0.0.1")
			var heard atomic.Int64
			for _, at := range []string{"45.0.0.1:80", "45.0.0.1:9000", "45.0.0.1:443"} {
				w.server(at, func(c *net.TCPConn) {
					n, _ := io.Copy(io.Discard, c)
					heard.Add(n)
				})
			}
			c := w.dial(w.to("one.example.org", tt.port))
			io.WriteString(c, tt.says)
			if tt.half {
				c.CloseWrite()
			}
			w.wantReset(c)
			if e := w.kind(KindDenied); !strings.Contains(e.Rule, tt.want) || e.Name != "one.example.org" {
				t.Errorf("event %+v; want %q", e, tt.want)
			}
			if n := len(w.dialled()); n != tt.dials || heard.Load() != 0 {
				t.Errorf("dialled %d times, the server heard %d bytes", n, heard.Load())
			}
		})
	}
}

// What cannot become a request passes at once, without a line's end; a word in
// capitals is held until that, and no longer than the limit.
func TestHeld(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org"), func(w *world) { w.exit.Head = 400 * time.Millisecond })
	w.host("one.example.org", "45.0.0.1")
	w.server("45.0.0.1:9000", echo)
	mongo := "\x15\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00" // and so on; from its length on
	for _, text := range []string{
		mongo, "\x16" + mongo[1:], "JDWP-Handshake", "+", "hello world how are you",
		"hello", `{"a":1}`, "\x00\x01", "\xff\xfd\x01", "SSH-2.0-x", "Secret", "PING\n", strings.Repeat("A", 25),
	} {
		began := time.Now()
		w.say(w.dial(w.to("one.example.org", 9000)), text, text)
		if took := time.Since(began); took > w.exit.Head/2 {
			t.Errorf("%q took %s", text, took)
		}
	}
	c := w.dial(w.to("one.example.org", 9000)) // a word that is ended in time
	io.WriteString(c, "PI")
	time.Sleep(50 * time.Millisecond)
	w.say(c, "NG\n", "PING\n")
	c = w.dial(w.to("one.example.org", 9000)) // and one that nothing comes after
	io.WriteString(c, "PING")
	c.CloseWrite()
	w.hear(c, "PING")
	w.wantEnd(c)
	c = w.dial(w.to("one.example.org", 9000))
	io.WriteString(c, "SECRET")
	w.wantReset(c)
	if e := w.kind(KindDenied); !strings.Contains(e.Rule, "within") {
		t.Errorf("event %+v", e)
	}
}

// Who connects to port 80 and goes again has tried nothing.
func TestGoneBeforeHead(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org"), nil)
	for _, linger := range []int{-1, 0} {
		c := w.dial(w.to("one.example.org", 80))
		c.SetLinger(linger)
		c.Close()
	}
	c := w.dial(w.to("one.example.org", 80)) // a reset in the middle of a head
	io.WriteString(c, "GET ")
	c.SetLinger(0)
	c.Close()
	w.wantRefused("45.0.0.1:22") // what comes after it is told
	w.event("the address", func(e Event) bool { return e.Port == 22 })
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) != 1 || len(w.dials) != 0 {
		t.Errorf("events %+v, dialled %v", w.events, w.dials)
	}
}

// What is allowed and cannot be done is told apart from a denial.
func TestFailed(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org", "none.example.org"), nil)
	w.host("one.example.org", "45.0.0.1", "45.0.0.2")
	w.wantRefused(w.to("one.example.org", 9000))
	if e := w.kind(KindFailed); e.Text != "connection refused" || e.Name != "one.example.org" || e.Port != 9000 || e.Mend != "" {
		t.Errorf("event %+v", e)
	}
	w.wantRefused(w.to("none.example.org", 9000))
	w.event("no such host", func(e Event) bool { return e.Kind == KindFailed && strings.Contains(e.Text, "no such host") })
	if d := w.dialled(); len(d) != 2 {
		t.Errorf("dialled %v", d)
	}
}

// A refusal that comes again and again is counted.
func TestRepeats(t *testing.T) {
	const n = 200
	var looked atomic.Int32
	w := newWorld(t, rules(t), func(w *world) {
		who := whoAlive(t)
		w.exit.Who = func(proto string, client, dest netip.AddrPort) Program {
			looked.Add(1)
			return who(proto, client, dest)
		}
	})
	began := time.Now()
	for range n {
		w.wantRefused("45.0.0.1:22")
	}
	// In each repeatTime the gate asks for the first one only.
	if most := int32(2 + time.Since(began)/repeatTime); looked.Load() > most {
		t.Errorf("the program was looked for %d times, at most %d are needed", looked.Load(), most)
	}
	w.exit.Settle() // the gate is still gathering
	w.close()
	w.served <- nil
	w.ran <- nil
	var told []Event
	sum := 0
	for _, e := range w.events {
		if e.Kind == KindDenied {
			told = append(told, e)
			sum += e.Count
		}
	}
	if sum != n || len(told) != 2 || told[0].Count != 1 || told[1].Program != told[0].Program {
		t.Errorf("%d in %+v; want %d in two", sum, told, n)
	}
}

// Packets that the network's rules rejected are told.
func TestRefusals(t *testing.T) {
	refusals := make(chan Refusal)
	w := newWorld(t, rules(t), func(w *world) {
		w.gate.Refused = func() (Refusal, error) {
			f, ok := <-refusals
			if !ok {
				return f, io.EOF
			}
			return f, nil
		}
		w.exit.Who = func(proto string, client, dest netip.AddrPort) Program {
			return Program{PID: 7, Name: proto + " " + client.String() + " " + dest.String()}
		}
	})
	refusals <- Refusal{"udp", netip.MustParseAddrPort("1.2.3.4:5"), netip.MustParseAddrPort("45.0.0.1:443")}
	refusals <- Refusal{"udp", netip.MustParseAddrPort("1.2.3.4:5"), netip.MustParseAddrPort(w.to("one.example.org", 443))}
	close(refusals)
	w.event("the name", func(e Event) bool {
		return e.Name == "one.example.org" && !e.Addr.IsValid() && e.Port == 443 && e.Proto == "udp"
	})
	e := w.event("the address", func(e Event) bool { return e.Name == "" })
	if e.Kind != KindDenied || e.Proto != "udp" || e.Addr.String() != "45.0.0.1" || e.Port != 443 || e.Program.Name != "udp 1.2.3.4:5 45.0.0.1:443" || !strings.Contains(e.Rule, "only TCP and DNS") || e.Mend != "" {
		t.Errorf("event %+v", e)
	}
}

// When the gate is gone every flow is reset and nothing listens any more.
func TestGateGone(t *testing.T) {
	var published string
	w := newWorld(t, rules(t, "45.0.0.1"), func(w *world) {
		l := w.listenOutside("127.0.0.1:0")
		published = l.Addr().String()
		w.exit.Published = []Published{{l, 3000}}
	})
	w.server("45.0.0.1:9000", echo)
	c, held := w.dial("45.0.0.1:9000"), w.dial("45.0.0.1:9000")
	w.say(c, "x\n", "x\n")
	w.link.Close()
	w.wantReset(c)
	w.wantReset(held)
	if err := within(t, "the exit's end", w.served); err == nil || !strings.Contains(err.Error(), "gate is gone") {
		t.Errorf("Serve: %v", err)
	}
	w.served <- nil
	if err := within(t, "the gate's end", w.ran); err != nil {
		t.Errorf("Run: %v", err)
	}
	w.ran <- nil
	if e := w.kind(KindGate); e.Text == "" {
		t.Errorf("event %+v", e)
	}
	if c, err := dialOutside(context.Background(), published); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("published port: %v, %v", c, err)
	}
	if _, err := net.Dial("tcp", "45.0.0.1:9000"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("gate's port: %v", err)
	}
}
