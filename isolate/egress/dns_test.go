package egress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	typeHTTPS = dnsmessage.Type(65)
	typeANY   = dnsmessage.TypeALL
)

// ask is a query, whose name is given in labels of any bytes.
func ask(kind dnsmessage.Type, labels ...string) []byte {
	b := []byte{0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, l := range labels {
		b = append(append(b, byte(len(l))), l...)
	}
	return append(b, 0, byte(kind>>8), byte(kind), 0, 1)
}

func askName(kind dnsmessage.Type, name string) []byte {
	return ask(kind, strings.Split(name, ".")...)
}

// withOPT adds an OPT record.
func withOPT(q []byte, size uint16, version byte, flags uint16) []byte {
	q = bytes.Clone(q)
	q[11]++
	return append(q, 0, 0, 41, byte(size>>8), byte(size), 0, version, byte(flags>>8), byte(flags), 0, 0)
}

func parseReply(t *testing.T, b []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		t.Fatalf("the reply %x: %v", b, err)
	}
	if !m.Response || m.ID != 0x1234 {
		t.Errorf("the reply's head: %+v", m.Header)
	}
	return m
}

// shown is what a reply says: its code, and its answers or its SOA.
func shown(m dnsmessage.Message) string {
	out := strings.TrimPrefix(m.RCode.String(), "RCode")
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			out += " " + netip.AddrFrom4(b.A).String()
		case *dnsmessage.AAAAResource:
			out += " " + netip.AddrFrom16(b.AAAA).String()
		case *dnsmessage.PTRResource:
			out += " " + b.PTR.String()
		default:
			out += fmt.Sprintf(" %v", r.Header.Type)
		}
	}
	for _, r := range m.Authorities {
		out += fmt.Sprintf(" %v %d", r.Header.Type, r.Header.TTL)
	}
	return strings.ReplaceAll(out, "Type", "")
}

func TestResolver(t *testing.T) {
	var denied []string
	names := NewNames(100)
	for _, name := range []string{"example.org", "a.b.example.org"} {
		names.Assign(name)
	}
	r := &Resolver{
		Policy: &Policy{Net: NetAllow, Allow: rulesOf(t, "example.org:443", "*.b.example.org", "intranet")},
		Names:  names,
		Exists: func(context.Context, string) (bool, bool, error) {
			t.Error("mode allow asked the host")
			return true, true, nil
		},
		Denied: func(_ context.Context, name string, v Verdict) { denied = append(denied, name+": "+v.Rule+"; "+v.Mend) },
	}
	const refused = "NameError SOA 5"
	a, aaaa := dnsmessage.TypeA, dnsmessage.TypeAAAA
	for _, tt := range []struct {
		query  []byte
		want   string
		denied string
	}{
		{askName(a, "example.org"), "Success 198.18.0.16", ""},
		{askName(aaaa, "example.org"), "Success fd02:42c:be09::10", ""},
		{askName(a, "eXaMpLe.oRg"), "Success 198.18.0.16", ""},
		{askName(a, "a.b.example.org"), "Success 198.18.0.17", ""},
		{askName(a, "intranet"), "Success 198.18.0.18", ""},
		{askName(dnsmessage.TypeTXT, "example.org"), "Success SOA 60", ""},
		{askName(typeHTTPS, "example.org"), "Success SOA 60", ""},
		{askName(dnsmessage.TypeSOA, "example.org"), "Success SOA 60", ""},
		{askName(typeANY, "example.org"), "Success HINFO", ""},
		{askName(a, "b.example.org"), refused, "b.example.org: it is not in the allow list; b.example.org:443"},
		{askName(a, "secret.example.org"), refused, "secret.example.org: it is not in the allow list; secret.example.org:443"},
		{askName(dnsmessage.TypeTXT, "Secret.evil.example"), refused, "Secret.evil.example: it is not in the allow list; secret.evil.example:443"},
		{askName(a, "example.org.evil.example"), refused, "example.org.evil.example: it is not in the allow list; example.org.evil.example:443"},
		{askName(a, "gitserver"), refused, "gitserver: it is not in the allow list; gitserver:443"},
		{askName(aaaa, "gitserver"), refused, "gitserver: it is not in the allow list; gitserver:443"},
		{askName(dnsmessage.TypeTXT, "gitserver"), refused, ""},
		{askName(a, "localhost"), "Success 127.0.0.1", ""},
		{askName(aaaa, "db.LOCALHOST"), "Success ::1", ""},
		{askName(dnsmessage.TypeMX, "localhost"), "Success SOA 60", ""},
		{ask(dnsmessage.TypePTR, "16", "0", "18", "198", "in-addr", "arpa"), "Success example.org.", ""},
		{ask(dnsmessage.TypePTR, "99", "0", "18", "198", "in-addr", "arpa"), refused, ""},
		{ask(dnsmessage.TypePTR, "1", "0", "0", "127", "in-addr", "arpa"), "Success localhost.", ""},
		{ask(dnsmessage.TypePTR, "8", "8", "8", "8", "in-addr", "arpa"), refused, ""},
		{ask(dnsmessage.TypePTR, "16", "0", "18", "in-addr", "arpa"), refused, ""},
		{ask(dnsmessage.TypePTR, strings.Split("0.1."+strings.Repeat("0.", 14)+"9.0.e.b.c.2.4.0.2.0.d.f.ip6.arpa", ".")...), refused, ""},
		{ask(dnsmessage.TypePTR, strings.Split("0.1."+strings.Repeat("0.", 18)+"9.0.e.b.c.2.4.0.2.0.d.f.ip6.arpa", ".")...), "Success example.org.", ""},
		{ask(dnsmessage.TypeA, strings.Split("0.1."+strings.Repeat("0.", 18)+"9.0.e.b.c.2.4.0.2.0.d.f.ip6.arpa", ".")...), "Success SOA 60", ""},
		{ask(a, "exa\x00mple", "org"), refused, "exa\x00mple.org: it is not a name: '\\x00' is not a letter, a digit, - or _; "},
		{ask(a, "example\\046org"), refused, "example\\046org: it is not a name: '\\\\' is not a letter, a digit, - or _; "},
		{ask(a, "example.org"), "FormatError", ": the DNS query is malformed: its question cannot be read; "},
		{ask(a, "evil", "example.org"), "FormatError", ": the DNS query is malformed: its question cannot be read; "},
		{ask(a, "b\xc3\xbccher", "example"), refused, "bücher.example: it has other letters than ASCII; write its ASCII form xn--bcher-kva.example; "},
		{ask(a, "127", "1"), refused, "127.1: 127.1 is not a name but an address in an unusual form, or none; write it as 192.0.2.1; "},
		{ask(a, "93", "184", "216", "34"), refused, "93.184.216.34: 93.184.216.34 is not a name but an address in an unusual form, or none; write it as 192.0.2.1; "},
		{ask(a, "evil\n", "x"), refused, "evil\n.x: it is not a name: '\\n' is not a letter, a digit, - or _; "},
		{ask(a), "Refused", ""},
	} {
		denied = nil
		m := parseReply(t, r.Answer(t.Context(), tt.query, false))
		if got := shown(m); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.query[12:], got, tt.want)
		}
		if got := strings.Join(denied, "\n"); got != tt.denied {
			t.Errorf("%q: told %q, want %q", tt.query[12:], got, tt.denied)
		}
		if want := tt.query[12:]; m.RCode != dnsmessage.RCodeFormatError {
			if got := r.Answer(t.Context(), tt.query, true); !bytes.Equal(got[12:12+len(want)], want) {
				t.Errorf("%q: the question is echoed as %q", want, got[12:])
			}
		}
	}
}

// The errors of the protocol, and what gets no reply at all.
func TestResolverProtocol(t *testing.T) {
	r := &Resolver{Policy: &Policy{Net: NetPublic}, Names: NewNames(100)}
	good := askName(dnsmessage.TypeA, "example.org")
	with := func(at int, b ...byte) []byte {
		q := bytes.Clone(good)
		copy(q[at:], b)
		return q
	}
	class := func(c byte) []byte { return with(len(good)-1, c) }
	for what, tt := range map[string]struct {
		query []byte
		want  string // empty: no reply
	}{
		"good":             {good, "Success 198.18.0.16"},
		"a response":       {with(2, 0x81), ""},
		"a stub":           {good[:11], ""},
		"nothing":          {nil, ""},
		"only a head":      {good[:12], "FormatError"},
		"status":           {with(2, 0x11), "NotImplemented"},
		"update":           {with(2, 0x29), "NotImplemented"},
		"no question":      {with(4, 0, 0), "FormatError"},
		"two questions":    {with(4, 0, 2), "FormatError"},
		"many questions":   {with(4, 0xff, 0xff), "FormatError"},
		"an answer":        {with(6, 0, 1), "FormatError"},
		"an authority":     {with(8, 0, 1), "FormatError"},
		"a missing record": {with(10, 0, 1), "FormatError"},
		"truncated":        {with(2, 0x03), "FormatError"},
		"class chaos":      {class(3), "Refused"},
		"class any":        {class(255), "Refused"},
		"transfer":         {askName(dnsmessage.TypeAXFR, "example.org"), "Refused"},
		"ixfr":             {askName(251, "example.org"), "Refused"},
		"a loop":           {with(12, 0xc0, 12), "FormatError"},
		"a pointer away":   {with(12, 0xff, 0xff), "FormatError"},
		"a reserved label": {with(12, 0x40), "FormatError"},
		"a long name":      {ask(dnsmessage.TypeA, slices.Repeat([]string{strings.Repeat("a", 63)}, 4)...), "FormatError"},
		"EDNS":             {withOPT(good, 4096, 0, 0), "Success 198.18.0.16"},
		"EDNS 1":           {withOPT(good, 4096, 1, 0), "Success"},
		"EDNS twice":       {withOPT(withOPT(good, 512, 0, 0), 512, 0, 0), "FormatError"},
	} {
		out := r.Answer(t.Context(), tt.query, false)
		if tt.want == "" {
			if out != nil {
				t.Errorf("%s: replied %x", what, out)
			}
			continue
		}
		m := parseReply(t, out)
		if got := shown(m); got != tt.want {
			t.Errorf("%s: %s, want %s", what, got, tt.want)
		}
		if !m.RecursionAvailable || m.Authoritative || m.OpCode != dnsmessage.OpCode(tt.query[2]>>3&0xf) {
			t.Errorf("%s: %+v", what, m.Header)
		}
	}
	m := parseReply(t, r.Answer(t.Context(), withOPT(good, 4096, 1, 0x8000), false))
	if len(m.Additionals) != 1 {
		t.Fatalf("no OPT record: %+v", m)
	}
	h := m.Additionals[0].Header
	if h.ExtendedRCode(m.RCode) != rcodeBadVersion || h.Class != dnsPayload || !h.DNSSECAllowed() {
		t.Errorf("of EDNS 1: %+v", h)
	}
	if m = parseReply(t, r.Answer(t.Context(), good, false)); len(m.Additionals) != 0 {
		t.Error("an OPT record where none was sent")
	}
}

// No reply needs more than the 512 bytes that every client takes; if one does, it says so.
func TestResolverLongest(t *testing.T) {
	long := strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "." + strings.Repeat("d", 57) + ".org"
	r := &Resolver{Policy: &Policy{Net: NetPublic}, Names: NewNames(100)}
	if _, _, ok := r.Names.Assign(long); !ok || len(long) != maxName {
		t.Fatal(len(long))
	}
	pointer := ask(dnsmessage.TypePTR, strings.Split("0.1."+strings.Repeat("0.", 18)+"9.0.e.b.c.2.4.0.2.0.d.f.ip6.arpa", ".")...)
	for _, q := range [][]byte{pointer, askName(dnsmessage.TypeA, long), askName(dnsmessage.TypeTXT, long)} {
		out := r.Answer(t.Context(), withOPT(q, 0, 0, 0), false)
		if m := parseReply(t, out); m.Truncated || len(out) > dnsPlain || m.RCode != 0 {
			t.Errorf("%d bytes: %+v", len(out), m.Header)
		}
	}
	q, err := readQuery(pointer)
	if err != nil {
		t.Fatal(err)
	}
	q.size = 300
	a := r.resolve(t.Context(), q.question)
	if m := parseReply(t, q.reply(a, false)); !m.Truncated || len(m.Answers) != 0 {
		t.Errorf("over UDP: %+v", m.Header)
	}
	if m := parseReply(t, q.reply(a, true)); m.Truncated || len(m.Answers) != 1 {
		t.Errorf("over a stream: %+v", m.Header)
	}
}

// In mode public the host is asked, but for names that a rule lists (corpus A 24).
func TestResolverExists(t *testing.T) {
	var asked []string
	r := &Resolver{
		Policy: &Policy{Net: NetPublic, Allow: rulesOf(t, "*.listed.example"), Deny: rulesOf(t, "evil.example")},
		Names:  NewNames(100),
		Exists: func(_ context.Context, name string) (v4, v6 bool, err error) {
			asked = append(asked, name)
			if strings.HasPrefix(name, "broken") {
				return false, false, errors.New("no answer")
			}
			return strings.HasPrefix(name, "four"), strings.HasPrefix(name, "six"), nil
		},
	}
	for name, want := range map[string]string{
		"four.example": "Success 1", "six.example": "Success 1", "none.example": "NameError SOA 5", "broken.example": "ServerFailure",
		"none.listed.example": "Success 1", "evil.example": "NameError SOA 5", "single": "NameError SOA 5", "printer.local": "NameError SOA 5",
	} {
		if got := shown(parseReply(t, r.Answer(t.Context(), askName(dnsmessage.TypeA, name), false))); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	r.Answer(t.Context(), askName(dnsmessage.TypeTXT, "secret.four.example"), false)
	slices.Sort(asked)
	if got := strings.Join(asked, " "); got != "broken.example four.example none.example six.example" {
		t.Errorf("asked the host for %s", got)
	}
}

// When there are no addresses left, that is told and nothing is given twice.
func TestResolverFull(t *testing.T) {
	var told int
	r := &Resolver{
		Policy: &Policy{Net: NetAllow, Allow: rulesOf(t, "example.org", "a.example")}, Names: NewNames(1),
		Denied: func(context.Context, string, Verdict) { told++ },
	}
	first := shown(parseReply(t, r.Answer(t.Context(), askName(dnsmessage.TypeA, "example.org"), false)))
	second := shown(parseReply(t, r.Answer(t.Context(), askName(dnsmessage.TypeA, "a.example"), false)))
	if first != "Success 198.18.0.16" || second != "ServerFailure" || told != 1 {
		t.Errorf("%s, %s, told %d", first, second, told)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(askName(dnsmessage.TypeA, "example.org"))
	f.Add(withOPT(askName(dnsmessage.TypeAAAA, "a.b.Example.org"), 1232, 0, 0))
	f.Add(ask(dnsmessage.TypePTR, "16", "0", "18", "198", "in-addr", "arpa"))
	f.Add(ask(typeHTTPS, "a.b", "\x00"))
	f.Add(ask(typeANY, "localhost"))
	r := &Resolver{
		Policy: &Policy{Net: NetAllow, Allow: []Rule{{Name: "example.org"}, {Name: "example.org", Wild: true}}}, Names: NewNames(10),
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out := r.Answer(t.Context(), b, false)
		if out == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil {
			t.Fatalf("the reply %x: %v", out, err)
		}
		if len(out) > dnsPlain || !m.Response || binary.BigEndian.Uint16(b) != m.ID {
			t.Errorf("the reply of %d bytes: %+v", len(out), m.Header)
		}
		for _, a := range m.Answers {
			name := strings.TrimSuffix(lowerASCII(a.Header.Name.String()), ".")
			if name != "example.org" && !strings.HasSuffix(name, ".example.org") && !isLocalhost(name) && a.Header.Type != dnsmessage.TypePTR {
				t.Errorf("%q is answered", name)
			}
		}
	})
}
