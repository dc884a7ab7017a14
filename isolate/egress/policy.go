package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The modes of a Policy.
const (
	NetNone   = "none"   // nothing
	NetAllow  = "allow"  // what Allow lists
	NetPublic = "public" // every public name and address, and what Allow lists
	NetAny    = "any"    // of a ceiling only: it limits nothing but by Deny and Forward
)

// A Policy is what a task may reach. The zero Policy allows nothing, and so does
// a mode that is not one of the above.
type Policy struct {
	Net     string // a mode
	NetFrom string // where Net stands, for a person; empty: nowhere
	Allow   []Rule // empty in mode "allow": nothing is allowed
	Deny    []Rule // wins over Allow
	// Forward lists the ports of the host's loopback that the task may reach. In
	// a ceiling those that it may at most, and nil is every port.
	Forward []uint16
	Above   *Policy // the ceiling: it has to allow it too; nil: there is none
}

// A Verdict is a decision and what it rests on.
type Verdict struct {
	OK   bool
	Rule string // what decided, for a person, as in `allow example.org:443 (--allow)` or `it is not in the allow list`
	Mend string // the entry of Allow that would allow it, as in `example.org:443`; empty: none can
}

// MayResolve decides whether a program learns an address for a name: whether it
// may connect to it on some port. Which one is not known yet: its Mend names 443.
func (p *Policy) MayResolve(name string) Verdict {
	name, v, ok := nameFor(name)
	if !ok {
		return v
	}
	for _, port := range p.edges(name, []uint16{443}) {
		if got := p.connect(name, port, false); got.OK {
			return got
		}
	}
	return p.connect(name, 443, false)
}

// edges lists ports so that whatever holds for the name on some port holds on
// one of them: where a rule for the name begins, or the one before it ended.
func (p *Policy) edges(name string, ports []uint16) []uint16 {
	for _, rules := range [][]Rule{p.Allow, p.Deny} {
		for _, r := range rules {
			if r.hasName(name) {
				ports = append(ports, max(r.Low, 1), max(r.High+1, 1))
			}
		}
	}
	if p.Above != nil {
		ports = p.Above.edges(name, ports)
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// MayConnect decides about a flow to a name and port.
func (p *Policy) MayConnect(name string, port uint16) Verdict {
	name, v, ok := nameFor(name)
	if !ok {
		return v
	}
	return p.connect(name, port, false)
}

// nameFor gives the normal form of a name, or the refusal of what can never be one.
func nameFor(name string) (normal string, v Verdict, ok bool) {
	normal, err := NormalName(name)
	switch {
	case err != nil:
		return "", Verdict{Rule: err.Error()}, false
	case isLocalhost(normal):
		return "", Verdict{Rule: normal + " is the sandbox itself; --forward PORT reaches a port of the host's loopback"}, false
	}
	return normal, Verdict{}, true
}

func (p *Policy) connect(name string, port uint16, ceiling bool) Verdict {
	if v, ok := p.above(func(c *Policy) Verdict { return c.connect(name, port, true) }); !ok {
		return v
	}
	if v, ok := p.open(ceiling); !ok {
		return v
	}
	named := func(r Rule) bool { return r.hasName(name) && r.hasPort(port) }
	if v, ok := p.deny(named, ceiling); !ok {
		return v
	}
	if i := slices.IndexFunc(p.Allow, named); i >= 0 {
		return Verdict{OK: true, Rule: "allow " + told(p.Allow[i], ceiling)}
	}
	mend := Rule{Name: name, Low: port, High: port}.String()
	why := notPublic(name)
	switch {
	case p.Net == NetAny || p.Net == NetPublic && why == "":
		return p.byNet()
	case p.Net == NetPublic:
		return p.refuse(why, mend, ceiling)
	}
	return p.refuse("it is not in the allow list", mend, ceiling)
}

// MayReach decides about a flow to an address that the program named itself.
// Where rcc runs, MayDial knows the host's own addresses: both have to allow it.
func (p *Policy) MayReach(a netip.Addr, port uint16) Verdict {
	return p.reach(a, port, nil, true, false)
}

// MayDial decides about an address that an allowed name leads to: public, or
// opened by a rule for it and the port, and not denied. own lists the addresses
// of the host's interfaces, each with the length of its network's prefix. They
// are refused whatever the rules say: the host's services take what comes from
// them for their own user's. Their neighbours are opened as private addresses
// are, by a rule inside of that network, though they may be public.
func (p *Policy) MayDial(a netip.Addr, port uint16, own []netip.Prefix) Verdict {
	return p.reach(a, port, own, false, false)
}

// reach: of an address that is listed, mode "allow" asks for a rule even if it is public.
func (p *Policy) reach(a netip.Addr, port uint16, own []netip.Prefix, listed, ceiling bool) Verdict {
	if !a.IsValid() || a.Zone() != "" {
		return Verdict{Rule: "it is not an address, or one with a zone"}
	}
	if v, ok := p.above(func(c *Policy) Verdict { return c.reach(a, port, own, listed, true) }); !ok {
		return v
	}
	if v, ok := p.open(ceiling); !ok {
		return v
	}
	if _, ok := carried(a); ok && !a.Is4In6() && len(linksOf(own, a)) > 0 {
		return Verdict{Rule: a.String() + " lies in a network that this machine is on, and is a form of another address"}
	}
	var last Verdict
	for _, e := range ends(a) {
		if isOwn(own, a) || isOwn(own, e.addr) {
			return Verdict{Rule: e.shown + " is an address of this machine; --forward PORT reaches a port of its loopback"}
		}
		denied := func(r Rule) bool { return r.holds(a, port) || r.holds(e.addr, port) }
		if v, ok := p.deny(denied, ceiling); !ok {
			return v
		}
		last = p.reachEnd(e, port, own, listed, ceiling)
		if !last.OK {
			return last
		}
	}
	return last
}

// reachEnd decides about one end by its block, by the host's networks and by Allow.
func (p *Policy) reachEnd(e end, port uint16, own []netip.Prefix, listed, ceiling bool) Verdict {
	near := linksOf(own, e.addr)
	b := specialOf(netip.PrefixFrom(e.addr, e.addr.BitLen()))
	if b != nil && b.kind == never {
		return Verdict{Rule: b.of(e.shown) + ", which no rule opens"}
	}
	opened := slices.IndexFunc(p.Allow, func(r Rule) bool {
		switch {
		case !r.holds(e.addr, port):
			return false
		case b != nil:
			return specialOf(r.Prefix) == b
		}
		return len(near) == 0 || slices.ContainsFunc(near, func(n netip.Prefix) bool { return n.Bits() <= r.Prefix.Bits() })
	})
	mend := Rule{Prefix: netip.PrefixFrom(e.addr, e.addr.BitLen()), Low: port, High: port}.String()
	switch {
	case opened >= 0:
		return Verdict{OK: true, Rule: "allow " + told(p.Allow[opened], ceiling)}
	case p.Net == NetAny:
		return p.byNet()
	case b != nil && b.kind == byHand:
		return p.refuse(b.of(e.shown)+", which only an entry written by hand opens", "", ceiling)
	case b != nil:
		return p.refuse(b.of(e.shown), mend, ceiling)
	case len(near) > 0:
		return p.refuse(e.shown+" lies in a network that this machine is on", mend, ceiling)
	case listed && p.Net == NetAllow:
		return p.refuse("it is not in the allow list", mend, ceiling)
	case p.Net == NetAllow:
		return Verdict{OK: true, Rule: "it is a public address"}
	}
	return p.byNet()
}

// holds tells whether the rule is for the address and port.
func (r Rule) holds(a netip.Addr, port uint16) bool {
	return r.Name == "" && r.hasPort(port) && r.Prefix.Contains(a)
}

// MayForward decides about a port of the host's loopback.
func (p *Policy) MayForward(port uint16) Verdict { return p.forward(port, false) }

func (p *Policy) forward(port uint16, ceiling bool) Verdict {
	if v, ok := p.above(func(c *Policy) Verdict { return c.forward(port, true) }); !ok {
		return v
	}
	if v, ok := p.open(ceiling); !ok {
		return v
	}
	if slices.Contains(p.Forward, port) || ceiling && p.Forward == nil {
		return Verdict{OK: true, Rule: fmt.Sprintf("forward %d", port)}
	}
	return p.refuse(fmt.Sprintf("%d is not in the list of forwarded ports", port), "", ceiling)
}

// above asks the ceiling first: what it refuses no entry of a lower list mends.
func (p *Policy) above(ask func(*Policy) Verdict) (Verdict, bool) {
	if p.Above == nil {
		return Verdict{}, true
	}
	v := ask(p.Above)
	v.Mend = ""
	return v, v.OK
}

// open is false where the mode allows nothing at all.
func (p *Policy) open(ceiling bool) (Verdict, bool) {
	switch {
	case p.Net == NetAllow || p.Net == NetPublic || p.Net == NetAny && ceiling:
		return Verdict{}, true
	case p.Net == NetNone:
		return Verdict{Rule: `net = "none"` + place(p.NetFrom, ceiling)}, false
	}
	return Verdict{Rule: fmt.Sprintf("%q is not a mode of the network", p.Net) + place(p.NetFrom, ceiling)}, false
}

// deny gives the refusal by the first rule of Deny that matches.
func (p *Policy) deny(match func(Rule) bool, ceiling bool) (Verdict, bool) {
	if i := slices.IndexFunc(p.Deny, match); i >= 0 {
		return Verdict{Rule: "deny " + told(p.Deny[i], ceiling)}, false
	}
	return Verdict{}, true
}

// lists tells whether a rule of Allow is for the name, and whether one spells it out.
func (p *Policy) lists(name string) (listed, exact bool) {
	for _, r := range p.Allow {
		if r.hasName(name) {
			listed, exact = true, exact || !r.Wild
		}
	}
	return listed, exact
}

func (p *Policy) byNet() Verdict {
	return Verdict{OK: true, Rule: fmt.Sprintf("net = %q", p.Net) + place(p.NetFrom, false)}
}

func (p *Policy) refuse(why, mend string, ceiling bool) Verdict {
	if ceiling {
		why += place(p.NetFrom, true)
	}
	return Verdict{Rule: why, Mend: mend}
}

func told(r Rule, ceiling bool) string { return r.String() + place(r.From, ceiling) }

// place says in brackets where a rule stands.
func place(from string, ceiling bool) string {
	const above = "the ceiling"
	switch {
	case ceiling && from == "":
		from = above
	case ceiling && !strings.HasPrefix(from, above):
		from = above + ", " + from
	case from == "":
		return ""
	}
	return " (" + from + ")"
}
