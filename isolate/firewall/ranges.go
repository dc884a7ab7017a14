package firewall

import (
	"net/netip"
	"slices"
)

// private4 and private6 are the addresses that are not public: the second wall
// has a list of its own, so that a mistake in the first wall's is not its own too.
// The sources are the registries of special-purpose addresses of the IANA (RFC
// 6890 and what updates it).
func private4() []netip.Prefix {
	return prefixes(
		"0.0.0.0/8",        // this network (RFC 791); connect(2) takes 0.0.0.0 for loopback
		"10.0.0.0/8",       // private (RFC 1918)
		"100.64.0.0/10",    // shared, behind a carrier's NAT (RFC 6598)
		"127.0.0.0/8",      // loopback (RFC 1122)
		"168.63.129.16/32", // metadata of virtual machines in Azure
		"169.254.0.0/16",   // link-local (RFC 3927); metadata of most clouds
		"172.16.0.0/12",    // private (RFC 1918)
		"192.0.0.0/24",     // protocol assignments (RFC 6890)
		"192.168.0.0/16",   // private (RFC 1918)
		"198.18.0.0/15",    // benchmarks (RFC 2544); the gate's own addresses
		"224.0.0.0/4",      // multicast (RFC 5771)
		"240.0.0.0/4",      // reserved, and broadcast (RFC 1112, RFC 919)
	)
}

func private6() []netip.Prefix {
	list := prefixes(
		"::/96",          // unspecified, loopback, IPv4-compatible (RFC 4291)
		"::ffff:0:0/96",  // IPv4-mapped (RFC 4291)
		"64:ff9b:1::/48", // translation inside a site (RFC 8215)
		"100::/64",       // discard (RFC 6666)
		"2001::/32",      // Teredo (RFC 4380): leads to any IPv4 address
		"fc00::/7",       // unique local (RFC 4193)
		"fe80::/10",      // link-local (RFC 4291)
		"fec0::/10",      // site-local (RFC 3879)
		"ff00::/8",       // multicast (RFC 4291)
	)
	for _, p := range private4() {
		list = append(list,
			embed(netip.MustParsePrefix("64:ff9b::/96"), p), // translated to IPv4 (RFC 6052)
			embed(netip.MustParsePrefix("2002::/16"), p))    // 6to4 (RFC 3056)
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return list
}

// embed puts an IPv4 prefix behind an IPv6 one.
func embed(outer, inner netip.Prefix) netip.Prefix {
	b, four := outer.Addr().As16(), inner.Addr().As4()
	copy(b[outer.Bits()/8:], four[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), outer.Bits()+inner.Bits())
}

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}
