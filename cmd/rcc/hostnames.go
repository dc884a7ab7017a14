package main

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"
)

// serverTime is how long a name server of the host's has for an answer before the
// next one is asked. It is shorter than resolv.conf(5) has it by default, 5 s, so
// that all three that there can be have their two turns while the exit waits
// (egress.LookupTime).
const serverTime = 2 * time.Second

// resolveHost asks as the host's programs do: /etc/hosts, and the name servers of
// /etc/resolv.conf. The final dot keeps search domains out of it, but for a name of
// one label: that means nothing without them.
func resolveHost(ctx context.Context, name string) ([]netip.Addr, error) {
	return hostResolver(new(net.Dialer).DialContext).LookupNetIP(ctx, "ip", rooted(name))
}

func rooted(name string) string {
	if !strings.Contains(name, ".") {
		return name
	}
	return name + "."
}

// hostResolver is one that a silent name server does not stop.
func hostResolver(dial func(ctx context.Context, network, address string) (net.Conn, error)) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, serverTime)
		defer cancel()
		c, err := dial(ctx, network, address)
		switch c := c.(type) {
		case *net.UDPConn:
			return impatientUDP{c}, err
		case *net.TCPConn:
			return impatientTCP{c}, err
		}
		return c, err
	}}
}

// An impatientUDP is a socket whose deadline is never later than serverTime from
// when it is set. It stays a net.PacketConn, by which net tells how to talk.
type impatientUDP struct{ *net.UDPConn }

func (c impatientUDP) SetDeadline(t time.Time) error { return c.UDPConn.SetDeadline(soon(t)) }

type impatientTCP struct{ *net.TCPConn }

func (c impatientTCP) SetDeadline(t time.Time) error { return c.TCPConn.SetDeadline(soon(t)) }

func soon(t time.Time) time.Time {
	if limit := time.Now().Add(serverTime); t.IsZero() || t.After(limit) {
		return limit
	}
	return t
}
