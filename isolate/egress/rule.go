package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Rule is one entry of an allow or deny list.
type Rule struct {
	Name      string       // a name as NormalName gives it; empty: an address rule
	Wild      bool         // "*." stands before Name: every name with at least one label more, never Name itself
	Prefix    netip.Prefix // the addresses of an address rule, masked, never IPv4 in IPv6
	Low, High uint16       // the ports, both inclusive; both 0: every port
	From      string       // where the rule stands, for a person ("config.toml:3", "--allow"); not part of its text
}

const ruleForms = "HOST, *.HOST, ADDRESS or CIDR, each with or without :PORT or :PORT-PORT"

// maxRule is longer than any rule: a name of 253 bytes, two ports.
const maxRule = 300

// ParseRule reads a rule: HOST, *.HOST, ADDRESS or CIDR, each with or without
// :PORT or :PORT-PORT; with a port an IPv6 address or CIDR stands in brackets:
//
//	example.org  *.example.org:443  192.0.2.1:22  10.1.2.0/24:5432-5433  [2001:db8::/32]:443
//
// A rule without a port is for every port. A wildcard needs a domain of two
// labels or more. An address rule never opens loopback, unspecified, multicast,
// broadcast and rcc's own addresses; one that has nothing else is refused. The
// error is one line that tells what was expected.
func ParseRule(text string) (Rule, error) {
	r, err := parseRule(text)
	if err != nil {
		if len(text) > maxRule {
			text = text[:maxRule]
		}
		return Rule{}, fmt.Errorf("cannot read the rule %q: %w", text, err)
	}
	return r, nil
}

func parseRule(text string) (Rule, error) {
	switch {
	case text == "":
		return Rule{}, errors.New("it is empty; write " + ruleForms)
	case len(text) > maxRule:
		return Rule{}, errors.New("it is too long; write " + ruleForms)
	case strings.Contains(text, "://"):
		return Rule{}, urlError(text)
	}
	host, ports, bracketed, err := splitPorts(text)
	if err != nil {
		return Rule{}, err
	}
	r, err := parseHost(host, bracketed)
	if err != nil {
		return Rule{}, err
	}
	if ports != "" {
		r.Low, r.High, err = parsePorts(ports)
	}
	return r, err
}

// urlError tells the rule that a URL stands for.
func urlError(text string) error {
	scheme, rest, _ := strings.Cut(text, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	port := map[string]string{"https": "443", "http": "80", "ssh": "22", "git": "9418", "wss": "443", "ws": "80"}[strings.ToLower(scheme)]
	if r, err := parseRule(rest); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && r.Low == 0 {
			r.Low, r.High = uint16(n), uint16(n)
		}
		return fmt.Errorf("it is a URL; write %s", r)
	}
	return errors.New("it is a URL; write " + ruleForms)
}

// splitPorts cuts the part after the host, without its colon. More than one
// colon outside of brackets is an IPv6 address without a port.
func splitPorts(text string) (host, ports string, bracketed bool, err error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		host, rest, closed := strings.Cut(inner, "]")
		ports, colon := strings.CutPrefix(rest, ":")
		switch {
		case !closed:
			return "", "", false, errors.New("a bracket is open; write [ADDRESS]:PORT")
		case strings.HasPrefix(rest, "/"):
			return "", "", false, fmt.Errorf("the length of a CIDR stands inside of the brackets; write [%s%s]", host, strings.TrimSuffix(rest, ":"))
		case rest != "" && !colon, colon && ports == "":
			return "", "", false, errors.New("after a bracket only :PORT or :PORT-PORT can stand")
		}
		return host, ports, true, nil
	}
	if strings.Count(text, ":") != 1 {
		return text, "", false, nil
	}
	host, ports, _ = strings.Cut(text, ":")
	if ports == "" {
		return "", "", false, errors.New("there is no port after the colon; without the colon it is every port")
	}
	return host, ports, false, nil
}

func parsePorts(text string) (low, high uint16, err error) {
	first, last, span := strings.Cut(text, "-")
	if low, err = parsePort(first); err != nil {
		return 0, 0, err
	}
	if !span {
		return low, low, nil
	}
	if high, err = parsePort(last); err != nil {
		return 0, 0, err
	}
	if low > high {
		return 0, 0, fmt.Errorf("the ports %d-%d are in the wrong order; write %d-%d", low, high, high, low)
	}
	return low, high, nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
		if i := strings.IndexByte(text, '/'); i > 0 {
			return 0, errors.New("a rule has no path; write " + ruleForms)
		}
		return 0, fmt.Errorf("%q is not a port; write a number from 1 to 65535, or leave it out for every port", text)
	}
	return uint16(n), nil
}

func parseHost(host string, bracketed bool) (Rule, error) {
	if strings.ContainsAny(host, "/%") || bracketed || looksLikeAddress(host) {
		p, err := parsePrefix(host)
		return Rule{Prefix: p}, err
	}
	name, wild := strings.CutPrefix(host, "*.")
	switch {
	case strings.ContainsRune(name, '*'):
		return Rule{}, errors.New("* stands only for whole labels at the front, as in *.example.org; mode \"public\" allows every name")
	case strings.ContainsRune(name, '@'):
		return Rule{}, errors.New("a rule has no user; write the host alone")
	}
	name, err := NormalName(name)
	switch {
	case err != nil:
		return Rule{}, err
	case wild && !strings.Contains(name, "."):
		return Rule{}, fmt.Errorf("*.%s is too wide: name a domain below it, as in *.example.%s", name, name)
	case isLocalhost(name):
		return Rule{}, fmt.Errorf("%s is the sandbox itself; a port of the host's loopback is reached by --forward PORT", name)
	}
	return Rule{Name: name, Wild: wild}, nil
}

// looksLikeAddress is true for what can only be meant as an address.
func looksLikeAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || strings.Contains(host, ":")
}

func parsePrefix(host string) (netip.Prefix, error) {
	addr, bits, cidr := strings.Cut(host, "/")
	a, err := netip.ParseAddr(addr)
	switch {
	case err != nil && cidr && !strings.Contains(addr, ":") && !endsInNumber(addr):
		return netip.Prefix{}, errors.New("a rule has no path; write " + ruleForms)
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is not an address; write it as 192.0.2.1 or 2001:db8::1", addr)
	case a.Zone() != "":
		return netip.Prefix{}, fmt.Errorf("an address with a zone is never reached; write %s", a.WithZone(""))
	}
	n := a.BitLen()
	if cidr {
		n, err = strconv.Atoi(bits)
		if err != nil || strconv.Itoa(n) != bits || n < 0 || n > a.BitLen() {
			return netip.Prefix{}, fmt.Errorf("%q is not the length of a prefix; write a number from 0 to %d", bits, a.BitLen())
		}
	}
	if a.Is4In6() && n >= 96 {
		a, n = a.Unmap(), n-96
	}
	p := netip.PrefixFrom(a, n).Masked()
	if b := specialOf(p); b != nil && b.kind == never {
		return netip.Prefix{}, fmt.Errorf("%s, which no rule opens; a port of the host's loopback is reached by --forward PORT", b.of(p.String()))
	}
	return p, nil
}

// String is the canonical text of the rule, without From; ParseRule reads it back.
func (r Rule) String() string {
	host := r.Name
	switch {
	case r.Wild:
		host = "*." + r.Name
	case r.Name == "" && r.Prefix.IsSingleIP():
		host = r.Prefix.Addr().String()
	case r.Name == "":
		host = r.Prefix.String()
	}
	if r.Low == 0 && r.High == 0 {
		return host
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if r.Low == r.High {
		return fmt.Sprintf("%s:%d", host, r.Low)
	}
	return fmt.Sprintf("%s:%d-%d", host, r.Low, r.High)
}

// Private tells whether the rule opens addresses that are refused without it,
// even in mode "public": private, shared, link-local and other special ones.
func (r Rule) Private() bool { return r.Name == "" && specialOf(r.Prefix) != nil }

// hasPort tells whether the rule is for the port.
func (r Rule) hasPort(port uint16) bool {
	return r.Low == 0 && r.High == 0 || r.Low <= port && port <= r.High
}

// hasName tells whether the rule is for the name, on some port.
func (r Rule) hasName(name string) bool {
	switch {
	case r.Name == "":
		return false
	case r.Wild:
		above, ok := strings.CutSuffix(name, r.Name)
		return ok && len(above) > 1 && above[len(above)-1] == '.'
	}
	return name == r.Name
}
