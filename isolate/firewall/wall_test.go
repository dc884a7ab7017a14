package firewall

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseException(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3":            "10.1.2.3",
		"10.1.2.3/24":         "10.1.2.0/24",
		"10.1.2.3:80":         "10.1.2.3:80",
		"10.1.2.3/24:80-90":   "10.1.2.0/24:80-90",
		"10.1.2.3:80-80":      "10.1.2.3:80",
		"fd00::1":             "fd00::1",
		"fd00::":              "fd00::",
		"[::]":                "::",
		"[10.1.2.3]:80":       "10.1.2.3:80",
		"fd00::1/64":          "fd00::/64",
		"[fd00::1]:443":       "[fd00::1]:443",
		"[fd00::1/64]:443":    "[fd00::/64]:443",
		"[fd00::1]":           "fd00::1",
		"":                    "",
		"example.org":         "",
		"10.1.2":              "",
		"10.1.2.3/33":         "",
		"10.1.2.3:":           "",
		"10.1.2.3:0":          "",
		"10.1.2.3:65536":      "",
		"10.1.2.3:90-80":      "",
		"10.1.2.3:80-":        "",
		"10.1.2.3:-80":        "",
		"10.1.2.3:80\naccept": "",
		"0.0.0.0/0":           "",
		"::/0":                "",
		"::ffff:10.1.2.3":     "",
		"::ffff:10.0.0.0/104": "",
		"fe80::1%lo":          "",
		"[fd00::1":            "",
		"[fd00::1]443":        "",
		"[fd00::1]:":          "",
		"fd00::1]:443":        "",
		"10.1.2.3:+80":        "",
		"10.1.2.3:080":        "10.1.2.3:80",
		"10.1.2.3:80:90":      "",
	} {
		e, err := ParseException(text)
		if (err == nil) != (want != "") {
			t.Errorf("%q: %v, want %q", text, err, want)
			continue
		}
		if err != nil {
			if !strings.Contains(err.Error(), "expected an address or a range such as 10.1.2.0/24") {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if e.String() != want {
			t.Errorf("%q is %s, want %s", text, e, want)
		}
		if again, err := ParseException(e.String()); err != nil || again != e {
			t.Errorf("%s is read back as %s, %v", e, again, err)
		}
	}
}

func FuzzParseException(f *testing.F) {
	for _, s := range []string{"10.1.2.3", "10.1.2.3/24:80-90", "[fd00::1/64]:443", "fd00::1", "::ffff:1.2.3.4", "[", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseException(s)
		if err != nil {
			return
		}
		if again, err := ParseException(e.String()); err != nil || again != e {
			t.Errorf("%q is %s, and read back %s, %v", s, e, again, err)
		}
		if strings.ContainsAny(e.rule().String(), "\n\x00;#{}") {
			t.Errorf("%q makes the rule %q", s, e.rule())
		}
	})
}

// The sets are in order and apart, as the kernel wants intervals, and hold what
// is not public.
func TestPrivateRanges(t *testing.T) {
	for _, list := range [][]netip.Prefix{private4(), private6()} {
		if !slices.IsSortedFunc(list, netip.Prefix.Compare) {
			t.Errorf("not in order: %v", list)
		}
		for i, p := range list {
			if p != p.Masked() {
				t.Errorf("%s has bits behind its length", p)
			}
			if i > 0 && list[i-1].Overlaps(p) {
				t.Errorf("%s overlaps %s", list[i-1], p)
			}
		}
	}
	private := func(a netip.Addr) bool {
		return slices.ContainsFunc(slices.Concat(private4(), private6()), func(p netip.Prefix) bool { return p.Contains(a) })
	}
	for _, a := range strings.Fields(`0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.255
		168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8 192.168.1.1 198.18.0.1 198.19.255.255 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
		:: ::1 ::7f00:1 ::ffff:7f00:1 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b::c0a8:101 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001:0:1::1
		2002:a00:1:: 2002:c0a8:101::1 2002:7f00:1::1 fc00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1`) {
		if !private(netip.MustParseAddr(a)) {
			t.Errorf("%s is let through", a)
		}
	}
	for _, a := range strings.Fields(`1.0.0.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 168.63.129.15 168.63.129.17
		169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.1 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
		64:ff9b::808:808 2001:1::1 2001:4860::8888 2002:808:808::1 2606::1 2a00::1`) {
		if private(netip.MustParseAddr(a)) {
			t.Errorf("%s is refused", a)
		}
	}
}

func TestWallNeedsSomething(t *testing.T) {
	if _, err := (Wall{}).Table(); err == nil {
		t.Error("a wall that tells no flow was made")
	}
}
