package egress

import (
	"net/netip"
	"slices"
	"sync"
)

// A block is a range of addresses that is not public.
type block struct {
	prefix netip.Prefix
	what   string // with its article and its source
	kind   blockKind
}

// blockKind is how a block may be opened.
type blockKind int

const (
	byRule blockKind = iota // by a rule in it
	byHand                  // by such a rule, which is never offered as a mend
	never                   // by no rule
)

// of says that something, an address or a prefix, lies in the block.
func (b *block) of(subject string) string { return subject + " is " + b.what }

// specials are the IANA special-purpose address registries (RFC 6890, as updated
// by RFC 8190) without what they call globally reachable and only relays or name
// servers need, and what belongs to one machine or cloud though it is routed.
// Where one lies in another the narrower counts: to open 169.254.0.0/16 does not
// open the metadata service in it.
//
// What gives out credentials is opened by who knows that by himself: the program
// that asks for it chooses what is denied, and so what a mend would offer.
//
// Transition mechanisms that carry an IPv4 address through somebody's relay are
// never opened: what they reach is not what the address says.
var specials = sync.OnceValue(func() []block {
	var out []block
	for kind, list := range [...][]struct{ prefix, what string }{
		byRule: {
			{"10.0.0.0/8", "a private address (RFC 1918)"},
			{"172.16.0.0/12", "a private address (RFC 1918)"},
			{"192.168.0.0/16", "a private address (RFC 1918)"},
			{"100.64.0.0/10", "a shared address (RFC 6598)"},
			{"169.254.0.0/16", "a link-local address (RFC 3927)"},
			{"192.0.0.0/24", "an address of IETF protocols (RFC 6890)"},
			{"192.0.2.0/24", "a documentation address (RFC 5737)"},
			{"198.51.100.0/24", "a documentation address (RFC 5737)"},
			{"203.0.113.0/24", "a documentation address (RFC 5737)"},
			{"192.88.99.0/24", "a relay of 6to4 (RFC 7526)"},
			{"240.0.0.0/4", "a reserved address (RFC 1112)"},

			// All but 2000::/3, the one global unicast block (RFC 4291 section 2.4, IANA).
			{"::/3", "not a global unicast address (RFC 4291)"},
			{"4000::/2", "not a global unicast address (RFC 4291)"},
			{"8000::/1", "not a global unicast address (RFC 4291)"},
			{"100::/64", "a discard-only address (RFC 6666)"},
			{"100:0:0:1::/64", "a dummy address (RFC 9780)"},
			{"2001::/23", "an address of IETF protocols (RFC 2928)"},
			{"2001:2::/48", "a benchmarking address (RFC 5180)"},
			{"2001:10::/28", "an ORCHID (RFC 4843)"},
			{"2001:20::/28", "an ORCHID (RFC 7343)"},
			{"2001:db8::/32", "a documentation address (RFC 3849)"},
			{"3fff::/20", "a documentation address (RFC 9637)"},
			{"5f00::/16", "a segment identifier (RFC 9602)"},
			{"fc00::/7", "a unique-local address (RFC 4193)"},
			{"fe80::/10", "a link-local address (RFC 4291)"},
			{"fec0::/10", "a site-local address (RFC 3879)"},
		},
		byHand: {
			// Where clouds give out the machine's credentials and settings.
			{"169.254.169.254/32", "a cloud's metadata service (EC2, GCE, Azure: IMDS)"},
			{"169.254.170.2/32", "a cloud's metadata service (ECS: task credentials)"},
			{"169.254.170.23/32", "a cloud's metadata service (EKS: Pod Identity)"},
			{"168.63.129.16/32", "a cloud's platform service (Azure: WireServer)"},
			{"100.100.100.200/32", "a cloud's metadata service (Alibaba ECS)"},
			{"192.0.0.192/32", "a cloud's metadata service (Oracle)"},
			{"fd00:ec2::254/128", "a cloud's metadata service (EC2: IMDS)"},
			{"fd00:ec2::23/128", "a cloud's metadata service (EKS: Pod Identity)"},
			{"fd20:ce::254/128", "a cloud's metadata service (GCE)"},
		},
		never: {
			{"0.0.0.0/8", "an address of \"this network\" (RFC 1122)"},
			{"0.0.0.0/32", "the unspecified address (RFC 1122)"},
			{"127.0.0.0/8", "a loopback address (RFC 1122)"},
			{"224.0.0.0/4", "a multicast address (RFC 5771)"},
			{"255.255.255.255/32", "the broadcast address (RFC 919)"},
			{Prefix4.String(), "an address that rcc gives to names (RFC 2544: not routed)"},
			{Prefix6.String(), "an address that rcc gives to names (RFC 4193)"},
			{"::/128", "the unspecified address (RFC 4291)"},
			{"::1/128", "a loopback address (RFC 4291)"},
			{"ff00::/8", "a multicast address (RFC 4291)"},
			{"64:ff9b:1::/48", "an address of a local NAT64 (RFC 8215)"},
			{"2001::/32", "an address of Teredo (RFC 4380)"},
			{"2002::/16", "an address of 6to4 (RFC 7526)"},
		},
	} {
		for _, s := range list {
			out = append(out, block{netip.MustParsePrefix(s.prefix), s.what, blockKind(kind)})
		}
	}
	// The narrowest first.
	slices.SortStableFunc(out, func(a, b block) int { return b.prefix.Bits() - a.prefix.Bits() })
	return out
})

// specialOf gives the narrowest special block that the whole prefix lies in,
// read as the IPv4 prefix that it carries if it carries one; nil: there is none.
func specialOf(p netip.Prefix) *block {
	if v4, ok := carried(p.Addr()); ok && p.Bits() >= 96 {
		p = netip.PrefixFrom(v4, p.Bits()-96)
	}
	all := specials()
	for i := range all {
		b := &all[i]
		if b.prefix.Bits() <= p.Bits() && b.prefix.Contains(p.Addr()) {
			return b
		}
	}
	return nil
}

// carriers are the /96 blocks whose addresses are IPv4 addresses in their last
// four bytes, and reach them where something translates.
var carriers = [...]netip.Addr{
	netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b}), // 64:ff9b::/96, NAT64 (RFC 6052)
	netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}),  // ::ffff:0:0/96, mapped (RFC 4291 section 2.5.5.2)
	netip.AddrFrom16([16]byte{8: 0xff, 9: 0xff}),    // ::ffff:0:0:0/96, translated (RFC 2765)
	netip.AddrFrom16([16]byte{}),                    // ::/96, compatible (RFC 4291 section 2.5.5.1)
}

// carried gives the IPv4 address that an address is nothing but a form of.
func carried(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() || a == netip.IPv6Unspecified() || a == netip.IPv6Loopback() {
		return netip.Addr{}, false
	}
	b := a.As16()
	for _, c := range carriers {
		if front := c.As16(); [12]byte(b[:12]) == [12]byte(front[:12]) {
			return netip.AddrFrom4([4]byte(b[12:])), true
		}
	}
	return netip.Addr{}, false
}

// tunnelled gives the IPv4 address in an ISATAP interface identifier (RFC 5214
// section 6.1), which a router of the site sends the packet to.
func tunnelled(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	if !a.Is6() || b[8]&^0x02 != 0 || b[9] != 0 || b[10] != 0x5e || b[11] != 0xfe {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(b[12:])), true
}

// An end is one address that a flow would come to.
type end struct {
	addr  netip.Addr
	shown string // as the program or the name server spelled it, and what that is
}

// ends gives every address that has to be allowed for a to be: a itself, or the
// IPv4 address that it is a form of, or both.
func ends(a netip.Addr) []end {
	if v4, ok := carried(a); ok {
		if a.Is4In6() {
			return []end{{v4, v4.String()}}
		}
		return []end{{v4, a.String() + " stands for " + v4.String() + ", which"}}
	}
	if v4, ok := tunnelled(a); ok {
		return []end{{a, a.String()}, {v4, a.String() + " leads to " + v4.String() + ", which"}}
	}
	return []end{{a, a.String()}}
}
