package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// udpDNS is a PacketConn whose socket has one address.
type udpDNS struct{ *net.UDPConn }

func (u udpDNS) ReadQuery(b []byte) (int, Query, error) {
	n, client, err := u.ReadFromUDPAddrPort(b)
	return n, Query{Client: client, Local: u.LocalAddr().(*net.UDPAddr).AddrPort()}, err
}

func (u udpDNS) WriteReply(b []byte, q Query) error {
	_, err := u.WriteToUDPAddrPort(b, q.Client)
	return err
}

// serveDNS gives the gate of a world its DNS sockets.
func serveDNS(w *world) {
	w.Helper()
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53})
	if err != nil {
		w.Fatal(err)
	}
	w.gate.DNS = []PacketConn{udpDNS{u}}
	w.gate.DNSTCP = []net.Listener{w.listen("127.0.0.1:53")}
}

// lookups asks the gate over the network given.
func lookups(network string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:53")
	}}
}

// A program asks for a name and connects to what it is told; a name that is not
// allowed does not exist, and nothing of it leaves.
func TestGateDNS(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			var asked atomic.Int32
			w := newWorld(t, rules(t, "one.example.org"), func(w *world) {
				serveDNS(w)
				resolve := w.exit.Resolve
				w.exit.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
					asked.Add(1)
					return resolve(ctx, name)
				}
				w.exit.Who = func(proto string, client, dest netip.AddrPort) Program {
					return Program{PID: 3, Name: proto + " " + dest.String() + " " + client.Addr().String()}
				}
			})
			w.host("one.example.org", "45.0.0.1")
			w.server("45.0.0.1:80", echo)
			addrs, err := lookups(network).LookupNetIP(t.Context(), "ip", "one.example.org.")
			if err != nil || len(addrs) != 2 || asked.Load() != 0 {
				t.Fatalf("told %v, %v; the world was asked %d times", addrs, err, asked.Load())
			}
			for _, a := range addrs {
				text := request("one.example.org")
				w.say(w.dial(netip.AddrPortFrom(a.Unmap(), 80).String()), text, text)
			}
			began := time.Now()
			_, err = lookups(network).LookupNetIP(t.Context(), "ip4", "two.example.org.")
			var dns *net.DNSError
			if !errors.As(err, &dns) || !dns.IsNotFound || time.Since(began) > ackWait {
				t.Errorf("a name that is not allowed: %v after %s", err, time.Since(began))
			}
			if e := w.kind(KindDenied); e.Proto != "dns" || e.Name != "two.example.org" || e.Mend != "two.example.org:443" || e.Program.Name != network+" 127.0.0.1:53 127.0.0.1" || e.Port != 0 || e.Addr.IsValid() {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// In mode "public" only names that the world knows exist.
func TestGateDNSPublic(t *testing.T) {
	w := newWorld(t, &Policy{Net: NetPublic}, serveDNS)
	w.host("one.example.org", "45.0.0.1")
	r := lookups("udp")
	if a, err := r.LookupNetIP(t.Context(), "ip", "one.example.org."); err != nil || len(a) == 0 {
		t.Errorf("told %v, %v", a, err)
	}
	_, err := r.LookupNetIP(t.Context(), "ip", "none.example.org.")
	var dns *net.DNSError
	if !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("a name that there is not: %v", err)
	}
}

// What the gate has no room for is not a denial.
func TestGateDNSFull(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org", "two.example.org"), func(w *world) {
		serveDNS(w)
		w.names = NewNames(1)
		w.gate.names = w.names
	})
	r := lookups("udp")
	if _, err := r.LookupNetIP(t.Context(), "ip4", "one.example.org."); err != nil {
		t.Error(err)
	}
	if _, err := r.LookupNetIP(t.Context(), "ip4", "two.example.org."); err == nil {
		t.Error("a second name has an address")
	}
	if e := w.event("the limit", func(e Event) bool { return e.Name == "two.example.org" }); e.Kind != KindFailed || !strings.Contains(e.Text, "too many names") || e.Mend != "" {
		t.Errorf("event %+v", e)
	}
}

// While the exit finds nothing out the refusal is given all the same.
func TestGateDNSSlowExit(t *testing.T) {
	hold := make(chan struct{})
	w := newWorld(t, rules(t), func(w *world) {
		serveDNS(w)
		w.exit.Who = func(string, netip.AddrPort, netip.AddrPort) Program {
			<-hold
			return Program{}
		}
	})
	began := time.Now()
	_, err := lookups("udp").LookupNetIP(t.Context(), "ip4", "two.example.org.")
	if took := time.Since(began); err == nil || took < ackWait || took > 10*ackWait {
		t.Errorf("%v after %s", err, took)
	}
	close(hold)
	w.kind(KindDenied)
}

// A DNS connection that sends rubbish, or half a message, is closed; the next
// is served.
func TestGateDNSStream(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org"), serveDNS)
	for _, text := range []string{"\x00\x05hello", "\x00\x00", "\xff\xff", ""} {
		c := w.dial("127.0.0.1:53")
		io.WriteString(c, text)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	}
	if _, err := lookups("tcp").LookupNetIP(t.Context(), "ip", "one.example.org."); err != nil {
		t.Error(err)
	}
}

// TLS has to be for the name that the flow is to, on 443 and elsewhere.
func TestTLS(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org"), nil)
	w.host("one.example.org", "45.0.0.1")
	hellos := make(chan string, 1)
	serve := func(c *net.TCPConn) {
		tls.Server(c, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			hellos <- h.ServerName
			return nil, errors.New("seen")
		}}).Handshake()
	}
	w.server("45.0.0.1:443", serve)
	w.server("45.0.0.1:9000", serve)
	for _, port := range []uint16{443, 9000} {
		for _, name := range []string{"one.example.org", "two.example.org"} {
			c := w.dial(w.to("one.example.org", port))
			err := tls.Client(c, &tls.Config{ServerName: name}).Handshake()
			if name == "one.example.org" {
				if got := within(t, "the hello", hellos); got != name {
					t.Errorf("port %d: the server heard of %q", port, got)
				}
				continue
			}
			if !isReset(err) {
				t.Errorf("port %d: a hello for %s: %v", port, name, err)
			}
			w.event("the mismatch", func(e Event) bool {
				return e.Kind == KindDenied && e.Port == port && strings.Contains(e.Rule, name)
			})
		}
	}
	if len(hellos) != 0 {
		t.Error("a hello for another name came through")
	}
}
