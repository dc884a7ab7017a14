package egress

import (
	"net/netip"
	"time"
)

// The kinds of an Event.
const (
	KindDenied = "denied" // the policy said no; Rule says why, Mend how it would say yes
	KindFailed = "failed" // the policy said yes, and it could not be done; Text says why
	KindFlow   = "flow"   // a connection that was made has ended
	KindGate   = "gate"   // the gate is gone: from now on everything is denied
)

// A Program is who asked, as far as could be found out. Both fields are empty
// when it could not, and Name is the program's own word for itself.
type Program struct {
	PID  int    // inside the sandbox
	Name string // comm(5); written by the agent
}

// An Event is something that was decided or has ended. All of its text may hold
// bytes that the agent chose.
type Event struct {
	Kind  string // one of the kinds above
	Proto string // "tcp", "udp", "dns", "icmp", ... ; "" of KindGate
	// Name is the host that was meant: by the resolver's answer, by the head of
	// the flow; "" for an address that the program named itself.
	Name string
	Addr netip.Addr // what was dialled, or named by the program; invalid: none
	Port uint16     // 0: none
	Rule string     // what decided
	Mend string     // the entry of allow that would allow it; "": none
	// Program is who did it. Repeats that came faster than it could be found out
	// count as those of the first.
	Program Program
	Count   int // repeats that this event stands for, 1 and more
	// Sent and Received are the bytes of a flow, as the program sees it.
	Sent, Received int64
	Time           time.Duration // how long a flow lasted
	Text           string        // more, for a person: why it failed, how a flow ended
}
