package egress

import (
	"net/netip"
	"slices"
)

// The shortest prefixes that are taken for a network of the host's own: a shorter
// one, as some tunnels have it, says where packets go and not who is there.
const (
	minLink4 = 8
	minLink6 = 32
)

// isOwn tells whether an address is one of the host's.
func isOwn(own []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(own, func(o netip.Prefix) bool { return unmapped(o).Addr() == a.Unmap() })
}

// linksOf gives the networks that the host has an interface on and an address
// lies in. What listens there often answers whoever is on the link, and IPv6
// gives every machine of a LAN a public address (RFC 4291 section 2.5.4): that
// nobody outside comes to it is a firewall's doing, which the host stands behind.
func linksOf(own []netip.Prefix, a netip.Addr) (out []netip.Prefix) {
	for _, o := range own {
		o = unmapped(o).Masked()
		least := minLink6
		if o.Addr().Is4() {
			least = minLink4
		}
		if least <= o.Bits() && o.Bits() < o.Addr().BitLen() && o.Contains(a.Unmap()) {
			out = append(out, o)
		}
	}
	return out
}

// unmapped is a prefix of IPv4 in IPv6 as one of IPv4.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}
