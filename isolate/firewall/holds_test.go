package firewall

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// In a network where every address is local, TCP to any of them arrives at the
// listener with its destination, and nothing else goes anywhere.
func TestTaskHolds(t *testing.T) {
	need(t, "ip")
	if !inNamespace(t) {
		return
	}
	command(t, "", "ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo")
	command(t, "", "ip", "-6", "route", "add", "local", "::/0", "dev", "lo")
	accepted := make(chan string, 16)
	for _, a := range []string{"127.0.0.1:1", "[::1]:1"} {
		l := listenTransparent(t, a)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- c.LocalAddr().String()
				c.Close()
			}
		}()
	}
	nobodyElse := func(want string) {
		t.Helper()
		select {
		case got := <-accepted:
			if got != want {
				t.Errorf("the listener got a connection to %s, want %s", got, want)
			}
		case <-time.After(200 * time.Millisecond):
			if want != "" {
				t.Errorf("the listener got no connection to %s", want)
			}
		}
	}

	// Without the rules: TCP meets a closed port, the listener itself is open, and
	// UDP goes out.
	outside := []string{"192.0.2.7:443", "10.0.0.1:22", "169.254.169.254:80", "255.255.255.254:1", "[2001:db8::7]:443", "[fd00::1]:8080", "[fe80::1%lo]:80"}
	for _, a := range outside {
		if err := dialTCP(a); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("control: dial %s: %v", a, err)
		}
		if err := sendUDP(a); err != nil {
			t.Errorf("control: send to %s: %v", a, err)
		}
	}
	if err := dialTCP("127.0.0.1:1"); err != nil {
		t.Errorf("control: dial the listener: %v", err)
	}
	nobodyElse("127.0.0.1:1")

	if err := Task(TaskRules{Listener: 1, LogGroup: 1}).Load(); err != nil {
		t.Fatal(err)
	}
	for _, a := range outside {
		if err := dialTCP(a); err != nil {
			t.Errorf("dial %s: %v", a, err)
		}
		nobodyElse(strings.Replace(a, "%lo", "", 1))
		if err := sendUDP(a); !errors.Is(err, unix.EPERM) {
			t.Errorf("send to %s: %v, want EPERM", a, err)
		}
	}
	if n := counter(t, CounterRefused).Packets; n != uint64(len(outside)) {
		t.Errorf("%d refused packets are counted, want %d", n, len(outside))
	}
	if n := counter(t, CounterFlows).Packets; n < uint64(len(outside)) {
		t.Errorf("%d packets of flows are counted", n)
	}

	// The listener itself is closed by every name of loopback.
	for _, a := range []string{"127.0.0.1:1", "127.1.2.3:1", "0.0.0.0:1", "[::1]:1", "[::]:1", "[::ffff:127.0.0.1]:1"} {
		before := counter(t, CounterListener).Packets
		if err := dialTCP(a); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("dial %s: %v, want a refusal", a, err)
		}
		if counter(t, CounterListener).Packets == before {
			t.Errorf("the attempt at %s is not counted", a)
		}
	}
	nobodyElse("")

	testLoopbackAndDNS(t)
}

// testLoopbackAndDNS shows what the rules leave alone: loopback of both
// protocols, and DNS at any address, whose answer comes back.
func testLoopbackAndDNS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen(t, l)
	if err := dialTCP(l.Addr().String()); err != nil {
		t.Errorf("dial on loopback: %v", err)
	}
	if err := sendUDP("127.0.0.1:9"); err != nil {
		t.Errorf("send on loopback: %v", err)
	}
	server, err := net.ListenPacket("udp", "192.0.2.53:53")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 16)
		if n, from, err := server.ReadFrom(b); err == nil {
			server.WriteTo(b[:n], from)
		}
	}()
	c, err := net.Dial("udp", "192.0.2.53:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte("query")); err != nil {
		t.Errorf("ask a resolver: %v", err)
	}
	b := make([]byte, 16)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "query" {
		t.Errorf("a resolver's answer: %q, %v", b[:n], err)
	}
	if n := counter(t, CounterNames).Packets; n != 1 {
		t.Errorf("%d queries are counted, want 1", n)
	}
}

func listenTransparent(t *testing.T, addr string) net.Listener {
	t.Helper()
	config := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			if network == "tcp6" {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT, 1)
				return
			}
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1)
		})
		return errors.Join(err, controlErr)
	}}
	l, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dialTCP(addr string) error {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

func sendUDP(addr string) error {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("x"))
	return err
}

// somePrivate are addresses that this namespace has of its own, with a listener
// on each that tells whether somebody came.
func somePrivate(t *testing.T) (v4, v6, other, public string) {
	t.Helper()
	out := make([]string, 4)
	for i, a := range []string{"10.9.8.7", "fd00:9::7", "10.9.8.8", "192.0.2.7"} {
		addr := netip.MustParseAddr(a)
		command(t, "", "ip", "address", "add", netip.PrefixFrom(addr, addr.BitLen()).String(), "dev", "lo")
		l, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		for try := 0; errors.Is(err, unix.EADDRNOTAVAIL) && try < 50; try++ { // IPv6 looks for others first
			time.Sleep(20 * time.Millisecond)
			l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		}
		if err != nil {
			t.Fatal(err)
		}
		listen(t, l)
		out[i] = l.Addr().String()
	}
	return out[0], out[1], out[2], out[3]
}

// A task's user id does not get to a private address, by both families; another
// user id, a public address and an exception are left alone.
func TestWallHolds(t *testing.T) {
	need(t, "ip")
	if !inNamespace(t) {
		return
	}
	v4, v6, other, public := somePrivate(t)
	all := []string{v4, v6, other, public}
	for _, a := range all {
		if why := dialAs(t, taskUID, a, nil); why != "" {
			t.Errorf("control: %s without the wall: %s", a, why)
		}
	}
	port := netip.MustParseAddrPort(other).Port()
	if os.Getuid() != 0 {
		port = 0 // the server has the task's user id, too, and has to answer
	}
	wall := Wall{UIDs: taskUIDs, Accept: []Exception{{netip.MustParsePrefix("10.9.8.8/32"), port, port}}}
	loadWall(t, wall)
	for _, tt := range []struct{ addr, counter string }{{v4, CounterRefused4}, {v6, CounterRefused6}} {
		began := time.Now()
		if why := dialAs(t, taskUID, tt.addr, nil); why == "" {
			t.Errorf("a task reached %s", tt.addr)
		}
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("the refusal of %s took %v", tt.addr, d)
		}
		if counter(t, tt.counter).Packets == 0 {
			t.Errorf("%s was refused and not counted", tt.addr)
		}
	}
	for _, a := range []string{other, public} {
		if why := dialAs(t, taskUID, a, nil); why != "" {
			t.Errorf("a task did not reach %s: %s", a, why)
		}
	}
	if counter(t, CounterExcepted).Packets == 0 {
		t.Error("the exception is not counted")
	}
	if os.Getuid() == 0 {
		for _, a := range all {
			if why := dialAs(t, 4242, a, nil); why != "" {
				t.Errorf("another user did not reach %s: %s", a, why)
			}
		}
	}
	loadWall(t, Wall{UIDs: [2]uint32{taskUID + 1, taskUID + 1}})
	if why := dialAs(t, taskUID, v4, nil); why != "" {
		t.Errorf("an id outside of the range was refused: %s", why)
	}
	loadWall(t, Wall{UIDs: [2]uint32{taskUID, taskUID}})
	if why := dialAs(t, taskUID, other, nil); why == "" {
		t.Error("without the exception a task reached the address")
	}
	if was, err := Remove(); !was || err != nil {
		t.Fatal(was, err)
	}
	if why := dialAs(t, taskUID, v4, nil); why != "" {
		t.Errorf("without the wall: %s", why)
	}
}

func loadWall(t *testing.T, w Wall) {
	t.Helper()
	table, err := w.Table()
	if err == nil {
		err = table.Load()
	}
	if err != nil {
		t.Fatal(err)
	}
}
