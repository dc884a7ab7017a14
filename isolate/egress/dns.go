package egress

import (
	"context"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// A Resolver answers the DNS queries of a sandbox by the policy alone. Nothing of
// a query leaves it, but for names that nothing but mode "public" allows, of
// which Exists is asked.
type Resolver struct {
	Policy *Policy
	Names  *Names
	// Exists tells on the host whether a name has IPv4 and IPv6 addresses; neither
	// is an answer, not an error. nil: every allowed name exists.
	Exists func(ctx context.Context, name string) (v4, v6 bool, err error)
	// Denied is called before a refusal is answered, with the name as the program
	// wrote it (any bytes), or "" where it cannot be read. nil: nobody is told.
	// Addresses without a name are refused untold, and so is all but an address that
	// is asked about a name of one label: programs try those on their own.
	Denied func(ctx context.Context, name string, v Verdict)
}

// How long answers may be kept, in seconds. What is refused may be allowed soon.
const (
	ttlAddress = 60
	ttlEmpty   = 60
	ttlRefused = 5
)

// A dnsAnswer is what a question comes to: resources, or none and how long that holds.
type dnsAnswer struct {
	code  dnsmessage.RCode
	found []dnsmessage.ResourceBody
	ttl   uint32
}

// Answer gives the reply to a query, over UDP or a stream (without the length
// that precedes it there); nil: nothing is to be said.
//
// An allowed name has one A and one AAAA record, the addresses of Names, and
// nothing of any other type: no HTTPS record tells a key for encrypted hellos.
// Every other name does not exist.
func (r *Resolver) Answer(ctx context.Context, message []byte, stream bool) []byte {
	q, err := readQuery(message)
	if q == nil {
		return nil
	}
	if err != nil {
		r.denied(ctx, "", Verdict{Rule: "the DNS query is malformed: " + err.Error()})
		return q.reply(dnsAnswer{code: dnsmessage.RCodeFormatError}, stream)
	}
	if code := q.unsupported(); code != dnsmessage.RCodeSuccess {
		return q.reply(dnsAnswer{code: code}, stream)
	}
	return q.reply(r.resolve(ctx, q.question), stream)
}

func (r *Resolver) denied(ctx context.Context, name string, v Verdict) {
	if r.Denied != nil {
		r.Denied(ctx, name, v)
	}
}

func (r *Resolver) resolve(ctx context.Context, q dnsmessage.Question) dnsAnswer {
	spelled := strings.TrimSuffix(q.Name.String(), ".")
	name := lowerASCII(spelled)
	if isLocalhost(name) {
		return addresses(q.Type, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	}
	if a, ok := reversed(name); ok {
		return r.reverse(q.Type, a)
	}
	if v := r.Policy.MayResolve(name); !v.OK {
		_, err := NormalName(name)
		if address := q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeAAAA; address || err != nil || strings.Contains(name, ".") {
			r.denied(ctx, spelled, v)
		}
		return dnsAnswer{code: dnsmessage.RCodeNameError, ttl: ttlRefused}
	}
	if q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeAAAA {
		return addresses(q.Type, netip.Addr{}, netip.Addr{})
	}
	return r.assign(ctx, q.Type, name)
}

// assign answers for an allowed name. It has both addresses whichever the name
// has: the host connects by what it finds.
func (r *Resolver) assign(ctx context.Context, kind dnsmessage.Type, name string) dnsAnswer {
	listed, exact := r.Policy.lists(name)
	if r.Exists != nil && !listed {
		v4, v6, err := r.Exists(ctx, name)
		switch {
		case err != nil:
			return dnsAnswer{code: dnsmessage.RCodeServerFailure}
		case !v4 && !v6:
			return dnsAnswer{code: dnsmessage.RCodeNameError, ttl: ttlRefused}
		}
	}
	v4, v6, ok := r.Names.assign(name, exact)
	if !ok {
		r.denied(ctx, name, Verdict{Rule: "too many names were asked for; no address is left to stand for it"})
		return dnsAnswer{code: dnsmessage.RCodeServerFailure}
	}
	return addresses(kind, v4, v6)
}

// addresses answers with what there is of the type.
func addresses(kind dnsmessage.Type, v4, v6 netip.Addr) dnsAnswer {
	switch kind {
	case dnsmessage.TypeA:
		return found(&dnsmessage.AResource{A: v4.As4()})
	case dnsmessage.TypeAAAA:
		return found(&dnsmessage.AAAAResource{AAAA: v6.As16()})
	case dnsmessage.TypeALL:
		// One HINFO record says that nobody lists everything (RFC 8482 section 4.2).
		return found(&dnsmessage.UnknownResource{Type: dnsmessage.TypeHINFO, Data: []byte("\x07RFC8482\x00")})
	}
	return dnsAnswer{ttl: ttlEmpty}
}

func found(body dnsmessage.ResourceBody) dnsAnswer {
	return dnsAnswer{found: []dnsmessage.ResourceBody{body}, ttl: ttlAddress}
}

// reverse answers for an address, of which the sandbox knows its own.
func (r *Resolver) reverse(kind dnsmessage.Type, a netip.Addr) dnsAnswer {
	name, ok := r.Names.Lookup(a)
	if a.IsLoopback() {
		name, ok = "localhost", true
	}
	pointer, err := dnsmessage.NewName(name + ".")
	switch {
	case !ok || err != nil:
		return dnsAnswer{code: dnsmessage.RCodeNameError, ttl: ttlRefused}
	case kind != dnsmessage.TypePTR:
		return dnsAnswer{ttl: ttlEmpty}
	}
	return found(&dnsmessage.PTRResource{PTR: pointer})
}

// reversed reads a name below in-addr.arpa (RFC 1035 section 3.5) or ip6.arpa
// (RFC 3596 section 2.5). The address is invalid if it is not a whole one.
func reversed(name string) (netip.Addr, bool) {
	if front, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(front, ".")
		if len(labels) != 4 {
			return netip.Addr{}, true
		}
		a, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		if err != nil {
			return netip.Addr{}, true
		}
		return a, true
	}
	front, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(front) != 63 {
		return netip.Addr{}, ok
	}
	var text strings.Builder // 32 digits with a colon after each four
	for i := 62; i >= 0; i -= 2 {
		if text.WriteByte(front[i]); i%8 == 0 && i > 0 {
			text.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(text.String())
	if err != nil || strings.Count(front, ".") != 31 {
		return netip.Addr{}, true
	}
	return a, true
}
