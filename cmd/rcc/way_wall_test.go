package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

// What the second wall refuses looks like a network that is broken.
func TestWithWall(t *testing.T) {
	for _, tt := range []struct {
		addr string
		err  error
		hint bool
	}{
		{"10.1.2.3:5432", syscall.EHOSTUNREACH, true},
		{"[fd00::1]:5432", syscall.EACCES, true},
		{"10.1.2.3:5432", syscall.ECONNREFUSED, false},
		{"10.1.2.3:5432", context.DeadlineExceeded, false},
		{"192.0.78.1:443", syscall.EHOSTUNREACH, false},
		{"[2600::1]:443", syscall.EACCES, false},
	} {
		var was error = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", tt.err)}
		_, err := withWall(func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, was })(t.Context(), netip.MustParseAddrPort(tt.addr))
		if hint := strings.HasSuffix(err.Error(), "refused by the second wall: rcc firewall status"); hint != tt.hint {
			t.Errorf("%s, %v: %v", tt.addr, tt.err, err)
		}
		if !tt.hint && !errors.Is(err, tt.err) {
			t.Errorf("%s: %v became %v", tt.addr, tt.err, err)
		}
	}
	c, _ := net.Pipe()
	got, err := withWall(func(context.Context, netip.AddrPort) (net.Conn, error) { return c, nil })(t.Context(), netip.MustParseAddrPort("10.1.2.3:1"))
	if got != c || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}
