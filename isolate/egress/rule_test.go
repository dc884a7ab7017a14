package egress

import (
	"strings"
	"testing"
)

func TestParseRule(t *testing.T) {
	for text, want := range map[string]string{
		"example.org":                  "",
		"Example.ORG.":                 "example.org",
		"example.org:443":              "",
		"example.org:8000-8080":        "",
		"example.org:443-443":          "example.org:443",
		"*.example.org":                "",
		"*.Example.org:22":             "*.example.org:22",
		"*.b.example.org":              "",
		"_sip._tcp.example.org":        "",
		"xn--bcher-kva.example":        "",
		"3.example.org":                "",
		"1e100.example":                "",
		"intranet:80":                  "",
		"93.184.216.34":                "",
		"93.184.216.34:443":            "",
		"93.184.216.34/32:443":         "93.184.216.34:443",
		"10.1.2.3/8":                   "10.0.0.0/8",
		"10.1.2.0/24:5432":             "",
		"0.0.0.0/0":                    "",
		"::/0":                         "",
		"[::/0]:443":                   "",
		"2606:2800:220::34":            "",
		"[2606:2800:220::34]":          "2606:2800:220::34",
		"[2606:2800:220::34]:443":      "",
		"[fd00::/8]:1-65535":           "",
		"::ffff:10.0.0.1":              "10.0.0.1",
		"[::ffff:10.0.0.0/104]:5432":   "10.0.0.0/8:5432",
		"::ffff:a00:1":                 "10.0.0.1",
		"169.254.169.254:80":           "",
		"FD00:EC2:0::254":              "fd00:ec2::254",
		"64:ff9b::/96":                 "",
		"a." + strings.Repeat("b", 63): "",
	} {
		r, err := ParseRule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if want == "" {
			want = text
		}
		if got := r.String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		if back, err := ParseRule(r.String()); err != nil || back != r {
			t.Errorf("%s is read back as %v, %v", r, back, err)
		}
	}
}

// What is not a rule is refused with what was expected.
func TestParseRuleRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "it is empty; write HOST",
		" example.org":                   "' ' is not a letter",
		"example.org ":                   "' ' is not a letter",
		"https://example.org/a?b":        "it is a URL; write example.org:443",
		"https://example.org:8443":       "it is a URL; write example.org:8443",
		"ssh://git@example.org/x":        "it is a URL; write example.org:22",
		"http://[2606::1]/":              "it is a URL; write [2606::1]:80",
		"ftp://example.org":              "it is a URL; write example.org",
		"file:///etc":                    "it is a URL; write HOST",
		"https://*/":                     "it is a URL; write HOST",
		"x://y://example.org":            "it is a URL; write HOST",
		"example.org/path":               "a rule has no path",
		"example.org:443/path":           "a rule has no path",
		"git@example.org":                "a rule has no user",
		"git@example.org:22":             "a rule has no user",
		"git@example.org:a/b":            "a rule has no user",
		"*":                              `mode "public"`,
		"*:443":                          `mode "public"`,
		"*.*.example.org":                "* stands only for whole labels at the front",
		"a.*.example.org":                "* stands only for whole labels at the front",
		"*a.example.org":                 "* stands only for whole labels at the front",
		"**.example.org":                 "* stands only for whole labels at the front",
		"*.":                             "1 to 253 bytes",
		"*.com":                          "*.com is too wide",
		"*.com.":                         "*.com is too wide",
		"*.10.0.0.1":                     "unusual form",
		"localhost":                      "--forward PORT",
		"LOCALHOST.:80":                  "--forward PORT",
		"a.localhost":                    "--forward PORT",
		"*.a.localhost":                  "--forward PORT",
		"127.0.0.1":                      "--forward PORT",
		"127.0.0.1:80":                   "--forward PORT",
		"127.0.0.0/8":                    "--forward PORT",
		"127.0.0.0/9":                    "--forward PORT",
		"::1":                            "--forward PORT",
		"[::1]:80":                       "--forward PORT",
		"::ffff:127.0.0.1":               "--forward PORT",
		"::ffff:127.0.0.0/104":           "--forward PORT",
		"64:ff9b::127.0.0.1":             "--forward PORT",
		"::127.0.0.1":                    "--forward PORT",
		"0.0.0.0":                        "unspecified",
		"0.0.0.0/8":                      "this network",
		"::":                             "unspecified",
		"224.0.0.0/4":                    "multicast",
		"ff02::1":                        "multicast",
		"255.255.255.255":                "broadcast",
		"198.18.0.0/15":                  "gives to names",
		"198.19.7.7":                     "gives to names",
		"fd02:42c:be09::/64":             "gives to names",
		"2002::/16":                      "6to4",
		"2002:7f00:1::1":                 "6to4",
		"fe80::1%eth0":                   "zone",
		"fe80::%1/10":                    "zone",
		"0x7f.1":                         "unusual form",
		"0x7f000001":                     "unusual form",
		"127.1":                          "unusual form",
		"2130706433":                     "unusual form",
		"0177.0.0.1":                     "unusual form",
		"1.2.3":                          "unusual form",
		"1.2.3.4.5":                      "unusual form",
		"1.2.3.4.":                       "unusual form",
		"256.1.1.1":                      "unusual form",
		"a.0x":                           "unusual form",
		"127.1/8":                        "is not an address",
		"10.0.0.0/33":                    "length of a prefix",
		"10.0.0.0/08":                    "length of a prefix",
		"10.0.0.0/-1":                    "length of a prefix",
		"10.0.0.0/":                      "length of a prefix",
		"[10.0.0.1":                      "a bracket is open",
		"[example.org]":                  "is not an address",
		"[fd00::]/8":                     "inside of the brackets",
		"[::2]x":                         "after a bracket",
		"[::2]:":                         "after a bracket",
		"1:2:3":                          "is not an address",
		"example.org:":                   "no port after the colon",
		"example.org:0":                  "is not a port",
		"example.org:65536":              "is not a port",
		"example.org:0443":               "is not a port",
		"example.org:+443":               "is not a port",
		"example.org:https":              "is not a port",
		"example.org:*":                  "is not a port",
		"example.org:443-":               "is not a port",
		"example.org:443-80":             "write 80-443",
		"bücher.example":                 "xn--bcher-kva.example",
		"BÜCHER.example:443":             "xn--bcher-kva.example",
		"*.bücher.example":               "xn--bcher-kva.example",
		"\u212aelvin.example":            "ASCII form kelvin.example",
		"１２７.0.0.1":                      "no ASCII form",
		"ex\u200dample.org":              "no ASCII form",
		"\xff.example.org":               "no ASCII form",
		"-a.example.org":                 "hyphen",
		"a-.example.org":                 "hyphen",
		"a..example.org":                 "1 to 63 bytes",
		".example.org":                   "1 to 63 bytes",
		"example.org..":                  "1 to 63 bytes",
		"exa\x00mple.org":                `'\x00' is not a letter`,
		"example.org\n":                  `'\n' is not a letter`,
		"exam\\ple.org":                  "is not a letter",
		strings.Repeat("b", 64) + ".org": "1 to 63 bytes",
		strings.Repeat("b.", 126) + "bb": "1 to 253 bytes",
		strings.Repeat("b.", 9000):       "too long",
	} {
		r, err := ParseRule(text)
		switch {
		case err == nil:
			t.Errorf("%q is the rule %v", text, r)
		case !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v; want %s", text, err, want)
		case strings.ContainsAny(err.Error(), "\n\x00\x1b") || len(err.Error()) > 1000:
			t.Errorf("%q: the error is not one plain line: %q", text, err)
		}
	}
}

func TestRulePrivate(t *testing.T) {
	for text, want := range map[string]bool{
		"10.0.0.0/8": true, "10.0.0.0/7": false, "192.168.1.1:80": true, "0.0.0.0/0": false, "::/0": false, "8.8.8.8": false,
		"fd00::/8": true, "fc00::/6": true, "2000::/3": false, "2606::/16": false, "168.63.129.16": true, "169.254.169.254": true,
		"example.org": false, "*.example.org": false, "100.64.0.0/10": true, "100.0.0.0/8": false, "64:ff9b::10.0.0.1": true,
	} {
		r, err := ParseRule(text)
		if err != nil || r.Private() != want {
			t.Errorf("%s: private is %v, want %v; %v", text, r.Private(), want, err)
		}
	}
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"example.org", "*.a.example.org:1-2", "[fd00::/8]:443", "10.0.0.0/8:1", "https://a@example.org:1/x", "bücher.example", "::ffff:1.2.3.4", "2130706433"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			for _, c := range err.Error() {
				if c < ' ' || c == 0x7f || c == 0xfffd {
					t.Errorf("%q: the error is not inert: %q", text, err)
				}
			}
			return
		}
		back, err := ParseRule(r.String())
		if err != nil || back != r {
			t.Errorf("%q is the rule %v, read back as %v, %v", text, r, back, err)
		}
		if (r.Name == "") != r.Prefix.IsValid() || r.Low > r.High || r.Wild && r.Name == "" {
			t.Errorf("%q: the rule is not one thing: %+v", text, r)
		}
	})
}
