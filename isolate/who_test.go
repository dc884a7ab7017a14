package isolate

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rcc/isolate/egress"
)

// whoScript opens a socket of each kind and tells its ends, then waits.
const whoScript = `
import os, socket as s, sys, time
keep = []
def tell(name, c, dest):
    a = c.getsockname(); keep.append(c)
    print(name, os.getpid(), a[0], a[1], dest[0], dest[1], flush=True)
l = s.socket(s.AF_INET6); l.bind(("::", 0)); l.listen()
port = l.getsockname()[1]
c = s.create_connection(("127.0.0.1", port)); tell("tcp", c, ("127.0.0.1", port))
c = s.create_connection(("::1", port)); tell("tcp", c, ("::1", port))
c = s.socket(s.AF_INET6); c.connect(("::ffff:127.0.0.1", port)); tell("tcp", c, ("::ffff:127.0.0.1", port))
c = s.socket(); c.setsockopt(s.SOL_SOCKET, 25, b"lo"); c.connect(("127.0.0.1", port)); tell("tcp", c, ("127.0.0.1", port))
for family, to in ((s.AF_INET, "192.0.2.7"), (s.AF_INET6, "2001:db8::7")):
    u = s.socket(family, s.SOCK_DGRAM); u.connect((to, 99)); tell("udp", u, (to, 99))
    u = s.socket(family, s.SOCK_DGRAM); u.connect((to, 53)); tell("dns", u, (to, 53))
u = s.socket(s.AF_INET, s.SOCK_DGRAM); u.bind(("", 0)); tell("udp", u, ("192.0.2.8", 9))
pid = os.fork()
if pid == 0:
    c = s.create_connection(("127.0.0.1", port)); tell("tcp", c, ("127.0.0.1", port)); print("end", flush=True)
time.sleep(60)
`

func TestWho(t *testing.T) {
	python := need(t, "/usr/bin/python3")
	w := newWorldNet(t, Policy{Net: NetAllow}, nil)
	if err := os.WriteFile(filepath.Join(w.tree, "who.py"), []byte(whoScript), 0o644); err != nil {
		t.Fatal(err)
	}
	r, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := w.Spawn(Program{Args: []string{python, "who.py"}, Files: []*os.File{wr, wr, wr}})
	wr.Close()
	if err != nil {
		t.Fatal(err)
	}
	r.SetReadDeadline(time.Now().Add(10 * time.Second))
	var text strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(text.String(), "end\n"); {
		n, err := r.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v after %s", err, text.String())
		}
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 11 {
		t.Fatalf("%d lines:\n%s", len(lines), text.String())
	}
	var client, dest netip.AddrPort
	for _, line := range lines[:10] {
		f := strings.Fields(line)
		client, dest = addrPortOf(t, f[2], f[3]), addrPortOf(t, f[4], f[5])
		want := fmt.Sprintf("{%s %s}", f[1], filepath.Base(python))
		if got := w.who(f[0], client, dest); fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, want %s", line, got, want)
		}
	}
	// The last is a flow of the child's. What is nearly it is nobody's.
	other := netip.AddrPortFrom(client.Addr(), client.Port()^1)
	for name, got := range map[string]egress.Program{
		"another port":     w.who("tcp", other, dest),
		"another protocol": w.who("udp", client, dest),
		"no protocol":      w.who("icmp", client, dest),
		"the other end":    w.who("tcp", netip.AddrPortFrom(dest.Addr(), dest.Port()), netip.AddrPortFrom(client.Addr(), client.Port()^1)),
		"no addresses":     w.who("tcp", netip.AddrPort{}, netip.AddrPort{}),
		"another family":   w.who("tcp", netip.AddrPortFrom(netip.IPv6Loopback(), client.Port()), netip.AddrPortFrom(netip.IPv6Loopback(), dest.Port())),
	} {
		if got != (egress.Program{}) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := w.who("tcp", client, dest); got.PID == 0 {
		t.Error("no control: the flow's own program is not found")
	}
	p.Signal(unix.SIGKILL)
	p.Wait()
	if got := w.who("udp", addrPortOf(t, "192.0.2.7", "1"), dest); got != (egress.Program{}) {
		t.Errorf("a program that has ended is named: %v", got)
	}
	w.Close()
	if got := w.Who("tcp", client, dest); got != (egress.Program{}) {
		t.Errorf("after the end: %v", got)
	}
}

// who asks until the rate allows it.
func (w *world) who(proto string, client, dest netip.AddrPort) egress.Program {
	w.diag.mu.Lock()
	w.diag.rest = time.Time{}
	w.diag.mu.Unlock()
	return w.Who(proto, client, dest)
}

func addrPortOf(t *testing.T, host, port string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestWhoIsBounded: with many processes and descriptors a search ends in time,
// and the next one waits.
func TestWhoIsBounded(t *testing.T) {
	python := need(t, "/usr/bin/python3")
	w := newWorldNet(t, Policy{Net: NetAllow}, nil)
	r, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	script := `
import os, socket as s, time
hold = [os.dup(0) for _ in range(800)]
for _ in range(60):
    if os.fork() == 0: time.sleep(60)
l = s.socket(); l.bind(("127.0.0.1", 0)); l.listen()
if os.fork() == 0:
    c = s.create_connection(l.getsockname()); print(c.getsockname()[1], l.getsockname()[1], flush=True); time.sleep(60)
time.sleep(60)`
	p, err := w.Spawn(Program{Args: []string{python, "-c", script}, Files: []*os.File{wr, wr, wr}})
	wr.Close()
	if err != nil {
		t.Fatal(err)
	}
	var from, to uint16
	if _, err := fmt.Fscan(r, &from, &to); err != nil {
		t.Fatal(err)
	}
	here := netip.MustParseAddr("127.0.0.1")
	start := time.Now()
	w.Who("tcp", netip.AddrPortFrom(here, from), netip.AddrPortFrom(here, to))
	if took := time.Since(start); took > 5*whoLimit {
		t.Errorf("a search took %s", took)
	}
	start = time.Now()
	if got := w.Who("tcp", netip.AddrPortFrom(here, from), netip.AddrPortFrom(here, to)); got.PID != 0 {
		t.Logf("the search was short: %v", got)
	} else if took := time.Since(start); took > whoLimit {
		t.Errorf("a search that was put off took %s", took)
	}
	p.Signal(unix.SIGKILL)
}

// TestDialer: the sockets of root's rcc are the task's user's, and no thread
// keeps that user.
func TestDialer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
		}
	}()
	uid := os.Getuid()
	if uid == 0 {
		uid = 1879048200
	}
	dial := Dialer(uid)
	to := netip.MustParseAddrPort(l.Addr().String())
	var work sync.WaitGroup
	for range 64 {
		work.Go(func() {
			c, err := dial(context.Background(), to)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			raw, err := c.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Error(err)
				return
			}
			raw.Control(func(fd uintptr) {
				var st unix.Stat_t
				if err := unix.Fstat(int(fd), &st); err != nil || int(st.Uid) != uid {
					t.Errorf("the socket is user %d's, want %d (%v)", st.Uid, uid, err)
				}
				if on, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE); on != 1 || err != nil {
					t.Errorf("keepalive is %d, %v", on, err)
				}
			})
			if c.RemoteAddr().String() != to.String() {
				t.Errorf("connected to %s", c.RemoteAddr())
			}
		})
	}
	work.Wait()
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(threads) == 0 {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if b, err := os.ReadFile(thread); err == nil {
			if want := fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", os.Getuid()); !strings.Contains(string(b), want) {
				t.Errorf("%s has not %q", thread, want)
			}
		}
	}
	closed := netip.MustParseAddrPort("127.0.0.1:1")
	if _, err := dial(context.Background(), closed); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a closed port: %v", err)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := dial(over, to); err == nil {
		t.Error("an ended context connects")
	}
	for _, a := range []netip.AddrPort{{}, netip.MustParseAddrPort("[fe80::1%lo]:80")} {
		if _, err := dial(context.Background(), a); err == nil {
			t.Errorf("%s was dialled", a)
		}
	}
}

// TestDialerWaits: a connection that does not stand ends with its context.
func TestDialerWaits(t *testing.T) {
	// A full backlog drops the next SYN (tcp_conn_request in net/ipv4/tcp_input.c).
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	start := time.Now()
	for range 4 {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		c, err := Dialer(os.Getuid())(ctx, to)
		cancel()
		if err == nil {
			defer c.Close()
			continue
		}
		if took := time.Since(start); ctx.Err() == nil || took > 5*time.Second {
			t.Errorf("%v after %s", err, took)
		}
		return
	}
	t.Error("no control: every connection stood")
}

// TestParsePacket reads packets as the rules log them.
func TestParsePacket(t *testing.T) {
	v4 := func(protocol byte, fragment uint16, rest ...byte) []byte {
		b := []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 192, 0, 2, 9}
		binary.BigEndian.PutUint16(b[6:], fragment)
		return append(b, rest...)
	}
	v6 := append([]byte{0x60, 0, 0, 0, 0, 8, 132, 64}, append(netip.MustParseAddr("fd00::1").AsSlice(), netip.MustParseAddr("2001:db8::9").AsSlice()...)...)
	ports := []byte{0x12, 0x34, 0, 99, 0, 0}
	options := append([]byte{0x46}, append(v4(17, 0)[1:], append([]byte{1, 1, 1, 1}, ports...)...)...)
	for _, tc := range []struct {
		name string
		b    []byte
		want string
	}{
		{"udp", v4(17, 0, ports...), "{udp 10.0.0.1:4660 192.0.2.9:99}"},
		{"options", options, "{udp 10.0.0.1:4660 192.0.2.9:99}"},
		{"a later fragment", v4(17, 100, ports...), "{udp 10.0.0.1:0 192.0.2.9:0}"},
		{"the first fragment", v4(17, 0x2000, ports...), "{udp 10.0.0.1:4660 192.0.2.9:99}"},
		{"icmp", v4(1, 0, ports...), "{icmp 10.0.0.1:0 192.0.2.9:0}"},
		{"cut off", v4(17, 0, 1), "{udp 10.0.0.1:0 192.0.2.9:0}"},
		{"another protocol", v4(253, 0, ports...), "{253 10.0.0.1:0 192.0.2.9:0}"},
		{"sctp over IPv6", append(v6, ports...), "{sctp [fd00::1]:4660 [2001:db8::9]:99}"},
		{"empty", nil, ""},
		{"short", v4(17, 0)[:19], ""},
		{"short header", append([]byte{0x44}, v4(17, 0)[1:]...), ""},
		{"version 5", append([]byte{0x55}, v4(17, 0)[1:]...), ""},
	} {
		got, ok := parsePacket(tc.b)
		if ok != (tc.want != "") || ok && fmt.Sprint(got) != tc.want {
			t.Errorf("%s: %v %v, want %s", tc.name, got, ok, tc.want)
		}
	}
}

// FuzzParseRefusal: the gate reads packets that the program wrote.
func FuzzParseRefusal(f *testing.F) {
	body := appendAttribute([]byte{2, 0, 0, 1}, nflogPayload, []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 192, 0, 2, 9, 1, 2, 3, 4})
	f.Add(netlinkMessage(nflogPacket, 0, 0, body))
	f.Add(netlinkMessage(nflogPacket, 0, 0, []byte{2, 0, 0, 1, 200, 0, 9, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, ok := parseRefusal(b); ok && (r.Proto == "" || !r.Client.IsValid() || !r.Dest.IsValid()) {
			t.Errorf("%v", r)
		}
	})
}
