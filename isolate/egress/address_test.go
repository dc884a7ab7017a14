package egress

import (
	"net/netip"
	"strings"
	"testing"
)

// Corpus A 21 and 22: where an allowed name may not lead, in every form, and by
// which text that is told.
var forbidden = map[string]string{
	// A 21: loopback and its spellings, the unspecified address.
	"127.0.0.1": "loopback", "127.255.255.254": "loopback", "::1": "loopback", "0.0.0.0": "unspecified", "::": "unspecified", "0.1.2.3": "this network",
	"::ffff:127.0.0.1": "loopback", "::ffff:0.0.0.0": "unspecified", "::127.0.0.1": "loopback", "::ffff:0:127.0.0.1": "loopback",
	"64:ff9b::127.0.0.1": "loopback", "64:ff9b::7f00:1": "loopback", "64:ff9b::": "unspecified", "2002:7f00:1::1": "6to4", "2606::5efe:127.0.0.1": "loopback",
	"64:ff9b:1::7f00:1": "local NAT64", "2001::1": "Teredo", "2001:0:7f00:1::": "Teredo",

	// A 22: private, shared, link-local, metadata, multicast, NAT64, unique-local.
	"10.0.0.1": "RFC 1918", "10.255.255.255": "RFC 1918", "172.16.0.1": "RFC 1918", "172.31.255.255": "RFC 1918", "192.168.0.1": "RFC 1918",
	"::ffff:10.0.0.1": "RFC 1918", "::10.0.0.1": "stands for 10.0.0.1, which is a private", "::ffff:0:192.168.1.1": "RFC 1918",
	"64:ff9b::10.0.0.1": "64:ff9b::a00:1 stands for 10.0.0.1, which is a private", "64:ff9b::ac10:1": "RFC 1918",
	"2606:1:2:3:0:5efe:10.0.0.1": "leads to 10.0.0.1, which", "2606:1:2:3:200:5efe:10.0.0.1": "leads to 10.0.0.1, which",
	"100.64.0.1": "RFC 6598", "100.127.255.255": "RFC 6598", "64:ff9b::100.64.0.9": "RFC 6598",
	"169.254.0.1": "link-local", "fe80::1": "link-local", "febf::1": "link-local", "64:ff9b::169.254.1.1": "link-local",
	"169.254.169.254": "metadata", "::ffff:169.254.169.254": "metadata", "64:ff9b::a9fe:a9fe": "metadata", "169.254.170.2": "metadata",
	"fd00:ec2::254": "metadata", "fd20:ce::254": "metadata", "100.100.100.200": "metadata", "168.63.129.16": "Azure", "192.0.0.192": "metadata",
	"::ffff:168.63.129.16": "Azure",
	"224.0.0.1":            "multicast", "239.255.255.250": "multicast", "ff02::1": "multicast", "ff0e::1": "multicast", "::ffff:224.0.0.251": "multicast",
	"255.255.255.255": "broadcast", "240.0.0.1": "reserved", "254.1.1.1": "reserved",
	"fc00::1": "unique-local", "fdff::1": "unique-local", "fec0::1": "site-local",
	"192.0.0.1": "IETF", "192.0.2.1": "documentation", "198.51.100.1": "documentation", "203.0.113.1": "documentation", "192.88.99.1": "6to4",
	"198.18.0.1": "gives to names", "198.19.255.255": "gives to names", "fd02:42c:be09::10": "gives to names", "::ffff:198.18.0.16": "gives to names",
	"2001:db8::1": "documentation", "3fff::1": "documentation", "100::1": "discard", "5f00::1": "segment", "2001:2::1": "benchmark", "2001:10::1": "ORCHID",
	"2001:20::1": "ORCHID", "2001:1::1": "IETF", "2002:808:808::1": "6to4", "4000::1": "global unicast", "1::1": "global unicast", "e000::1": "global unicast",
	"64:ff9b:0:0:0:1:808:808": "global unicast", "100:0:0:1::1": "dummy",
}

// Their neighbours, which are public.
var publicTwins = []string{
	"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255",
	"169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
	"168.63.129.15", "1.0.0.0", "::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::8.8.8.8", "::ffff:0:8.8.8.8", "2606:1:2:3:0:5efe:8.8.8.8", "2000::1", "2606:2800:220::34",
	"2001:200::1", "2001:4860:4860::8888", "2003::1", "3ffe::1", "2606:1:2:3:100:5efe:10.0.0.1",
}

func TestMayDialForbidden(t *testing.T) {
	for what, p := range map[string]*Policy{
		"allow":  {Net: NetAllow, Allow: rulesOf(t, "example.org", "0.0.0.0/0", "::/0", "128.0.0.0/1", "8000::/1", "2000::/3")},
		"public": {Net: NetPublic},
		"above":  {Net: NetAllow, Allow: rulesOf(t, "10.0.0.0/8"), Above: &Policy{Net: NetPublic}},
	} {
		for text, want := range forbidden {
			a := netip.MustParseAddr(text)
			if what == "allow" && a.Unmap().Is6() && strings.HasPrefix(want, "global unicast") && a.As16()[0]&0x80 != 0 {
				continue // opened by a rule for just that block, 8000::/1
			}
			for _, v := range []Verdict{p.MayDial(a, 443, nil), p.MayReach(a, 443)} {
				if v.OK || !strings.Contains(v.Rule, want) && !(what == "above" && v.Rule == "it is not in the allow list") {
					t.Errorf("%s: %s: %+v, want %s", what, text, v, want)
				}
			}
		}
		for _, text := range publicTwins {
			a := netip.MustParseAddr(text)
			if v := p.MayDial(a, 443, nil); !v.OK {
				t.Errorf("%s: %s: %+v", what, text, v)
			}
			if v := p.MayReach(a, 443); !v.OK && what != "above" {
				t.Errorf("%s: reach %s: %+v", what, text, v)
			}
		}
	}
}

// A mend is an entry that opens just what was refused, or there is none.
func TestMayDialMend(t *testing.T) {
	for text := range forbidden {
		a := netip.MustParseAddr(text)
		v := (&Policy{Net: NetPublic}).MayDial(a, 5432, nil)
		if v.Mend == "" {
			if !strings.Contains(v.Rule, "no rule opens") && !strings.Contains(v.Rule, "by hand opens") {
				t.Errorf("%s: %+v", text, v)
			}
			continue
		}
		if _, err := ParseRule(v.Mend); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, net := range []string{NetPublic, NetAllow} {
			p := &Policy{Net: net, Allow: rulesOf(t, v.Mend)}
			if _, leads := tunnelled(a); !leads {
				if v := p.MayDial(a, 5432, nil); !v.OK {
					t.Errorf("%s: mended by %v: %+v", text, p.Allow, v)
				}
				if v := p.MayReach(a, 5432); !v.OK {
					t.Errorf("%s: mended by %v: %+v", text, p.Allow, v)
				}
			}
			if v := p.MayDial(a, 5433, nil); v.OK {
				t.Errorf("%s: the mend %v opens another port", text, p.Allow)
			}
			if v := p.MayDial(a, 5432, []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}); v.OK {
				t.Errorf("%s: the mend %v opens an address of the host", text, p.Allow)
			}
		}
	}
}

// What gives out credentials is offered to nobody, in no form of its address; who
// writes it down himself opens it.
func TestMetadataByHand(t *testing.T) {
	for _, text := range []string{
		"169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "192.0.0.192",
		"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2606::5efe:169.254.169.254",
	} {
		a := netip.MustParseAddr(text)
		for _, net := range []string{NetPublic, NetAllow} {
			p := &Policy{Net: net}
			if net == NetAllow && strings.Contains(text, "5efe") {
				p.Allow = rulesOf(t, "2606::/16")
			}
			for _, v := range []Verdict{p.MayDial(a, 80, nil), p.MayReach(a, 80)} {
				if v.OK || v.Mend != "" || !strings.HasSuffix(v.Rule, ", which only an entry written by hand opens") {
					t.Errorf("%s: %s: %+v", net, text, v)
				}
			}
		}
		p := &Policy{Net: NetPublic, Allow: rulesOf(t, text, "169.254.169.254", "2606::/16")}
		if v := p.MayReach(a, 80); !v.OK {
			t.Errorf("opened: %s: %+v", text, v)
		}
	}
	// Their neighbours have a mend as before.
	for _, text := range []string{"169.254.169.253", "fd00:ec2::253", "168.63.129.15"} {
		if v := (&Policy{Net: NetAllow}).MayReach(netip.MustParseAddr(text), 80); v.Mend == "" {
			t.Errorf("%s: %+v", text, v)
		}
	}
}

// A private range is opened only by a rule that lies in it.
func TestMayDialOpened(t *testing.T) {
	p := &Policy{Net: NetAllow, Allow: rulesOf(t, "10.1.0.0/16:5432", "[fd00:1::/32]:5432", "169.254.0.0/16", "8.0.0.0/5:22", "fe00::/8", "100.0.0.0/8")}
	for _, tt := range []struct {
		addr string
		port uint16
		ok   bool
	}{
		{"10.1.2.3", 5432, true},
		{"::ffff:10.1.2.3", 5432, true},
		{"64:ff9b::10.1.2.3", 5432, true},
		{"10.1.2.3", 5433, false},
		{"10.2.2.3", 5432, false},
		{"10.1.2.3", 22, false}, // 8.0.0.0/5 has it, and does not lie in it
		{"9.1.2.3", 22, true},
		{"fd00:1::5", 5432, true},
		{"fd00:2::5", 5432, false},
		{"169.254.1.1", 80, true},
		{"169.254.169.254", 80, false},
		{"fe80::1", 80, false},
		{"fd00:ec2::254", 5432, false},
		{"100.64.0.1", 80, false},
		{"100.1.0.1", 80, true},
	} {
		a := netip.MustParseAddr(tt.addr)
		if v := p.MayDial(a, tt.port, nil); v.OK != tt.ok {
			t.Errorf("%s:%d: %+v", tt.addr, tt.port, v)
		}
		p.Deny = rulesOf(t, "0.0.0.0/0", "::/0")
		if v := p.MayDial(a, tt.port, nil); v.OK || !strings.HasPrefix(v.Rule, "deny") {
			t.Errorf("denied: %s:%d: %+v", tt.addr, tt.port, v)
		}
		p.Deny = nil
	}
}

// A range that is denied is denied in every form of its addresses.
func TestMayDialDenied(t *testing.T) {
	p := &Policy{Net: NetPublic, Deny: rulesOf(t, "8.8.8.0/24:443", "64:ff9b::9.9.9.0/120")}
	for _, text := range []string{"8.8.8.8", "::ffff:8.8.8.8", "::8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::8.8.8.8", "2606::5efe:8.8.8.8", "64:ff9b::9.9.9.9"} {
		a := netip.MustParseAddr(text)
		if v := p.MayDial(a, 443, nil); v.OK || !strings.HasPrefix(v.Rule, "deny ") || v.Mend != "" {
			t.Errorf("%s: %+v", text, v)
		}
		if v := p.MayReach(a, 443); v.OK {
			t.Errorf("reach %s: %+v", text, v)
		}
		if v := p.MayDial(a, 80, nil); !v.OK && text != "64:ff9b::9.9.9.9" {
			t.Errorf("control: %s: %+v", text, v)
		}
	}
}

// The host's own addresses are refused though they are public and allowed (A 21).
func TestMayDialOwn(t *testing.T) {
	p := &Policy{Net: NetPublic, Allow: rulesOf(t, "93.184.216.34", "10.0.0.5", "2606::5")}
	own := prefixes("::ffff:93.184.216.34/124", "10.0.0.5/8", "2606::5/128", "fe80::1/64")
	for _, text := range []string{"93.184.216.34", "::ffff:93.184.216.34", "64:ff9b::93.184.216.34", "10.0.0.5", "::10.0.0.5", "2606::5", "2606::5efe:10.0.0.5"} {
		a := netip.MustParseAddr(text)
		if v := p.MayDial(a, 443, own); v.OK || !strings.Contains(v.Rule, "of this machine") || v.Mend != "" {
			t.Errorf("%s: %+v", text, v)
		}
		if v := p.MayDial(a, 443, nil); !v.OK && !strings.Contains(text, "5efe") {
			t.Errorf("control: %s: %+v", text, v)
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("2606::5%eth0"), netip.MustParseAddr("fe80::1%lo")} {
		if v := p.MayDial(a, 443, nil); v.OK {
			t.Errorf("%s: %+v", a, v)
		}
	}
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// Who is on a network of the host's is refused like a private address, though its
// own is public; the control is the same question on a host that is elsewhere.
func TestMayDialLinks(t *testing.T) {
	own := prefixes("2606:1:2:3::1/64", "93.184.216.34/24", "::ffff:94.1.1.1/112", "95.1.1.1/31", "96.1.1.1/32", "11.0.0.1/7", "2700::1/31", "2701::1/128", "12.0.0.1/8", "2a00::1/32", "10.1.0.1/16", "::/0")
	plain := &Policy{Net: NetPublic}
	for _, tt := range []struct {
		addr string
		near bool
	}{
		{"2606:1:2:3::99", true},
		{"2606:1:2:4::99", false},
		{"93.184.216.1", true},
		{"::ffff:93.184.216.1", true},
		{"64:ff9b::93.184.216.1", true},
		{"2606::5efe:93.184.216.1", true},
		{"93.184.217.1", false},
		{"94.1.1.2", true},
		{"94.2.1.1", false},
		{"95.1.1.0", true},
		{"95.1.1.2", false},
		{"96.1.1.2", false},
		{"11.0.0.2", false}, // too wide to be a network of machines
		{"12.0.0.2", true},
		{"2700::2", false},
		{"2701::2", false},
		{"2a00::2", true},
		{"2a00:1::2", false},
	} {
		a := netip.MustParseAddr(tt.addr)
		v := plain.MayDial(a, 443, own)
		if v.OK == tt.near || tt.near && !strings.HasSuffix(v.Rule, " lies in a network that this machine is on") {
			t.Errorf("%s: %+v", tt.addr, v)
		}
		if v := plain.MayDial(a, 443, nil); !v.OK {
			t.Errorf("control: %s: %+v", tt.addr, v)
		}
		named := &Policy{Net: NetAllow, Allow: rulesOf(t, "lan.example", "0.0.0.0/0", "::/0")}
		if v := named.MayDial(a, 443, own); v.OK == tt.near {
			t.Errorf("mode allow: %s: %+v", tt.addr, v)
		}
		if !tt.near {
			continue
		}
		mended := &Policy{Net: NetPublic, Allow: rulesOf(t, v.Mend)}
		if v := mended.MayDial(a, 443, own); !v.OK {
			t.Errorf("mended by %v: %s: %+v", mended.Allow, tt.addr, v)
		}
		if v := mended.MayDial(a, 444, own); v.OK {
			t.Errorf("%s: the mend %v opens another port", tt.addr, mended.Allow)
		}
		mended.Above = plain
		if v := mended.MayDial(a, 443, own); v.OK || v.Mend != "" || !strings.HasSuffix(v.Rule, "(the ceiling)") {
			t.Errorf("below a ceiling: %s: %+v", tt.addr, v)
		}
	}
	for rule, ok := range map[string]bool{"93.184.216.0/24": true, "93.184.216.0/28": true, "93.184.216.1": true, "93.184.216.128/25": false, "93.184.0.0/16": false} {
		p := &Policy{Net: NetAllow, Allow: rulesOf(t, rule)}
		if v := p.MayDial(netip.MustParseAddr("93.184.216.1"), 443, own); v.OK != ok {
			t.Errorf("rule %s: %+v", rule, v)
		}
		if v := p.MayDial(netip.MustParseAddr("93.184.216.34"), 443, own); v.OK {
			t.Errorf("rule %s opens the host's own address", rule)
		}
	}
	// A form of an IPv4 address leads to that unless the host is on a network of such forms.
	form := netip.MustParseAddr("64:ff9b::8.8.8.8")
	for _, p := range []*Policy{plain, {Net: NetAllow, Allow: rulesOf(t, "8.8.8.8", "64:ff9b::8.8.8.8")}} {
		if v := p.MayDial(form, 443, prefixes("64:ff9b::1/96")); v.OK || v.Mend != "" {
			t.Errorf("%+v", v)
		}
		if v := p.MayDial(form, 443, own); !v.OK {
			t.Errorf("control: %+v", v)
		}
	}
	// A private range is opened by a rule in it, also where the host is on a part of it.
	p := &Policy{Net: NetAllow, Allow: rulesOf(t, "10.0.0.0/8")}
	if v := p.MayDial(netip.MustParseAddr("10.1.2.3"), 443, own); !v.OK {
		t.Errorf("%+v", v)
	}
}

// Whatever is allowed without a rule is global unicast by the standard library's reckoning too.
func FuzzMayDial(f *testing.F) {
	for text := range forbidden {
		b := netip.MustParseAddr(text).As16()
		f.Add(b[:])
	}
	p := &Policy{Net: NetPublic}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		v := p.MayDial(a, 443, nil)
		if v.OK && a.Is4In6() != (a != a.Unmap()) {
			t.Errorf("%s: %+v", a, v)
		}
		u := a.Unmap()
		if v.OK && (!u.IsGlobalUnicast() || u.IsPrivate() || Synthetic(u)) {
			t.Errorf("%s: %+v", a, v)
		}
		if v.OK != p.MayDial(netip.AddrFrom16(a.As16()), 443, nil).OK {
			t.Errorf("%s: its mapped form is decided otherwise", a)
		}
		if v.OK && p.MayDial(a, 443, []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}).OK {
			t.Errorf("%s: allowed though it is the host's own", a)
		}
		if next := netip.PrefixFrom(u.Prev(), u.BitLen()-2); v.OK && next.Contains(u) && p.MayDial(a, 443, []netip.Prefix{next}).OK {
			t.Errorf("%s: allowed though the host is %s", a, next)
		}
	})
}
