package egress

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestSniffHead(t *testing.T) {
	for text, want := range map[string]HeadKind{
		"":     HeadMore,
		"\x16": HeadMore, "\x16\x03": HeadMore, "\x16\x03\x01\x00": HeadMore, "\x15\x03\x01": HeadMore, "\x16\x02": HeadMore, "\x16\x10": HeadOther,
		"\x16\x03\x01\x02\x00": HeadMore, "\x16\x03\x01\x02\x00\x01": HeadMore, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc": HeadTLS, "\x16\x0f\xff\x02\x00\x01\xff\x00\x00": HeadTLS,
		"\x16\x03\x01\x00\x01\x01": HeadTLS, "\x16\x03\x01\x00\x03\x01\x00": HeadMore, "\x16\x03\x01\x00\x03\x01\x00\x02": HeadTLS,
		"\x16\x03\x01\x02\x00\x02": HeadOther, "\x16\x03\x01\x02\x00\x01\x00\x00\x25": HeadOther, "\x16\x03\x01\x02\x00\x01\x00\x00\x26": HeadTLS, "\x16\x03\x01\x48\x01\x01\x00\x01\xfc": HeadOther,
		// What may precede a hello, and what does not.
		"\x15\x03\x01\x00\x02\x01\x00": HeadMore, "\x15\x03\x01\x00\x02\x01\x00\x16": HeadMore, "\x15\x03\x01\x00\x02\x01\x00\x16\x03\x01\x02\x00\x01\x00\x01\xfc": HeadTLS,
		"\x16\x03\x01\x00\x00": HeadMore, "\x16\x03\x01\x00\x00\x16\x03\x01\x02\x00\x01\x00\x01\xfc": HeadTLS, "\x14\x03\x01\x00\x01\x01\x16\x03\x01\x00\x01\x01": HeadTLS,
		"\x15\x03\x01\x00\x02\x01\x00x": HeadOther, "\x15\x03\x01\x00\x03": HeadOther, "\x15\x03\x01\x00\x00": HeadOther, "\x14\x03\x01\x00\x02": HeadOther,
		strings.Repeat("\x16\x03\x01\x00\x00", 1000): HeadMore, strings.Repeat("\x16\x03\x01\x00\x00", MaxHead): HeadTLS,
		"G": HeadMore, "GET ": HeadMore, "GET / HTTP/1.1": HeadMore, "GET / HTTP/1.1\r\n": HeadHTTP, "GET / HTTP/1.1\n": HeadHTTP,
		"\r\n\r\nGET / HTTP/1.1\r\n": HeadHTTP, " GET / HTTP/1.1\r\n": HeadHTTP, "get / http/1.1\r\n": HeadHTTP, "ODD\t/\tHTTP/1.1\r\n": HeadHTTP,
		"PRI * HTTP/2.0\r\n": HeadHTTP, "GET / x HTTP/9\r\n": HeadHTTP, "GET /\xff HTTP/1.1\r\n": HeadHTTP,
		"GET /\r\n": HeadOther, "EHLO example.org\r\n": HeadOther, "SSH-2.0-OpenSSH_9.2\r\n": HeadOther, "\r\n": HeadMore,
		"SSH-2.0-OpenSSH_9.2": HeadOther, "*1\r\n$4\r\nPING\r\n": HeadOther, "{\"a\":1}": HeadOther, "0032git-upload-pack /a\x00": HeadOther,
		"\x00\x03\x00\x00": HeadOther, "\x05\x01\x00": HeadOther, "0\x0c\x02\x01": HeadOther,
		// In the form of SSL 2.0, and what is not.
		"\x80": HeadMore, "\x80\x2e": HeadMore, "\x80\x2e\x01": HeadMore, "\x80\x2e\x01\x03": HeadTLS, "\x80\x2e\x01\x00\x02": HeadTLS, "\xc5\xff\x01\x03": HeadTLS,
		"\x80\x2e\x02": HeadOther, "\x94\x00\x01\xa4ping": HeadOther, "\xff\xfd\x01": HeadOther, "\xc3\xa4h": HeadOther,
		// What servers take that are not strict.
		"GET /\x01 HTTP/1.1\r\n": HeadHTTP, "G@T / HTTP/1.1\r\n": HeadHTTP, "\x01 GET / http/1.0\n": HeadHTTP, "\xffGET\x00 / HTTP/1.1\r\n": HeadHTTP,
		"<13>1 \"GET / HTTP/1.1\" 200\n": HeadOther, "GET /\x01 HTTP/x\n": HeadOther, "\x01HTTP/1.1\n": HeadOther, "HTTP/1.1 200 OK\r\n": HeadOther,
		// What is held until its line ends, and what is not.
		"PING": HeadMore, "M-SEARCH": HeadMore, "BASELINE_CONTROL *": HeadMore, " \r\n\tGET": HeadMore, "GET\t/": HeadMore, "GET \x01\x00": HeadMore, "GET\r": HeadMore,
		"hello": HeadOther, "Hello": HeadOther, "get / http/1.1": HeadOther, "-A": HeadOther, "G@T": HeadOther, "A\t": HeadOther, "AB ": HeadOther, "GET/": HeadOther, "[1]": HeadOther,
		strings.Repeat("A", 24): HeadMore, strings.Repeat("A", 24) + " ": HeadMore, strings.Repeat("A", 25): HeadOther,
		strings.Repeat("A", 25) + " / HTTP/1.1\r\n": HeadHTTP,
		"GET /" + strings.Repeat("E", MaxHead):      HeadHTTP, strings.Repeat("\n", MaxHead): HeadHTTP, "EHLO example.org\r\n" + strings.Repeat("E", MaxHead): HeadOther,
	} {
		if got := SniffHead([]byte(text)); got != want {
			t.Errorf("%.60q: %d, want %d", text, got, want)
		}
	}
}

// A message that begins with its own length, low byte first, as MongoDB's do, is
// no TLS, whatever that is.
func TestSniffLength(t *testing.T) {
	for size := 38; size < 1<<16; size++ {
		for _, request := range []uint32{0, 1, 5, 22, 255, 256, 300, 511, 70000} {
			b := make([]byte, 40)
			binary.LittleEndian.PutUint32(b, uint32(size))
			binary.LittleEndian.PutUint32(b[4:], request)
			binary.LittleEndian.PutUint32(b[12:], 2013) // OP_MSG
			if got := SniffHead(b); got != HeadOther {
				t.Fatalf("a message of %d bytes, request %d: %d", size, request, got)
			}
		}
	}
}

// Corpus A 25: what the first bytes name is what the flow is for.
func TestCheckHead(t *testing.T) {
	const host = "example.org"
	listed := &Policy{Net: NetAllow, Allow: rulesOf(t, "*.example.org", host, "93.184.216.34")}
	public := &Policy{Net: NetPublic}
	denying := &Policy{Net: NetPublic, Deny: rulesOf(t, "evil.example")}
	denyingWeb := &Policy{Net: NetPublic, Deny: rulesOf(t, "evil.example:443")}
	below := &Policy{Net: NetPublic, Above: denying}
	opening := &Policy{Net: NetPublic, Deny: denying.Deny, Allow: rulesOf(t, "93.184.216.34:443")}
	openBelow := &Policy{Net: NetPublic, Deny: denying.Deny, Allow: opening.Allow, Above: denying}
	named := func(names ...string) string { return string(tlsRecord(helloOf(versions, sni(names...)))) }
	get := func(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	nameless := string(tlsRecord(helloOf(versions)))
	hidden := string(tlsRecord(helloOf(versions, sni(host), extension(extEncryptedHello, 0))))
	const connect = "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"
	for _, tt := range []struct {
		p    *Policy
		want string
		port uint16
		head string
		ok   bool
	}{
		{listed, host, 443, named(host), true},
		{listed, host, 443, named("EXAMPLE.ORG"), true},
		{listed, host, 443, string(realHello(t, &tls.Config{ServerName: host})), true},
		{listed, host, 443, named("evil.example"), false},
		{listed, host, 443, named("a.example.org"), false}, // allowed too, but not the one that was asked for
		{listed, host, 443, named("example.org.evil.example"), false},
		{listed, host, 443, named("example.org."), false},
		{listed, host, 443, named("93.184.216.34"), false},
		{listed, host, 443, named(host, "evil.example"), false},
		{listed, host, 443, string(tlsRecord(helloOf(versions))), false},
		{listed, host, 443, hidden, false},
		{denying, host, 443, hidden, false},
		{below, host, 443, hidden, false},
		{public, host, 443, hidden, true},
		{listed, host, 443, get(host), false},
		{listed, host, 443, "SSH-2.0-x\r\n", false},
		{listed, host, 80, get(host), true},
		{listed, host, 80, get("Example.org:80"), true},
		{listed, host, 80, get("example.org."), true},
		{listed, host, 80, get("evil.example"), false},
		{listed, host, 80, get("93.184.216.34"), false},
		{listed, host, 80, named(host), false},
		{listed, host, 80, "PRI * HTTP/2.0\r\n\r\n", false},
		{listed, host, 80, "CONNECT example.org:80 HTTP/1.1\r\nHost: example.org\r\n\r\n", false},
		{listed, host, 80, "GET http://evil.example/ HTTP/1.1\r\nHost: example.org\r\n\r\n", false},
		{listed, host, 80, "\r\n" + get(host), false},
		{listed, host, 8443, named(host), true},
		{listed, host, 8443, named("evil.example"), false},
		{listed, host, 8443, get(host), true},
		{listed, host, 8443, get("evil.example"), false},
		{listed, host, 8443, "\r\n" + get("evil.example"), false},
		{listed, host, 8443, "\x15\x03\x01\x00\x02\x01\x00" + named("evil.example"), false},
		{listed, host, 8080, "GET /\x01 HTTP/1.1\r\nHost: evil.example\r\n\r\n", false},
		{listed, host, 8443, "\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + strings.Repeat("x", 37), false},
		{listed, host, 22, "SSH-2.0-x\r\n", true},
		{listed, host, 5432, "\x00\x00\x00\x08\x04\xd2\x16\x2f", true},
		{listed, "", 443, "", true},
		{public, "", 80, "GET / HTTP/1.1", true},
		{denying, "", 443, named("evil.example"), false},
		{denying, "", 443, named(host), true},
		{denying, "", 443, nameless, false},
		{denying, "", 8443, nameless, false},
		{public, "", 443, nameless, true},
		{opening, "", 443, nameless, true},
		{opening, "", 443, "SSH-2.0-x\r\n", true},
		{opening, "", 80, "SSH-2.0-x\r\n", false}, // opened on another port
		{opening, "", 443, named("evil.example"), false},
		{below, "", 443, nameless, false},
		{openBelow, "", 443, nameless, false},
		{denying, "", 80, get("evil.example"), false},
		{denying, "", 80, get("93.184.216.34:80"), true},
		{denying, "", 3128, connect, false},
		{public, "", 3128, connect, true},
		{below, "", 8080, get("evil.example"), false},
		{denying, "", 443, "SSH-2.0-x\r\n", false},
		{denying, "", 443, get(host), false},
		{denying, "", 80, "SSH-2.0-x\r\n", false},
		{denying, "", 80, named(host), false},
		{denying, "", 22, "SSH-2.0-x\r\n", true},
		{denyingWeb, "", 80, "SSH-2.0-x\r\n", true},
		{below, "", 443, "SSH-2.0-x\r\n", false},
		{public, "", 443, "SSH-2.0-x\r\n", true},
	} {
		v, err := tt.p.CheckHead([]byte(tt.head), tt.want, netip.MustParseAddr("93.184.216.34"), tt.port)
		if err != nil || v.OK != tt.ok || v.Rule == "" {
			t.Errorf("%s %q:%d %.90q: %+v, %v; want %v", tt.p.Net, tt.want, tt.port, tt.head, v, err, tt.ok)
		}
		if v.Mend != "" {
			mended := *tt.p
			mended.Allow = append(rulesOf(t, v.Mend), tt.p.Allow...)
			if v, err := mended.CheckHead([]byte(tt.head), tt.want, netip.MustParseAddr("93.184.216.34"), tt.port); err != nil || !v.OK {
				t.Errorf("%q:%d %.90q: mended by %v: %+v, %v", tt.want, tt.port, tt.head, mended.Allow[0], v, err)
			}
		}
		if mends := tt.want == "" && !v.OK && (tt.p == denying || tt.p == opening) && !strings.Contains(v.Rule, "evil"); (v.Mend != "") != mends {
			t.Errorf("%q:%d %.90q: %+v; has a mend, want %v", tt.want, tt.port, tt.head, v, mends)
		}
		for i := range len(tt.head) {
			part, err := tt.p.CheckHead([]byte(tt.head[:i]), tt.want, netip.MustParseAddr("93.184.216.34"), tt.port)
			if err != nil && !errors.Is(err, ErrMore) {
				t.Errorf("%q:%d %.90q: %v", tt.want, tt.port, tt.head[:i], err)
			}
			if err == nil && part.OK && !v.OK {
				t.Errorf("%q:%d: passes after %d bytes, and is refused as a whole: %.90q", tt.want, tt.port, i, tt.head)
			}
		}
	}
}

// Who is refused for a hidden name learns what to do about it, and nothing that
// does not help.
func TestCheckHeadHidden(t *testing.T) {
	hidden := tlsRecord(helloOf(versions, sni("example.org"), extension(extEncryptedHello, 0)))
	allow, deny := rulesOf(t, "example.org"), rulesOf(t, "evil.example:443")
	for what, tt := range map[string]struct {
		p      *Policy
		public bool // helps
	}{
		"allow":                      {&Policy{Net: NetAllow, Allow: allow}, true},
		"allow below any":            {&Policy{Net: NetAllow, Allow: allow, Above: &Policy{Net: NetAny}}, true},
		"allow with deny":            {&Policy{Net: NetAllow, Allow: allow, Deny: deny}, false},
		"allow below allow":          {&Policy{Net: NetAllow, Allow: allow, Above: &Policy{Net: NetAllow, Allow: allow}}, false},
		"public with deny":           {&Policy{Net: NetPublic, Deny: deny}, false},
		"public below allow":         {&Policy{Net: NetPublic, Above: &Policy{Net: NetAllow, Allow: allow}}, false},
		"public below any with deny": {&Policy{Net: NetPublic, Above: &Policy{Net: NetAny, Deny: deny}}, false},
	} {
		v, err := tt.p.CheckHead(hidden, "example.org", netip.Addr{}, 443)
		if err != nil || v.OK || !strings.Contains(v.Rule, "EncryptedClientHelloEnabled = false") || len(v.Rule) > maxText {
			t.Errorf("%s: %+v, %v", what, v, err)
		}
		if got := strings.HasSuffix(v.Rule, `, or set net = "public"`); got != tt.public {
			t.Errorf("%s: %s", what, v.Rule)
		}
		public := &Policy{Net: NetPublic, Deny: tt.p.Deny, Above: tt.p.Above}
		if v, err := public.CheckHead(hidden, "example.org", netip.Addr{}, 443); err != nil || v.OK != tt.public {
			t.Errorf("%s: in mode public: %+v, %v", what, v, err)
		}
	}
}

// With MaxHead bytes there is a verdict, whatever they are.
func TestCheckHeadEnds(t *testing.T) {
	p := &Policy{Net: NetAllow, Allow: rulesOf(t, "example.org")}
	for _, piece := range []string{"a", "A", "GET ", "\r\n", "\x16\x03\x01\x00\x01\x01", "GET / HTTP/1.1\r\nHost: example.org\r\nA: b\r\n", "\x16\x03"} {
		b := bytes.Repeat([]byte(piece), MaxHead/len(piece)+1)[:MaxHead]
		for _, port := range []uint16{80, 443, 8080} {
			if v, err := p.CheckHead(b, "example.org", netip.Addr{}, port); err != nil || v.OK != (port == 8080 && (piece == "a" || piece == "A" || piece == "\x16\x03")) {
				t.Errorf("%q on %d: %+v, %v", piece, port, v, err)
			}
		}
	}
}

func FuzzCheckHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"), uint16(80))
	f.Add(tlsRecord(helloOf(versions, sni("example.org"))), uint16(443))
	f.Add([]byte("\x80\x2e\x01\x03"), uint16(8443))
	f.Add([]byte("GET \x01\n HTTP/1.1\r\n"), uint16(8080))
	f.Add([]byte("\r\nget / http/1.0\n"), uint16(8080))
	p := &Policy{Net: NetAllow, Allow: []Rule{{Name: "example.org"}}}
	f.Fuzz(func(t *testing.T, b []byte, port uint16) {
		whole, err := p.CheckHead(b, "example.org", netip.Addr{}, port)
		if err != nil && !errors.Is(err, ErrMore) {
			t.Error(err)
		}
		if strings.ContainsFunc(whole.Rule, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("the verdict is not inert: %q", whole.Rule)
		}
		if port != 80 && port != 443 && SniffHead(b) != HeadTLS {
			line, _, _ := bytes.Cut(bytes.TrimLeft(b, " \t\r\n"), []byte{'\n'})
			if !beginsRequest(line) {
				return // what begins so is not held, and refused only as a whole
			}
		}
		// A beginning never passes where the whole is refused.
		for i := range min(len(b), 200) {
			if v, err := p.CheckHead(b[:i], "example.org", netip.Addr{}, port); err == nil && v.OK && !(whole.OK && whole.Rule != "") {
				t.Errorf("%d bytes pass, and all are refused: %+v", i, whole)
			}
		}
	})
}
