package egress

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestHTTPHost(t *testing.T) {
	for head, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n":                                     "example.org",
		"GET / HTTP/1.0\r\nhost:EXAMPLE.org.\t\r\nAccept: */*\r\n\r\nbody":                "example.org",
		"POST /a?b=http://evil.example/ HTTP/1.1\r\nX: 1\r\nHOST: example.org:80\r\n\r\n": "example.org",
		"GET //evil.example/ HTTP/1.1\r\nHost: example.org\r\n\r\n":                       "example.org",
		"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n":                   "example.org",
		"GET HTTP://Example.org:80?x HTTP/1.1\r\nHost: example.org\r\n\r\n":               "example.org",
		"OPTIONS * HTTP/1.1\r\nHost: example.org\r\n\r\n":                                 "example.org",
		"M-SEARCH / HTTP/1.1\r\nHost: example.org\r\nX:\r\n\r\n":                          "example.org",
		"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n":               "example.org",
		"GET / HTTP/1.1\r\nHost: 192.0.2.1:8080\r\n\r\n":                                  "192.0.2.1",
		"GET / HTTP/1.1\r\nHost: [2606::1]:80\r\n\r\n":                                    "2606::1",
		"GET / HTTP/1.1\r\nHost: example.org\r\nX: \xff\r\n\r\n":                          "example.org",
	} {
		if got, err := HTTPHost([]byte(head)); err != nil || got != want {
			t.Errorf("%q: %q, %v", head, got, err)
		}
		for i := range strings.Index(head, "\r\n\r\n") + 3 {
			if got, err := HTTPHost([]byte(head[:i])); !errors.Is(err, ErrMore) {
				t.Errorf("%q: %q, %v", head[:i], got, err)
			}
		}
	}
}

func TestHTTPHostRefuses(t *testing.T) {
	const host = "Host: example.org\r\n"
	for head, want := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n":                                                        "no Host",
		"GET / HTTP/1.1\r\n" + host + host + "\r\n":                                     "two Host",
		"GET / HTTP/1.1\r\n" + host + "hOST: evil.example\r\n\r\n":                      "two Host",
		"GET / HTTP/1.1\r\nHost : example.org\r\n\r\n":                                  "field",
		"GET / HTTP/1.1\r\n" + host + " folded\r\n\r\n":                                 "field",
		"GET / HTTP/1.1\r\nX: a\r\n\tb\r\n" + host + "\r\n":                             "field",
		"GET / HTTP/1.1\r\n: x\r\n" + host + "\r\n":                                     "field",
		"GET / HTTP/1.1\r\nX\r\n" + host + "\r\n":                                       "field",
		"GET / HTTP/1.1\nHost: example.org\n\n":                                         "CR LF",
		"GET / HTTP/1.1\r\nHost: example.org\n\r\n":                                     "CR LF",
		"GET / HTTP/1.1\r\nHost: a\rHost: b\r\n\r\n":                                    "CR LF",
		"GET / HTTP/1.1\r\nHost: example.org\x00evil\r\n\r\n":                           "control",
		"GET / HTTP/1.1\r\nX: \x1b\r\n" + host + "\r\n":                                 "control",
		"GET / HTTP/1.1\r\nX: \x7f\r\n" + host + "\r\n":                                 "control",
		"GET / HTTP/1.1\r\nHost: example.org, evil.example\r\n\r\n":                     "not a letter",
		"GET / HTTP/1.1\r\nHost: example.org@evil.example\r\n\r\n":                      "not a letter",
		"GET / HTTP/1.1\r\nHost: example.org/\r\n\r\n":                                  "not a letter",
		"GET / HTTP/1.1\r\nHost: example.org:x\r\n\r\n":                                 "port",
		"GET / HTTP/1.1\r\nHost: example.org:80:80\r\n\r\n":                             "not a letter",
		"GET / HTTP/1.1\r\nHost: 0x7f.1\r\n\r\n":                                        "unusual form",
		"GET / HTTP/1.1\r\nHost: 2606::1\r\n\r\n":                                       "not a letter",
		"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n":                                           "",
		"GET / HTTP/1.1\r\nHost: [192.0.2.1]\r\n\r\n":                                   "not a name",
		"GET / HTTP/1.1\r\nHost: [fe80::1%25lo]\r\n\r\n":                                "not a name",
		"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n":                                          "",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n":                                               "1 to 253",
		"GET  / HTTP/1.1\r\n" + host + "\r\n":                                           "malformed",
		"GET /  HTTP/1.1\r\n" + host + "\r\n":                                           "version",
		"GET\t/ HTTP/1.1\r\n" + host + "\r\n":                                           "malformed",
		"GET /\tHTTP/1.1\r\n" + host + "\r\n":                                           "malformed",
		" GET / HTTP/1.1\r\n" + host + "\r\n":                                           "malformed",
		"\r\nGET / HTTP/1.1\r\n" + host + "\r\n":                                        "malformed",
		"GET / a HTTP/1.1\r\n" + host + "\r\n":                                          "version",
		"GET /\r\n" + host + "\r\n":                                                     "version",
		"GET / HTTP/2.0\r\n" + host + "\r\n":                                            "version",
		"GET / HTTP/1.2\r\n" + host + "\r\n":                                            "version",
		"GET / http/1.1\r\n" + host + "\r\n":                                            "version",
		"G(T / HTTP/1.1\r\n" + host + "\r\n":                                            "malformed",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                              "HTTP/2",
		"GET * HTTP/1.1\r\n" + host + "\r\n":                                            "target",
		"GET example.org HTTP/1.1\r\n" + host + "\r\n":                                  "target",
		"GET ftp://example.org/ HTTP/1.1\r\n" + host + "\r\n":                           "target",
		"GET http://evil.example/ HTTP/1.1\r\n" + host + "\r\n":                         "two hosts",
		"GET http://example.org@evil.example/ HTTP/1.1\r\n" + host + "\r\n":             "target",
		"GET http:///a HTTP/1.1\r\n" + host + "\r\n":                                    "target",
		"CONNECT evil.example:443 HTTP/1.1\r\n" + host + "\r\n":                         "two hosts",
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("a", MaxHead) + "\r\n" + host + "\r\n": "too long",
		"GET /" + strings.Repeat("a", MaxHead):                                          "too long",
	} {
		got, err := HTTPHost([]byte(head))
		if err == nil || errors.Is(err, ErrMore) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200q: %q, %v; want %s", head, got, err, want)
		}
	}
}

// Whatever HTTPHost reads, net/http reads too, or nothing at all.
func FuzzHTTPHost(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"))
	f.Add([]byte("GET http://example.org/ HTTP/1.1\r\nHost: example.org:80\r\n\r\n"))
	f.Add([]byte("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n"))
	f.Add([]byte("\r\nGET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"))
	f.Add([]byte("get x\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, err := HTTPHost(b)
		theirs, goErr := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if goErr != nil {
			return
		}
		if SniffHead(b) == HeadOther {
			t.Errorf("passes as no HTTP, and net/http reads the host %q", theirs.Host)
		}
		if err != nil {
			if errors.Is(err, ErrMore) {
				t.Errorf("wants more than net/http, which reads %q", theirs.Host)
			}
			return
		}
		if second, err := hostOf(theirs.Host); err != nil || second != ours {
			t.Errorf("read %q, net/http reads %q", ours, theirs.Host)
		}
	})
}
