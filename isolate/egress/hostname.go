package egress

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// The longest name and label (RFC 1035 section 2.3.4), in bytes of text.
const (
	maxName  = 253
	maxLabel = 63
)

// NormalName gives the one form of a host name that names are compared in:
// ASCII letters in lower case, digits, "-" and "_", labels of 1 to 63 bytes, 253
// bytes in all, no dot at the end. What is not such a name is an error, an
// address in any spelling among it; for a name in other letters the error tells
// its ASCII form (RFC 5891).
func NormalName(s string) (string, error) {
	name := strings.TrimSuffix(s, ".")
	if name == "" || len(name) > maxName {
		return "", errors.New("it is not a name: that has 1 to 253 bytes")
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			return "", foreignError(name)
		}
	}
	name = lowerASCII(name)
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
	}
	if endsInNumber(name) {
		return "", fmt.Errorf("%s is not a name but an address in an unusual form, or none; write it as 192.0.2.1", name)
	}
	return name, nil
}

func checkLabel(label string) error {
	if label == "" || len(label) > maxLabel {
		return errors.New("it is not a name: a part between dots has 1 to 63 bytes")
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("it is not a name: %q is not a letter, a digit, - or _", c)
		}
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return errors.New("it is not a name: a part between dots begins or ends with a hyphen")
	}
	return nil
}

func foreignError(name string) error {
	ascii, err := idna.Lookup.ToASCII(name)
	if err == nil {
		ascii, err = NormalName(ascii)
	}
	if err != nil || !utf8.ValidString(name) {
		return errors.New("it is not a name: it has other letters than ASCII, and no ASCII form")
	}
	return fmt.Errorf("it has other letters than ASCII; write its ASCII form %s", ascii)
}

// lowerASCII leaves bytes above 0x7f alone, unlike strings.ToLower, for which
// U+212A KELVIN SIGN is a k.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// endsInNumber is true for what inet_aton(3) and URL parsers read as an IPv4
// address, or fail to read as one: 127.1, 0x7f.1, 2130706433, 1.2.3.4.5 (WHATWG
// URL Standard, "ends in a number").
func endsInNumber(name string) bool {
	name = strings.TrimSuffix(name, ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	if hex, ok := strings.CutPrefix(lowerASCII(last), "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// isLocalhost: such names always mean loopback (RFC 6761 section 6.3), which in
// a sandbox is the sandbox's own.
func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// notPublic tells why a name is not one of the public DNS; empty: it is one.
// What resolves such names stands in the host's own network, and some of it is
// asked by multicast.
func notPublic(name string) string {
	if !strings.Contains(name, ".") {
		return name + " is a name of one label"
	}
	for _, special := range [...]struct{ name, source string }{
		{"local", "RFC 6762"},
		{"home.arpa", "RFC 8375"},
		{"internal", "reserved by ICANN in 2024"},
		{"onion", "RFC 7686"},
		{"alt", "RFC 9476"},
		{"invalid", "RFC 6761"},
	} {
		if strings.HasSuffix(name, "."+special.name) || name == special.name {
			return name + " is not a name of the public DNS (" + special.source + ")"
		}
	}
	return ""
}
