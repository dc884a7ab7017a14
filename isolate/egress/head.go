package egress

import (
	"errors"
	"net/netip"
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
			why = p.hiddenName(port)
		}
		return h.name, why, err
	}
	r, err := parseRequest(b)
	if err == nil && r.connect && want != "" {
		why = "a tunnel (HTTP CONNECT) could lead anywhere"
	}
	return r.host, why, err
}
