package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// A port of the host's loopback is reached if it is forwarded, by the port that
// the connection was made to.
func TestForward(t *testing.T) {
	p := rules(t)
	p.Forward = []uint16{5432}
	w := newWorld(t, p, func(w *world) {
		w.gate.Forward[5432] = []net.Listener{w.listen("127.0.0.1:5432"), w.listen("[::1]:5432")}
		w.gate.Forward[5433] = []net.Listener{w.listen("127.0.0.1:5433")}
		w.server("127.0.0.1:5432", echo)
		w.server("127.0.0.1:5433", echo)
	})
	for _, to := range []string{"127.0.0.1:5432", "[::1]:5432"} {
		c := w.dial(to)
		w.say(c, "x\n", "x\n")
		c.CloseWrite()
		w.wantEnd(c)
	}
	if e := w.kind(KindFlow); e.Port != 5432 || e.Rule != "forward 5432" {
		t.Errorf("event %+v", e)
	}
	w.wantRefused("127.0.0.1:5433")
	if e := w.kind(KindDenied); e.Port != 5433 {
		t.Errorf("event %+v", e)
	}
}

// A published port of the sandbox is reached from the host.
func TestPublish(t *testing.T) {
	var at, dead string
	w := newWorld(t, rules(t), func(w *world) {
		l, l2 := w.listenOutside("127.0.0.1:0"), w.listenOutside("127.0.0.1:0")
		at, dead = l.Addr().String(), l2.Addr().String()
		w.exit.Published = []Published{{l, 3000}, {l2, 3001}}
		serveOn(w.listen("127.0.0.1:3000"), func(c *net.TCPConn) {
			io.WriteString(c, "hi")
			echo(c)
		})
	})
	host := func(to string) *net.TCPConn {
		c, err := dialOutside(context.Background(), to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
		return c.(*net.TCPConn)
	}
	c := host(at)
	w.hear(c, "hi")
	w.say(c, "there\n", "there\n")
	c.CloseWrite()
	w.wantEnd(c)
	if e := w.kind(KindFlow); e.Sent != 8 || e.Received != 6 || e.Port != 3000 || e.Rule != "publish 3000" {
		t.Errorf("event %+v", e)
	}
	if c, err := dialOutside(t.Context(), dead); err == nil {
		defer c.Close()
		w.wantReset(c)
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if e := w.kind(KindFailed); e.Port != 3001 || e.Text != "connection refused" {
		t.Errorf("event %+v", e)
	}
}
