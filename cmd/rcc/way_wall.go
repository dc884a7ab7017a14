package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"rcc/isolate/egress"
)

type dialFunc func(context.Context, netip.AddrPort) (net.Conn, error)

// withWall says of a private address, which only an entry of the user's opened,
// that the second wall may have refused it. A reject of nftables is an error of
// connect(2), for admin-prohibited EHOSTUNREACH by ICMP (icmp_err_convert in
// net/ipv4/icmp.c) and EACCES by ICMPv6 (tab_unreach in net/ipv6/icmp.c).
func withWall(dial dialFunc) dialFunc {
	return func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		c, err := dial(ctx, a)
		var errno syscall.Errno
		if !errors.As(err, &errno) || errno != syscall.EHOSTUNREACH && errno != syscall.EACCES || isPublic(a.Addr()) {
			return c, err
		}
		return nil, fmt.Errorf("%s, or refused by the second wall: rcc firewall status", errno.Error())
	}
}

// isPublic tells whether an address is reached without an entry for it.
func isPublic(a netip.Addr) bool {
	p := egress.Policy{Net: egress.NetPublic}
	return p.MayReach(a, 443).OK
}
