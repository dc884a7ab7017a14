package egress

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Of many addresses, one that is allowed and answers is enough: IPv6 first, the
// next when one fails at once or takes too long, refused ones never.
func TestDialFirst(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org"), func(w *world) {
		dial := w.exit.Dial
		w.exit.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			c, err := dial(ctx, a)
			if a.Addr() == netip.MustParseAddr("2600::2") || a.Addr() == netip.MustParseAddr("45.0.0.8") { // nothing answers there
				if c != nil {
					c.Close()
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return c, err
		}
	})
	w.server("45.0.0.1:9000", echo)
	w.host("one.example.org", "10.0.0.1", "45.0.0.7", "127.0.0.1", "::1", "2600::2", "45.0.0.8", "45.0.0.1", "fe80::1")
	began := time.Now()
	w.say(w.dial(w.to("one.example.org", 9000)), "x\n", "x\n")
	if took := time.Since(began); took < 2*stagger || took > 5*stagger {
		t.Errorf("took %s", took)
	}
	want := []string{"[2600::2]:9000", "45.0.0.7:9000", "45.0.0.8:9000", "45.0.0.1:9000"}
	for i, a := range w.dialled() {
		if i >= len(want) || a.String() != want[i] {
			t.Errorf("dialled %v; want %v", w.dialled(), want)
		}
	}
}

// What the descriptors are enough for: flows, each being dialled or not, and
// lookups, with room for the rest of the process.
func TestLimitsWithin(t *testing.T) {
	if flowFiles < 2+maxAttempts || flowFiles < 3+4 || flowFiles < 2+lookupFiles {
		t.Errorf("a flow may need more than %d descriptors", flowFiles)
	}
	for files, want := range map[uint64][2]int{0: {1, 1}, 128: {1, 1}, 150: {2, 1}, 256: {12, 6}, 1024: {88, 44}, 4096: {396, 198}, 1 << 20: {1024, 256}, 1<<64 - 1: {1024, 256}} {
		l := Limits{}.whole().within(files)
		if got := [2]int{l.Flows, l.Lookups}; got != want {
			t.Errorf("%d descriptors: %d, want %d", files, got, want)
		}
		if need := uint64(spareFiles + flowFiles*l.Flows + lookupFiles*l.Lookups); files >= 150 && need > files {
			t.Errorf("of %d descriptors %d may be needed", files, need)
		}
	}
	if l := (Limits{Flows: 3, Lookups: 2}).whole().within(1024); l.Flows != 3 || l.Lookups != 2 {
		t.Errorf("lower limits became %+v", l)
	}
}

// Names that are asked for count as well: each has sockets of its own.
func TestFewDescriptors(t *testing.T) {
	var asking, most atomic.Int32
	needWorld(t)
	limitFiles(t, 256)
	w := newHostile(t, &Policy{Net: NetPublic}, func(w *world) {
		w.exit.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
			defer asking.Add(-1)
			for n, m := asking.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	for i := range 100 {
		w.send(message{Kind: msgExists, ID: uint64(i + 1), Name: fmt.Sprintf("n%d.example.org", i)}, nil)
		if i >= 6 {
			if m := w.receive(); m.Kind != msgKnown || !strings.Contains(m.Error, "too many") {
				t.Fatalf("answered by %+v", m)
			}
		}
	}
	for end := time.Now().Add(5 * time.Second); asking.Load() < 6 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if most.Load() != 6 {
		t.Errorf("%d names were asked for at once", most.Load())
	}
}

// limitFiles lets this process have so many descriptors until the test ends.
func limitFiles(t *testing.T, n uint64) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	})
}

// All that connecting takes together has an end, and a dialler that leads
// elsewhere is not believed.
func TestDialBounds(t *testing.T) {
	w := newWorld(t, rules(t, "one.example.org", "45.0.0.3"), func(w *world) {
		w.exit.Connect = 200 * time.Millisecond
		w.exit.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			if a.Addr() == netip.MustParseAddr("45.0.0.3") {
				return dialOutside(ctx, "45.0.0.1:9000")
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	w.server("45.0.0.1:9000", echo)
	w.host("one.example.org", "45.0.0.1", "45.0.0.2")
	w.wantRefused(w.to("one.example.org", 9000))
	w.event("timed out", func(e Event) bool { return e.Kind == KindFailed && e.Text == "timed out" })
	w.wantRefused("45.0.0.3:9000")
	w.event("elsewhere", func(e Event) bool {
		return e.Kind == KindFailed && e.Text == "the connection leads somewhere else"
	})
}

// However many addresses a name has that do not answer, a bounded number of them
// is tried at once, and the one that does is come to.
func TestDialMany(t *testing.T) {
	var open, most atomic.Int32
	w := newWorld(t, rules(t, "one.example.org", "none.example.org"), func(w *world) {
		dial := w.exit.Dial
		w.exit.Connect = 5 * time.Second
		w.exit.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer open.Add(-1)
			switch last := a.Addr().As4()[3]; {
			case last == 1:
				return dial(ctx, a)
			case last%3 == 0: // those that fail leave gaps between those that wait
				return nil, syscall.ECONNREFUSED
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	w.server("45.0.0.1:9000", echo)
	var dead []string
	for i := range 15 {
		dead = append(dead, fmt.Sprintf("45.0.0.%d", i+2))
	}
	w.host("one.example.org", append(dead, "45.0.0.1")...)
	w.say(w.dial(w.to("one.example.org", 9000)), "x\n", "x\n")
	if n := most.Load(); n != maxAttempts {
		t.Errorf("%d attempts at once; want %d", n, maxAttempts)
	}
	w.host("none.example.org", "45.0.0.2", "45.0.0.4", "45.0.0.5", "45.0.0.7", "45.0.0.8", "45.0.0.10", "45.0.0.11")
	w.wantRefused(w.to("none.example.org", 9000))
	if e := w.kind(KindFailed); e.Text != "timed out" {
		t.Errorf("event %+v", e)
	}
}

// An answer of the resolver is used for a moment; who asks at the same time asks
// once. That the policy is asked again each time is what TestRefuse shows.
func TestResolveOnce(t *testing.T) {
	var asked atomic.Int32
	w := newWorld(t, rules(t, "one.example.org"), func(w *world) {
		w.exit.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
			asked.Add(1)
			time.Sleep(50 * time.Millisecond)
			return []netip.Addr{netip.MustParseAddr("45.0.0.1")}, nil
		}
	})
	w.server("45.0.0.1:9000", echo)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { w.say(w.dial(w.to("one.example.org", 9000)), "x\n", "x\n") })
	}
	wg.Wait()
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// The host's resolver has the time that it is said to have.
func TestLookupTime(t *testing.T) {
	left := make(chan time.Duration, 1)
	w := newWorld(t, rules(t, "one.example.org"), func(w *world) {
		w.exit.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
			end, _ := ctx.Deadline()
			left <- time.Until(end)
			return nil, nil
		}
	})
	w.wantRefused(w.to("one.example.org", 9000))
	if got := within(t, "the question", left); got < LookupTime-time.Second || got > LookupTime {
		t.Errorf("it has %s", got)
	}
}
