package egress

import (
	"net/netip"
	"strings"
)

// maxText bounds, in bytes, a text of the gate's that goes into an event.
const maxText = 300

// denied finds the program behind a refusal of the gate's, and tells of it. It
// waits while too many are being worked on: so a gate that floods is slowed.
func (s *exitRun) denied(m message) {
	if m.Proto == "" { // repeats of what the gate could not keep apart
		s.tally.more(max(m.Count, 0))
		return
	}
	select {
	case s.denials <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	s.work.Go(func() {
		defer func() { <-s.denials }()
		client, _ := netip.ParseAddrPort(m.Client)
		dest, _ := netip.ParseAddrPort(m.Dest)
		e := s.deniedEvent(m, dest)
		if m.Count > 0 {
			if !s.tally.repeat(e, m.Count) {
				s.tally.add(e)
				s.tally.repeat(e, m.Count-1)
			}
			return
		}
		e.Program = s.who(transport(m), client, dest)
		s.tally.add(e)
		if m.ID != 0 {
			s.post.send(message{Kind: msgAck, ID: m.ID}, nil)
		}
	})
}

// transport is the protocol of the socket that a denial is about.
func transport(m message) string {
	switch {
	case m.Proto == "dns" && m.Stream:
		return "tcp"
	case m.Proto == "dns":
		return "udp"
	}
	return m.Proto
}

// deniedEvent makes an event of what the gate says. Where the policy itself says
// no, its words count.
func (s *exitRun) deniedEvent(m message, dest netip.AddrPort) Event {
	e := Event{Kind: KindDenied, Proto: cut(m.Proto, 16), Name: cut(m.Name, maxText)}
	v := s.gatesVerdict(m)
	if e.Proto != "dns" {
		e.meant(dest)
	}
	if m.Full {
		return noRoom(e, v)
	}
	own := Verdict{OK: true} // where there is no rule
	switch {
	case e.Proto == "dns" && e.Name == "": // a query that cannot be read
	case e.Proto == "dns":
		if own = s.Policy.MayResolve(m.Name); own.OK {
			return noRoom(e, v) // no address was left
		}
	case e.Proto == "tcp" && m.Name != "":
		own = s.Policy.MayConnect(m.Name, e.Port)
	case e.Proto == "tcp" && !Synthetic(dest.Addr()):
		own = s.mayReach(dest)
	}
	if !own.OK {
		v = own
	}
	e.Rule, e.Mend = v.Rule, v.Mend
	return e
}

// meant sets where a flow or packet was to go. An address of a name's says nothing.
func (e *Event) meant(dest netip.AddrPort) {
	e.Port = dest.Port()
	if !Synthetic(dest.Addr()) {
		e.Addr = dest.Addr().Unmap()
	}
}

// noRoom is of what the policy allows and the gate had no room for.
func noRoom(e Event, v Verdict) Event {
	e.Kind, e.Text = KindFailed, v.Rule
	return e
}

// gatesVerdict takes a refusal by the gate as what the agent itself may have
// written: the mend goes into somebody's configuration if he says so, and has to
// be a rule, in its canonical form.
func (s *exitRun) gatesVerdict(m message) Verdict {
	if m.Verdict == nil {
		return Verdict{}
	}
	v := Verdict{Rule: cut(m.Verdict.Rule, maxText)}
	if r, err := ParseRule(m.Verdict.Mend); err == nil && r.offered() {
		v.Mend = r.String()
	}
	return v
}

// offered tells whether a rule may stand in a mend: for one name or one address,
// and not for what is opened by hand only.
func (r Rule) offered() bool {
	if r.Name != "" {
		return !r.Wild
	}
	b := specialOf(r.Prefix)
	return r.Prefix.IsSingleIP() && (b == nil || b.kind == byRule)
}

// cut shortens a text to n bytes, at the end of a character.
func cut(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}
