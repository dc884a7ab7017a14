package egress

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// MaxHead is the length in bytes of the longest ClientHello and the longest HTTP
// head that are read; what is longer is refused.
const MaxHead = 64 << 10

// ErrMore is the error of a head that is not whole yet.
var ErrMore = errors.New("the head is not whole yet")

// moreOf is ErrMore, while more is read at all.
func moreOf(b []byte, what string) error {
	if len(b) >= MaxHead {
		return errors.New("the " + what + " is too long")
	}
	return ErrMore
}

// A HeadKind is what the first bytes of a flow look like.
type HeadKind int

const (
	HeadMore  HeadKind = iota // too few bytes to tell
	HeadTLS                   // a TLS handshake
	HeadHTTP                  // an HTTP request, of whatever version and form
	HeadOther                 // something else
)

// SniffHead tells what the first bytes of a flow look like. It is generous where
// a server may be. A text line that only resembles an HTTP request is HeadHTTP,
// and one that may become such a line is HeadMore until it ends: a request that
// is sent in pieces, with an unknown method or behind empty lines, is not taken
// for something else. (Text protocols end their lines; binary ones are told by
// their first control byte.)
func SniffHead(b []byte) HeadKind {
	if len(b) == 0 {
		return HeadMore
	}
	if looks, ok := sniffRecord(b); ok {
		return looks
	}
	// Servers skip empty lines before a request (RFC 9112 section 2.2).
	line, _, whole := bytes.Cut(bytes.TrimLeft(b, " \t\r\n"), []byte{'\n'})
	word := line
	if i := bytes.IndexAny(line, lineSpace); i >= 0 {
		word = line[:i]
	}
	switch {
	case len(word) > 0 && !isToken(string(word)) || bytes.ContainsFunc(line, isControl):
		return HeadOther
	case whole && resemblesRequest(line), !whole && len(b) >= MaxHead:
		return HeadHTTP
	case whole:
		return HeadOther
	}
	return HeadMore
}

// sniffRecord: a TLS record that is not application data. Go's server takes any
// version below 0x1000 in the first one, and warnings before the hello
// (crypto/tls, readRecordOrCCS).
func sniffRecord(b []byte) (HeadKind, bool) {
	switch {
	case b[0] < recordChangeCipher || b[0] > recordHandshake:
		return HeadOther, false
	case len(b) == 1:
		return HeadMore, true
	}
	return HeadTLS, b[1] < 0x10
}

// lineSpace is what servers part the words of a request line by (RFC 9112 section 3).
const lineSpace = " \t\v\f\r"

func isControl(r rune) bool { return r < ' ' && !strings.ContainsRune(lineSpace, r) }

// resemblesRequest: a word after the first begins with HTTP/, as a version does.
func resemblesRequest(line []byte) bool {
	words := bytes.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(lineSpace, r) })
	return len(words) > 1 && slices.ContainsFunc(words[1:], func(w []byte) bool {
		return len(w) >= 5 && strings.EqualFold(string(w[:5]), "HTTP/")
	})
}

// CheckHead decides about a flow by the first bytes that the program sent. want
// is the name that the flow is for, in the form of NormalName, or empty for a
// flow to the address a. ErrMore: read on and ask again with all bytes; with
// MaxHead of them it decides.
//
// A flow to a name has to be TLS with that name on port 443 and HTTP/1 with that
// host on port 80. On other ports that counts for what looks like TLS or HTTP; the
// rest passes. A flow to an address passes where no name is denied on the port.
// Where one is, its head must not name that; and it has to name a host, as one to
// a name has, unless a rule of Allow opens the address.
func (p *Policy) CheckHead(b []byte, want string, a netip.Addr, port uint16) (Verdict, error) {
	if want == "" && !p.deniesNames(port) {
		return Verdict{OK: true, Rule: "no name is denied"}, nil
	}
	kind := SniffHead(b)
	mend, must := p.mustName(want, a, port)
	switch {
	case kind == HeadMore:
		return Verdict{}, ErrMore
	case must && port == 443 && kind != HeadTLS:
		return Verdict{Rule: "only TLS is let through to port 443", Mend: mend}, nil
	case must && port == 80 && kind != HeadHTTP:
		return Verdict{Rule: "only HTTP/1 is let through to port 80", Mend: mend}, nil
	case kind == HeadOther:
		return Verdict{OK: true, Rule: "it is neither TLS nor HTTP"}, nil
	}
	named, why, err := p.headName(b, kind, want, port)
	switch {
	case errors.Is(err, ErrMore):
		return Verdict{}, ErrMore
	case err != nil:
		return Verdict{Rule: err.Error()}, nil
	case why != "":
		return Verdict{Rule: why}, nil
	case named == "" && must && want == "":
		return Verdict{Rule: "the TLS hello names no host, and some names are denied", Mend: mend}, nil
	case want == "":
		return p.checkNamed(named, port), nil
	case named == "":
		return Verdict{Rule: "the TLS hello names no host; it has to be " + want}, nil
	case named != want:
		return Verdict{Rule: "the flow is for " + want + ", and its first bytes name " + named}, nil
	}
	return Verdict{OK: true, Rule: "its first bytes name " + want}, nil
}

// headName gives the host that a head names, or why that cannot be relied on.
func (p *Policy) headName(b []byte, kind HeadKind, want string, port uint16) (named, why string, err error) {
	if kind == HeadTLS {
		h, err := parseHello(b)
		if err == nil && h.hidden && (!p.isPublic() || p.deniesNames(port)) {
			why = "the TLS hello hides the name that counts (ECH, RFC 9849); turn that off in the program"
		}
		return h.name, why, err
	}
	r, err := parseRequest(b)
	if err == nil && r.connect && want != "" {
		why = "a tunnel (HTTP CONNECT) could lead anywhere"
	}
	return r.host, why, err
}
