package main

import (
	"sync"

	"rcc/isolate/egress"
)

// A ledger keeps what happened on a task's network so that no number of later
// events pushes the earlier ones out: the same things are one entry, and a line is
// written at its first time, its second, fourth, eighth and so on, and at the end.
// Each line is about what came since the one before.
type ledger struct {
	log events

	mu      sync.Mutex
	entries map[entryKey]*entry
	order   []*entry
}

type entryKey struct {
	event, proto, name, addr, rule, program string
	port                                    uint16
}

type entry struct {
	event string
	since netEvent // with the numbers that no line has yet
	times int      // in all
}

// maxEntries bounds how many entries a ledger has of each kind; what comes after
// them is one more.
const maxEntries = 1000

// add takes an event that stands for so many, one at least.
func (l *ledger) add(kind string, n netEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	times := max(n.Count, 1)
	e := l.entry(kind, n)
	before := e.times
	e.times += times
	e.since.Count += times
	e.since.Sent += n.Sent
	e.since.Received += n.Received
	if before == 0 || log2(e.times) > log2(before) {
		l.write(e)
	}
}

func log2(n int) (out int) {
	for n >>= 1; n > 0; n >>= 1 {
		out++
	}
	return out
}

// entry finds or makes the event's.
func (l *ledger) entry(kind string, n netEvent) *entry {
	key := entryKey{kind, n.Proto, n.Name, n.Addr, n.Rule, n.Program, n.Port}
	if kind == eventTraffic {
		// Where it went to, however often, by whatever address.
		key.rule, key.program = "", ""
		n.Rule, n.Allow, n.Program, n.PID, n.Text = "", "", "", 0, ""
		if n.Name != "" {
			key.addr, n.Addr = "", ""
		}
	}
	if e := l.entries[key]; e != nil {
		return e
	}
	if l.count(kind) >= maxEntries {
		key = entryKey{event: kind}
		n = netEvent{Text: "others"}
		if e := l.entries[key]; e != nil {
			return e
		}
	}
	n.Count, n.Sent, n.Received = 0, 0, 0
	e := &entry{event: kind, since: n}
	if l.entries == nil {
		l.entries = map[entryKey]*entry{}
	}
	l.entries[key] = e
	l.order = append(l.order, e)
	return e
}

func (l *ledger) count(kind string) (n int) {
	for _, e := range l.order {
		if e.event == kind {
			n++
		}
	}
	return n
}

func (l *ledger) write(e *entry) {
	n := e.since
	if n.Count == 1 {
		n.Count = 0 // which means that
	}
	l.log.add(event{Event: e.event, Net: &n})
	e.since.Count, e.since.Sent, e.since.Received = 0, 0, 0
}

// settle writes what no line has yet.
func (l *ledger) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.order {
		if e.since.Count > 0 {
			l.write(e)
		}
	}
}

// tellNet keeps an event of the network.
func (s *session) tellNet(e egress.Event) {
	switch e.Kind {
	case egress.KindFlow:
		n := netEventOf(e)
		s.flows.add(event{Event: eventFlow, Net: n, Millis: float64(e.Time.Microseconds()) / 1000})
		s.ledger.add(eventTraffic, *n)
	case egress.KindDenied, egress.KindFailed:
		n := netEventOf(e)
		s.ledger.add(e.Kind, *n)
		s.denied.count(e.Kind, n)
	default:
		s.tell([]string{wayClosed + " (" + e.Text + ")"})
	}
}
