package egress

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
)

// FuzzExit: whatever a gate says, with or without connections, the exit ends in
// order and dials nothing that the policy refuses. A line is a message; one that
// starts with a digit brings a connection that was meant for a place of a list.
func FuzzExit(f *testing.F) {
	if os.Getenv(worldEnv) != "ready" {
		f.Skip("this machine makes no user and network namespace")
	}
	places := []string{"198.18.0.16:80", "198.18.0.16:9000", "45.0.0.1:9000", "45.0.0.2:22", "127.0.0.1:5432", "10.0.0.1:22", "[2600::1]:443", "127.0.0.1:25"}
	var listeners []net.Listener
	for _, at := range places {
		if at[0] == '[' { // of IPv6 no address can be bound that lo does not have
			at = "[::]:443"
		}
		outside(func() { // of which each process that fuzzes has its own
			l, err := net.Listen("tcp", at)
			if err != nil {
				f.Fatal(err)
			}
			f.Cleanup(func() { l.Close() })
			listeners = append(listeners, l)
		})
	}
	f.Add([]byte(`0{"kind":"open","id":1,"name":"one.example.org","checked":true}
1{"kind":"open","id":2,"name":"one.example.org"}
{"kind":"head","id":2,"verdict":{"OK":true}}
2{"kind":"open","id":2}
{"kind":"head","id":2,"reset":true}`))
	f.Add([]byte(`4{"kind":"forward","id":1}
5{"kind":"open","id":1}
7{"kind":"reached","id":1}
{"kind":"denied","id":1,"proto":"dns","name":"x","verdict":{"Mend":"*.example.org"},"count":3}
{"kind":"denied","proto":"tcp","client":"1.2.3.4:5","dest":"10.0.0.1:22","verdict":{}}
{"kind":"exists","id":3,"name":"one.example.org"}`))
	p := rules(f, "one.example.org:80", "one.example.org:9000", "45.0.0.1:9000")
	p.Forward = []uint16{5432}
	f.Fuzz(func(t *testing.T, in []byte) {
		x := &Exit{
			Policy:  p,
			Resolve: func(context.Context, string) ([]netip.Addr, error) { return fuzzAddrs, nil },
			Own:     func() ([]netip.Prefix, error) { return []netip.Prefix{netip.MustParsePrefix("45.0.0.99/32")}, nil },
			Dial: func(_ context.Context, a netip.AddrPort) (net.Conn, error) {
				if a.String() != "45.0.0.1:80" && a.String() != "45.0.0.1:9000" {
					t.Errorf("dials %s", a)
				}
				return nil, syscall.ECONNREFUSED
			},
			DialHost: func(_ context.Context, port uint16) (net.Conn, error) {
				if port != 5432 {
					t.Errorf("dials the host's %d", port)
				}
				return nil, syscall.ECONNREFUSED
			},
			Who: func(string, netip.AddrPort, netip.AddrPort) Program { return Program{} },
			Tell: func(e Event) {
				if len(e.Rule)+len(e.Name)+len(e.Text) > 4*maxText || e.Count < 0 {
					t.Errorf("event %+v", e)
				}
			},
		}
		gate, exit := linkPair()
		served := make(chan error, 1)
		go func() { served <- x.Serve(context.Background(), exit) }()
		go func() {
			for {
				if _, _, err := gate.Receive(); err != nil {
					return
				}
			}
		}()
		for _, line := range bytes.Split(in, []byte("\n")) {
			var c net.Conn
			if len(line) > 0 && line[0] >= '0' && int(line[0]-'0') < len(places) {
				i := int(line[0] - '0')
				line = line[1:]
				c = accepted(t, listeners[i], places[i])
			}
			gate.Send(line, c)
			if c != nil {
				c.Close()
			}
		}
		gate.Send([]byte("end"), nil)
		if err := within(t, "the exit's end", served); err == nil {
			t.Error("no error")
		}
	})
}

var fuzzAddrs = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("45.0.0.99"), netip.MustParseAddr("45.0.0.1")}

// accepted is the gate's end of a connection whose program has gone.
func accepted(t *testing.T, l net.Listener, at string) net.Conn {
	program, err := dialOutside(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	program.(*net.TCPConn).SetLinger(0)
	program.Close()
	return c
}
