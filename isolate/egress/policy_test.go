package egress

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
)

// rulesOf parses rules and says where they stand.
func rulesOf(t testing.TB, texts ...string) (out []Rule) {
	t.Helper()
	for _, text := range texts {
		r, err := ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func TestPolicyNames(t *testing.T) {
	deny := rulesOf(t, "*.bad.example.org", "mail.example.org:25")
	deny[0].From = "config.toml:4"
	allow := rulesOf(t, "example.org:443", "*.example.org", "mail.example.org", "10.0.0.0/8")
	allow[0].From = "remote origin"
	listed := &Policy{Net: NetAllow, Allow: allow, Deny: deny}
	public := &Policy{Net: NetPublic, NetFrom: "--net", Allow: rulesOf(t, "nas.local:80"), Deny: deny}
	for _, tt := range []struct {
		p    *Policy
		name string
		port uint16
		want Verdict
	}{
		{listed, "example.org", 443, Verdict{OK: true, Rule: "allow example.org:443 (remote origin)"}},
		{listed, "EXAMPLE.org.", 443, Verdict{OK: true, Rule: "allow example.org:443 (remote origin)"}},
		{listed, "example.org", 80, Verdict{Rule: "it is not in the allow list", Mend: "example.org:80"}},
		{listed, "a.example.org", 80, Verdict{OK: true, Rule: "allow *.example.org"}},
		{listed, "a.b.example.org", 80, Verdict{OK: true, Rule: "allow *.example.org"}},
		{listed, "xexample.org", 443, Verdict{Rule: "it is not in the allow list", Mend: "xexample.org:443"}},
		{listed, "badexample.org", 443, Verdict{Rule: "it is not in the allow list", Mend: "badexample.org:443"}},
		{listed, ".example.org", 443, Verdict{Rule: "it is not a name: a part between dots has 1 to 63 bytes"}},
		{listed, "example.org.evil.example", 443, Verdict{Rule: "it is not in the allow list", Mend: "example.org.evil.example:443"}},
		{listed, "a.bad.example.org", 443, Verdict{Rule: "deny *.bad.example.org (config.toml:4)"}},
		{listed, "bad.example.org", 443, Verdict{OK: true, Rule: "allow *.example.org"}},
		{listed, "mail.example.org", 25, Verdict{Rule: "deny mail.example.org:25"}},
		{listed, "mail.example.org", 587, Verdict{OK: true, Rule: "allow *.example.org"}},
		{listed, "10.0.0.1", 443, Verdict{Rule: "10.0.0.1 is not a name but an address in an unusual form, or none; write it as 192.0.2.1"}},
		{listed, "localhost", 443, Verdict{Rule: "localhost is the sandbox itself; --forward PORT reaches a port of the host's loopback"}},
		{public, "localhost", 443, Verdict{Rule: "localhost is the sandbox itself; --forward PORT reaches a port of the host's loopback"}},
		{public, "evil.example", 1, Verdict{OK: true, Rule: `net = "public" (--net)`}},
		{public, "a.bad.example.org", 1, Verdict{Rule: "deny *.bad.example.org (config.toml:4)"}},
		{public, "intranet", 80, Verdict{Rule: "intranet is a name of one label", Mend: "intranet:80"}},
		{public, "nas.local", 80, Verdict{OK: true, Rule: "allow nas.local:80"}},
		{public, "nas.local", 81, Verdict{Rule: "nas.local is not a name of the public DNS (RFC 6762)", Mend: "nas.local:81"}},
		{&Policy{Net: NetNone, NetFrom: "rcc.toml:1"}, "example.org", 443, Verdict{Rule: `net = "none" (rcc.toml:1)`}},
		{&Policy{Net: NetNone, Allow: allow}, "example.org", 443, Verdict{Rule: `net = "none"`}},
		{&Policy{}, "example.org", 443, Verdict{Rule: `"" is not a mode of the network`}},
		{&Policy{Net: "Public"}, "example.org", 443, Verdict{Rule: `"Public" is not a mode of the network`}},
		{&Policy{Net: NetAny}, "example.org", 443, Verdict{Rule: `"any" is not a mode of the network`}},
	} {
		if got := tt.p.MayConnect(tt.name, tt.port); got != tt.want {
			t.Errorf("%s %s:%d: %+v, want %+v", tt.p.Net, tt.name, tt.port, got, tt.want)
		}
		if tt.want.OK && !tt.p.MayResolve(tt.name).OK {
			t.Errorf("%s %s: allowed on port %d, and not resolved: %+v", tt.p.Net, tt.name, tt.port, tt.p.MayResolve(tt.name))
		}
		if tt.want.Mend != "" {
			mended := *tt.p
			mended.Allow = append(rulesOf(t, tt.want.Mend), tt.p.Allow...)
			if got := mended.MayConnect(tt.name, tt.port); !got.OK {
				t.Errorf("%s %s:%d: mended: %+v", tt.p.Net, tt.name, tt.port, got)
			}
		}
	}
}

// A name resolves when some port of it is allowed, and only then.
func TestMayResolve(t *testing.T) {
	for _, tt := range []struct {
		net, allow, deny string
		ok               bool
	}{
		{NetAllow, "example.org:8000-8080", "", true},
		{NetAllow, "example.org:8000-8080", "example.org:8000-8079", true},
		{NetAllow, "example.org:8000-8080", "example.org:8000-8080", false},
		{NetAllow, "example.org:8000-8080", "example.org:1-9000", false},
		{NetAllow, "example.org", "example.org:1-65534", true},
		{NetAllow, "example.org", "example.org:2-65535", true},
		{NetAllow, "example.org", "example.org:1-65535", false},
		{NetAllow, "example.org", "example.org", false},
		{NetAllow, "example.org:443", "example.org:443", false},
		{NetAllow, "*.example.org", "", false},
		{NetPublic, "", "example.org:443", true},
		{NetPublic, "", "example.org", false},
		{NetPublic, "10.0.0.0/8", "10.0.0.0/8", true},
	} {
		p := &Policy{Net: tt.net}
		if tt.allow != "" {
			p.Allow = rulesOf(t, tt.allow)
		}
		if tt.deny != "" {
			p.Deny = rulesOf(t, tt.deny)
		}
		v := p.MayResolve("example.org")
		some := false
		for port := 1; port <= 65535; port++ {
			some = some || p.MayConnect("example.org", uint16(port)).OK
		}
		if v.OK != tt.ok || some != tt.ok {
			t.Errorf("%+v: %+v, some port is %v", tt, v, some)
		}
	}
	if v := (&Policy{Net: NetAllow}).MayResolve("example.org"); v.Mend != "example.org:443" {
		t.Errorf("the mend is %q", v.Mend)
	}
}

// Corpus A 28: an empty list denies everything.
func TestEmptyAllowDeniesAll(t *testing.T) {
	for _, p := range []*Policy{{Net: NetAllow}, {Net: NetAllow, Allow: []Rule{}}, {Net: NetAllow, Above: &Policy{Net: NetPublic}}, {}, {Net: NetNone}} {
		for _, name := range []string{"example.org", "a.example.org", "localhost", "intranet"} {
			if p.MayResolve(name).OK || p.MayConnect(name, 443).OK {
				t.Errorf("%+v: %s", p, name)
			}
		}
		for _, text := range publicTwins {
			if v := p.MayReach(netip.MustParseAddr(text), 443); v.OK {
				t.Errorf("%+v: %s: %+v", p, text, v)
			}
		}
		if p.MayForward(5432).OK {
			t.Errorf("%+v: forwards", p)
		}
	}
	// The control: the same questions about what a list has.
	p := &Policy{Net: NetAllow, Allow: rulesOf(t, "example.org", "8.8.8.8"), Forward: []uint16{5432}}
	if !p.MayConnect("example.org", 443).OK || !p.MayReach(netip.MustParseAddr("8.8.8.8"), 443).OK || !p.MayForward(5432).OK {
		t.Error("nothing is allowed at all")
	}
}

// What the ceiling refuses no list below it allows, and no entry of one mends.
func TestPolicyCeiling(t *testing.T) {
	private := netip.MustParseAddr("10.0.0.1")
	wide := Policy{Net: NetPublic, Allow: rulesOf(t, "10.0.0.0/8", "example.org"), Forward: []uint16{5432}}
	deny := rulesOf(t, "example.org")
	deny[0].From = "/etc/rcc/policy.toml:3"
	for what, tt := range map[string]struct {
		above                  Policy
		connect, dial, forward string // the refusal; empty: allowed
	}{
		"any":    {Policy{Net: NetAny}, "", "", ""},
		"deny":   {Policy{Net: NetAny, Deny: deny}, "deny example.org (the ceiling, /etc/rcc/policy.toml:3)", "", ""},
		"public": {Policy{Net: NetPublic, NetFrom: "/etc/rcc/policy.toml:1"}, "", "10.0.0.1 is a private address (RFC 1918) (the ceiling, /etc/rcc/policy.toml:1)", ""},
		"allow": {
			Policy{Net: NetAllow, Allow: rulesOf(t, "a.example", "10.0.0.0/8"), Forward: []uint16{}},
			"it is not in the allow list (the ceiling)", "", "5432 is not in the list of forwarded ports (the ceiling)",
		},
		"none": {Policy{Net: NetNone}, `net = "none" (the ceiling)`, `net = "none" (the ceiling)`, `net = "none" (the ceiling)`},
		"zero": {Policy{}, `"" is not a mode of the network (the ceiling)`, `"" is not a mode of the network (the ceiling)`, `"" is not a mode of the network (the ceiling)`},
		"two": {
			Policy{Net: NetAny, Above: &Policy{Net: NetAny, Deny: deny}, Forward: []uint16{5432}},
			"deny example.org (the ceiling, /etc/rcc/policy.toml:3)", "", "",
		},
	} {
		p := wide
		p.Above = &tt.above
		for question, got := range map[string]struct {
			v    Verdict
			want string
		}{
			"connect": {p.MayConnect("example.org", 443), tt.connect},
			"resolve": {p.MayResolve("example.org"), tt.connect},
			"dial":    {p.MayDial(private, 443, nil), tt.dial},
			"reach":   {p.MayReach(private, 443), tt.dial},
			"forward": {p.MayForward(5432), tt.forward},
		} {
			if got.v.OK != (got.want == "") || !got.v.OK && (got.v.Rule != got.want || got.v.Mend != "") {
				t.Errorf("%s: %s: %+v, want %q", what, question, got.v, got.want)
			}
		}
	}
	// A policy below a wide ceiling allows nothing by it.
	p := &Policy{Net: NetAllow, Above: &wide}
	if p.MayConnect("example.org", 443).OK || p.MayReach(private, 443).OK || p.MayForward(5432).OK {
		t.Error("the ceiling allows by itself")
	}
}

// Policies pass between processes as JSON: nothing is lost, nil and empty Forward included.
func TestPolicyJSON(t *testing.T) {
	p := &Policy{
		Net: NetAllow, NetFrom: "config.toml:1", Allow: rulesOf(t, "*.example.org:1-2", "[fd00::/8]:443"), Deny: rulesOf(t, "10.0.0.1"),
		Above: &Policy{Net: NetAny, Forward: []uint16{}},
	}
	p.Allow[0].From = "--allow"
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back *Policy
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(p, back) {
		t.Errorf("%s: %+v, %v", b, back, err)
	}
}
