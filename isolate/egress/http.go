package egress

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// An httpRequest is what counts of the head of an HTTP/1 request.
type httpRequest struct {
	host    string // in the form of NormalName, or an address
	connect bool   // it asks a proxy for a tunnel to the host
}

// HTTPHost gives the host that the HTTP/1 request which b begins with is for,
// without its port: a name in the form of NormalName, or an address. ErrMore: b
// ends before the head does. The syntax is that of RFC 9112 without its
// leniencies: where two servers could read two hosts, it is an error.
func HTTPHost(b []byte) (string, error) {
	r, err := parseRequest(b)
	return r.host, err
}

func parseRequest(b []byte) (httpRequest, error) {
	b = b[:min(len(b), MaxHead)]
	line, rest, err := headLine(b, len(b))
	if err != nil {
		return httpRequest{}, err
	}
	method, target, err := parseRequestLine(line)
	if err != nil {
		return httpRequest{}, err
	}
	var host string
	found := false
	for {
		if line, rest, err = headLine(rest, len(b)); err != nil {
			return httpRequest{}, err
		}
		if line == "" {
			break
		}
		name, value, err := parseField(line)
		if err != nil {
			return httpRequest{}, err
		}
		if !strings.EqualFold(name, "Host") {
			continue
		}
		if found {
			return httpRequest{}, errors.New("the HTTP request has two Host fields")
		}
		host, found = value, true
	}
	if !found {
		return httpRequest{}, errors.New("the HTTP request has no Host field")
	}
	return joinTarget(method, target, host)
}

// headLine cuts the first line of a head that is size bytes long so far. Only
// CR LF ends one: what takes a bare LF or CR for an end reads other lines.
func headLine(b []byte, size int) (line string, rest []byte, err error) {
	i := bytes.IndexByte(b, '\n')
	text := b
	if i >= 0 {
		text = b[:i]
	}
	cr := bytes.IndexByte(text, '\r')
	switch {
	case cr >= 0 && cr < len(text)-1, i >= 0 && cr < 0:
		return "", nil, errors.New("a line of the HTTP head does not end with CR LF")
	case i < 0 && size >= MaxHead:
		return "", nil, errors.New("the HTTP head is too long")
	case i < 0:
		return "", nil, ErrMore
	}
	for _, c := range text[:cr] {
		if c < ' ' && c != '\t' || c == 0x7f {
			return "", nil, errors.New("the HTTP head has a control byte")
		}
	}
	return string(text[:cr]), b[i+1:], nil
}

func parseRequestLine(line string) (method, target string, err error) {
	method, rest, _ := strings.Cut(line, " ")
	target, version, _ := strings.Cut(rest, " ")
	switch {
	case method == "PRI" && target == "*":
		return "", "", errors.New("it is HTTP/2 without TLS, of which rcc reads no names")
	case !isToken(method) || target == "" || strings.ContainsAny(line, "\t"):
		return "", "", errors.New("the HTTP request line is malformed")
	case version != "HTTP/1.1" && version != "HTTP/1.0":
		return "", "", errors.New("the HTTP request is not of version 1.0 or 1.1")
	}
	return method, target, nil
}

// parseField reads "name: value". A line that begins with white space, which
// some take for the rest of the line before (obs-fold), has no name.
func parseField(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) {
		return "", "", errors.New("a field of the HTTP head is malformed")
	}
	return name, strings.Trim(value, " \t"), nil
}

// isToken: RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(s[i])) {
			return false
		}
	}
	return s != ""
}

// joinTarget gives the one host that target and Host name. A target in absolute
// form wins over Host in some servers and not in others (RFC 9112 section 3.2.2).
func joinTarget(method, target, field string) (httpRequest, error) {
	host, err := hostOf(field)
	if err != nil {
		return httpRequest{}, fmt.Errorf("the Host of the HTTP request: %w", err)
	}
	r := httpRequest{host: host, connect: strings.EqualFold(method, "CONNECT")}
	authority := ""
	switch {
	case r.connect:
		authority = target
	case target[0] == '/', target == "*" && method == "OPTIONS":
		return r, nil
	default:
		scheme, rest, ok := strings.Cut(target, "://")
		if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" {
			return httpRequest{}, errors.New("the target of the HTTP request is malformed")
		}
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			rest = rest[:i]
		}
		authority = rest
	}
	second, err := hostOf(authority)
	switch {
	case err != nil:
		return httpRequest{}, fmt.Errorf("the target of the HTTP request: %w", err)
	case second != host:
		return httpRequest{}, fmt.Errorf("the HTTP request is for two hosts, %s and %s", second, host)
	}
	return r, nil
}

// hostOf gives the host of HOST or HOST:PORT.
func hostOf(authority string) (string, error) {
	host, port, colon := authority, "", false
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port, colon = authority[:i], authority[i+1:], true
	}
	if colon && (len(port) > 5 || strings.Trim(port, "0123456789") != "") {
		return "", errors.New("its port is not a number")
	}
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(inner)
	switch {
	case err == nil && a.Is6() == bracketed && a.Zone() == "":
		return a.String(), nil
	case err == nil || bracketed:
		return "", errors.New("it is not a name and not an address")
	}
	return NormalName(host)
}
