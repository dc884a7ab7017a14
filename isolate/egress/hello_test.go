package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// realHello is what crypto/tls sends for a configuration.
func realHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		tls.Client(client, config).HandshakeContext(context.Background())
		client.Close()
	}()
	b := make([]byte, MaxHead)
	n, err := io.ReadAtLeast(server, b, 5)
	if err != nil {
		t.Fatal(err)
	}
	if want := 5 + int(binary.BigEndian.Uint16(b[3:])); n < want {
		if _, err := io.ReadFull(server, b[n:want]); err != nil {
			t.Fatal(err)
		}
		n = want
	}
	return b[:n]
}

// goServerName is the name that crypto/tls's server reads in a hello.
func goServerName(b []byte) (name string, ok bool) {
	stop := errors.New("seen")
	conn := &oneWay{Reader: bytes.NewReader(b)}
	tls.Server(conn, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = h.ServerName, true
		return nil, stop
	}}).Handshake()
	return name, ok
}

// oneWay is a connection whose other side only sends.
type oneWay struct{ io.Reader }

func (*oneWay) Write(b []byte) (int, error)      { return len(b), nil }
func (*oneWay) Close() error                     { return nil }
func (*oneWay) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*oneWay) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*oneWay) SetDeadline(time.Time) error      { return nil }
func (*oneWay) SetReadDeadline(time.Time) error  { return nil }
func (*oneWay) SetWriteDeadline(time.Time) error { return nil }

// What follows builds hellos, right and wrong.

func vec8(b ...byte) []byte { return append([]byte{byte(len(b))}, b...) }

func vec16(b ...byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

func extension(kind uint16, data ...byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), vec16(data...)...)
}

func sni(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(append(list, nameTypeHost), vec16([]byte(n)...)...)
	}
	return extension(extServerName, vec16(list...)...)
}

// helloOf is a ClientHello with extensions, in its handshake header.
func helloOf(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, vec8()...)
	body = append(body, vec16(0x13, 0x01, 0xc0, 0x2f)...)
	body = append(body, vec8(0)...)
	if extensions != nil {
		body = append(body, vec16(bytes.Join(extensions, nil)...)...)
	}
	return append([]byte{typeClientHello, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

func tlsRecord(fragment []byte) []byte {
	return append([]byte{recordHandshake, 3, 1}, vec16(fragment...)...)
}

// versions is an extension without which crypto/tls's server would take the hello for TLS 1.2.
var versions = extension(43, vec8(3, 4, 3, 3)...)

func TestServerName(t *testing.T) {
	split := func(n int, m []byte) (out []byte) {
		for ; len(m) > n; m = m[n:] {
			out = append(out, tlsRecord(m[:n])...)
		}
		return append(out, tlsRecord(m)...)
	}
	plain := helloOf(versions, sni("example.org"))
	for what, tt := range map[string]struct {
		hello []byte
		name  string
	}{
		"crypto/tls":             {realHello(t, &tls.Config{ServerName: "example.org"}), "example.org"},
		"crypto/tls 1.2":         {realHello(t, &tls.Config{ServerName: "example.org", MaxVersion: tls.VersionTLS12}), "example.org"},
		"crypto/tls without SNI": {realHello(t, &tls.Config{InsecureSkipVerify: true}), ""},
		"crypto/tls, an address": {realHello(t, &tls.Config{ServerName: "192.0.2.1"}), ""},
		"ours":                   {tlsRecord(plain), "example.org"},
		"upper case":             {tlsRecord(helloOf(sni("EXAMPLE.org"))), "example.org"},
		"no extensions":          {tlsRecord(helloOf()), ""},
		"an empty list of them":  {tlsRecord(helloOf([]byte{})), ""},
		"one byte a record":      {split(1, plain), "example.org"},
		"records of 7 bytes":     {split(7, plain), "example.org"},
		"more records behind":    {append(tlsRecord(plain), 20, 3, 3, 0, 1, 1), "example.org"},
		"garbage behind":         {append(tlsRecord(plain), "garbage"...), "example.org"},
		"as long as can be":      {split(maxRecord, helloOf(sni("example.org"), extension(21, make([]byte, 60000)...))), "example.org"},
		"record version 3.3":     {append([]byte{22, 3, 3}, tlsRecord(plain)[3:]...), "example.org"},
	} {
		name, err := ServerName(tt.hello)
		if err != nil || name != tt.name {
			t.Errorf("%s: %q, %v; want %q", what, name, err, tt.name)
		}
		if got, ok := goServerName(tt.hello); !ok || !strings.EqualFold(got, tt.name) {
			t.Errorf("%s: crypto/tls reads %q, %v", what, got, ok)
		}
		// Every beginning asks for more, and never decides otherwise.
		for i := range tt.hello {
			if i > 2000 {
				break
			}
			if got, err := ServerName(tt.hello[:i]); !errors.Is(err, ErrMore) && (err != nil || got != tt.name) {
				t.Errorf("%s: of %d bytes: %q, %v", what, i, got, err)
				break
			}
		}
	}
}

func TestServerNameRefuses(t *testing.T) {
	plain := helloOf(sni("example.org"))
	swap := func(at int, to byte) []byte {
		b := tlsRecord(plain)
		b[at] = to
		return b
	}
	for what, tt := range map[string]struct {
		hello []byte
		want  string
	}{
		"nothing of TLS":        {[]byte("GET / HTTP/1.1\r\n"), "not a TLS handshake"},
		"SSLv2":                 {[]byte{0x80, 46, 1, 3, 1, 0, 21, 0, 0, 0, 16}, "not a TLS handshake"},
		"an alert before":       {append([]byte{21, 3, 1, 0, 2, 1, 0}, tlsRecord(plain)...), "not a TLS handshake"},
		"record version":        {swap(1, 2), "unknown version"},
		"hello version":         {swap(9, 2), "unknown version"},
		"a server's hello":      {swap(5, 2), "ClientHello"},
		"another message first": {tlsRecord(append([]byte{0, 0, 0, 0}, plain...)), "ClientHello"},
		"another message after": {tlsRecord(append(bytes.Clone(plain), plain...)), "another message"},
		"an empty record":       {append(append(tlsRecord(plain[:9]), tlsRecord(nil)...), tlsRecord(plain[9:])...), "empty"},
		"a record too long":     {[]byte{22, 3, 1, 0x40, 1}, "too long"},
		"an alert between":      {append(append(tlsRecord(plain[:9]), 21, 3, 1, 0, 2, 1, 0), tlsRecord(plain[9:])...), "interrupted"},
		"too long":              {tlsRecord([]byte{1, 1, 0, 1}), "too long"},
		"cut extensions":        {tlsRecord(helloOf([]byte{0, 9, 0, 5})), "malformed"},
		"trailing bytes":        {tlsRecord(append([]byte{1, 0, 0, byte(len(plain) - 4 + 1)}, append(plain[4:], 0)...)), "malformed"},
		"two names":             {tlsRecord(helloOf(sni("example.org", "evil.example"))), "more than one"},
		"the same name twice":   {tlsRecord(helloOf(sni("example.org", "example.org"))), "more than one"},
		"no name":               {tlsRecord(helloOf(sni())), "malformed"},
		"empty extension":       {tlsRecord(helloOf(extension(0))), "malformed"},
		"an empty name":         {tlsRecord(helloOf(sni(""))), "1 to 253"},
		"another type of name":  {tlsRecord(helloOf(extension(0, vec16(append([]byte{1}, vec16([]byte("example.org")...)...)...)...))), "not a host name"},
		"bytes behind the list": {tlsRecord(helloOf(extension(0, append(vec16(append([]byte{0}, vec16([]byte("example.org")...)...)...), 0)...))), "malformed"},
		"two extensions":        {tlsRecord(helloOf(sni("example.org"), sni("evil.example"))), "extension 0 twice"},
		"another one twice":     {tlsRecord(helloOf(sni("example.org"), extension(43), extension(43))), "extension 43 twice"},
		"a dot at the end":      {tlsRecord(helloOf(sni("example.org."))), "dot"},
		"an address":            {tlsRecord(helloOf(sni("192.0.2.1"))), "unusual form"},
		"an IPv6 address":       {tlsRecord(helloOf(sni("::1"))), "not a letter"},
		"a NUL":                 {tlsRecord(helloOf(sni("example.org\x00.evil.example"))), "not a letter"},
		"letters":               {tlsRecord(helloOf(sni("bücher.example"))), "ASCII form"},
		"a control byte":        {tlsRecord(helloOf(sni("exa\x1bmple.org"))), "not a letter"},
	} {
		name, err := ServerName(tt.hello)
		if err == nil || errors.Is(err, ErrMore) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %q, %v; want %s", what, name, err, tt.want)
		}
	}
	// A hello that never ends is not waited for.
	start := tlsRecord([]byte{typeClientHello, 0, 0xff, 0})
	endless := append(start, bytes.Repeat(tlsRecord([]byte{1}), MaxHead/6)...)
	if _, err := ServerName(endless[:MaxHead-1]); !errors.Is(err, ErrMore) {
		t.Errorf("not at its end: %v", err)
	}
	if _, err := ServerName(endless); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("endless: %v", err)
	}
}

// disagree tells how a parser and crypto/tls read a hello differently. The parser
// may refuse more, but it never reads another name, nor none where there is one.
func disagree(parse func([]byte) (string, error), b []byte) string {
	ours, err := parse(b)
	theirs, ok := goServerName(b)
	switch {
	case err == nil && ok && ours != lowerASCII(theirs):
		return "read " + ours + ", crypto/tls reads " + theirs
	case errors.Is(err, ErrMore) && ok:
		return "wants more than crypto/tls, which reads " + theirs
	}
	return ""
}

// With a planted mistake the comparison of the fuzz target finds a difference.
func TestDisagree(t *testing.T) {
	hello := tlsRecord(helloOf(versions, sni("example.org")))
	if d := disagree(ServerName, hello); d != "" {
		t.Errorf("no mistake: %s", d)
	}
	first := func(b []byte) (string, error) { return "example.com", nil }
	none := func(b []byte) (string, error) { return "", nil }
	more := func(b []byte) (string, error) { return "", ErrMore }
	for what, parse := range map[string]func([]byte) (string, error){"another": first, "none": none, "more": more} {
		if disagree(parse, hello) == "" {
			t.Errorf("%s: not found", what)
		}
	}
}

func FuzzServerName(f *testing.F) {
	f.Add(realHello(f, &tls.Config{ServerName: "example.org"}))
	f.Add(realHello(f, &tls.Config{ServerName: "example.org", MaxVersion: tls.VersionTLS12}))
	f.Add(tlsRecord(helloOf(versions, sni("example.org", "evil.example"))))
	f.Add(tlsRecord(helloOf()))
	small := helloOf(versions, sni("a.example"))
	f.Add(append(tlsRecord(small[:20]), tlsRecord(small[20:])...))
	f.Add(append([]byte{21, 3, 1, 0, 2, 1, 0}, tlsRecord(small)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d := disagree(ServerName, b); d != "" {
			t.Error(d)
		}
		if SniffHead(b) == HeadOther {
			if name, ok := goServerName(b); ok {
				t.Errorf("passes as no TLS, and crypto/tls reads %q", name)
			}
		}
		if name, err := ServerName(b); err == nil && name != "" {
			if normal, err := NormalName(name); err != nil || normal != name {
				t.Errorf("%q is not a normal name", name)
			}
		}
	})
}
