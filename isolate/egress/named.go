package egress

import (
	"net/netip"
	"slices"
)

// denyName is deny for a name that a flow's first bytes tell, at every level.
func (p *Policy) denyName(name string, port uint16) (Verdict, bool) {
	for at := p; at != nil; at = at.Above {
		if v, ok := at.deny(func(r Rule) bool { return r.hasName(name) && r.hasPort(port) }, at != p); !ok {
			return v, false
		}
	}
	return Verdict{}, true
}

// deniesNames tells whether a name can be denied on the port, at some level.
func (p *Policy) deniesNames(port uint16) bool {
	for at := p; at != nil; at = at.Above {
		if at.deniesNamesHere(port) {
			return true
		}
	}
	return false
}

func (p *Policy) deniesNamesHere(port uint16) bool {
	return slices.ContainsFunc(p.Deny, func(r Rule) bool { return r.Name != "" && r.hasPort(port) })
}

// mustName tells whether the head of a flow has to name its host: always of one
// to a name; of one to an address where names are denied on the port, at a level
// that does not open the address by a rule. mend is the rule that would, if that
// alone does.
func (p *Policy) mustName(want string, a netip.Addr, port uint16) (mend string, must bool) {
	if want != "" {
		return "", true
	}
	for at := p; at != nil; at = at.Above {
		if !at.deniesNamesHere(port) || slices.ContainsFunc(at.Allow, func(r Rule) bool { return r.holds(a, port) }) {
			continue
		}
		if at != p {
			return "", true
		}
		mend, must = Rule{Prefix: netip.PrefixFrom(a, a.BitLen()), Low: port, High: port}.String(), true
	}
	return mend, must
}

// checkNamed decides about a host that is named in a flow to an address.
func (p *Policy) checkNamed(host string, port uint16) Verdict {
	if v, ok := p.denyName(host, port); !ok {
		return v
	}
	return Verdict{OK: true, Rule: "the host that it names is not denied"}
}

// isPublic tells whether no level limits the names to a list.
func (p *Policy) isPublic() bool {
	for at := p; at != nil; at = at.Above {
		if at.Net != NetPublic && at.Net != NetAny {
			return false
		}
	}
	return true
}

// hiddenName says why a hello with an encrypted one in it is refused, and what to
// do. Browsers send such an extension to every server, with random bytes where
// there is no second hello (GREASE, RFC 9849 section 6.2), made so that nobody
// between can tell which it is. Chromium has no switch of its own for that: it
// sends none below TLS 1.3 (setup_ech_grease in BoringSSL), nor with the policy.
func (p *Policy) hiddenName(port uint16) string {
	why := "the TLS hello may hide the name that counts (ECH, RFC 9849); turn that off in the program (Chromium: the policy EncryptedClientHelloEnabled = false, or --ssl-version-max=tls1.2)"
	if p.Net == NetAllow && (p.Above == nil || p.Above.isPublic()) && !p.deniesNames(port) {
		why += `, or set net = "public"`
	}
	return why
}
