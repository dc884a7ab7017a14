package main

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"rcc/isolate/egress"
)

// A name server that says nothing does not keep from the next one for long,
// whether it is the first or the first two of three.
func TestHostResolverSilentServer(t *testing.T) {
	t.Parallel()
	silent, answering := nameServer(t, false), nameServer(t, true)
	var dialled atomic.Int32
	r := hostResolver(func(ctx context.Context, _, _ string) (net.Conn, error) {
		to := silent
		if dialled.Add(1) > 1 {
			to = answering
		}
		return new(net.Dialer).DialContext(ctx, "udp", to)
	})
	ctx, cancel := context.WithTimeout(t.Context(), egress.LookupTime)
	defer cancel()
	began := time.Now()
	addrs, err := r.LookupNetIP(ctx, "ip4", "one.example.org.")
	if err != nil || len(addrs) != 1 || addrs[0].Unmap().String() != "192.0.2.7" {
		t.Errorf("told %v, %v", addrs, err)
	}
	if took := time.Since(began); took > serverTime+time.Second || took < serverTime/2 {
		t.Errorf("it took %s", took)
	}
}

// Three servers, each asked twice, are less than what a lookup may take.
func TestHostResolverTime(t *testing.T) {
	if all := 3 * 2 * serverTime; all >= egress.LookupTime {
		t.Errorf("all turns take %s, and a lookup has %s", all, egress.LookupTime)
	}
}

// Search domains count for a name of one label, and for no other.
func TestRooted(t *testing.T) {
	for name, want := range map[string]string{"git": "git", "example.org": "example.org.", "a.b.test": "a.b.test."} {
		if got := rooted(name); got != want {
			t.Errorf("%s: asked for %s, want %s", name, got, want)
		}
	}
}

// nameServer is one on the loopback whose every name is 192.0.2.7, or a silent one.
func nameServer(t *testing.T, answers bool) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if end := 12 + bytes.IndexByte(b[12:max(n, 12)], 0) + 5; answers && end >= 17 && end <= n {
				// The question, and to it one A record (RFC 1035 section 4.1).
				out := append([]byte{b[0], b[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0}, b[12:end]...)
				c.WriteTo(append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7), from)
			}
		}
	}()
	return c.LocalAddr().String()
}
