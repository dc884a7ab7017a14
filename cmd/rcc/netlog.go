package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"rcc/isolate/egress"
)

// What a task did on the network is kept in two logs beside events.jsonl: a
// ledger of what was denied and where connections went, and each flow. A program
// that opens flows without end pushes only flows out.
const (
	ledgerLog = "network.jsonl"
	flowLog   = "flows.jsonl"
)

// Bounds of these logs, in bytes; see keptFile.
const (
	ledgerLimit = 4 << 20
	flowLimit   = 4 << 20
)

// Events of the network, in event.Event.
const (
	eventDenied = egress.KindDenied // a name or an address, by the policy
	eventFailed = egress.KindFailed // allowed, and yet not reached
	eventFlow   = egress.KindFlow   // a connection that is over
	// eventTraffic stands for the flows to one place that ended since the last
	// such event about it.
	eventTraffic = "traffic"
)

// netEvent is what an event of the network is about. Names come from the
// program, or from whoever it asked.
type netEvent struct {
	Proto   string `json:"proto"`          // "tcp", "udp", "dns", …
	Name    string `json:"name,omitempty"` // that the program meant
	Addr    string `json:"addr,omitempty"` // that it named itself, or that was dialled
	Port    uint16 `json:"port,omitempty"`
	Rule    string `json:"rule,omitempty"`    // what decided
	Allow   string `json:"allow,omitempty"`   // the entry of allow that would let it
	Program string `json:"program,omitempty"` // as it calls itself
	PID     int    `json:"pid,omitempty"`     // inside
	Count   int    `json:"count,omitempty"`   // how often, 1 if absent
	Text    string `json:"text,omitempty"`    // why it failed, how a flow ended
	// Bytes of a flow, as the program sees it.
	Sent     int64 `json:"sent,omitempty"`
	Received int64 `json:"received,omitempty"`
}

// keepNet opens the logs of the network.
func (s *session) keepNet(t task) error {
	d, err := openKept(t.path(ledgerLog), ledgerLimit)
	if err != nil {
		return err
	}
	f, err := openKept(t.path(flowLog), flowLimit)
	if err != nil {
		return err
	}
	s.ledger.log, s.flows = events{d}, events{f}
	return nil
}

func netEventOf(e egress.Event) *netEvent {
	n := &netEvent{
		Proto: e.Proto, Name: e.Name, Port: e.Port, Rule: e.Rule, Allow: e.Mend,
		Program: e.Program.Name, PID: e.Program.PID, Sent: e.Sent, Received: e.Received, Text: e.Text,
	}
	if e.Addr.IsValid() {
		n.Addr = e.Addr.String()
	}
	if e.Count > 1 {
		n.Count = e.Count
	}
	return n
}

// target is what was to be reached, for a person.
func (n *netEvent) target() string {
	if n.Name == "" && n.Addr == "" {
		return n.Text
	}
	to := n.Name
	if to == "" {
		to = n.Addr
	}
	switch {
	case n.Port == 0:
	case n.Name == "" && bytes.ContainsRune([]byte(n.Addr), ':'):
		to = fmt.Sprintf("[%s]:%d", n.Addr, n.Port)
	default:
		to = fmt.Sprintf("%s:%d", to, n.Port)
	}
	if n.Proto != "tcp" && n.Proto != "dns" {
		to += " (" + n.Proto + ")"
	}
	return to
}

// who is the program, for a person.
func (n *netEvent) who() string {
	switch {
	case n.Program == "":
		return "a program"
	case n.PID == 0:
		return n.Program
	}
	return fmt.Sprintf("%s[%d]", n.Program, n.PID)
}

// reason is why, for a person. What failed has a rule as well: the one that
// allowed it.
func (n *netEvent) reason() string {
	if n.Text != "" {
		return n.Text
	}
	return n.Rule
}

// text is the event in a line.
func (n *netEvent) text(kind string) string {
	switch kind {
	case eventTraffic:
		return fmt.Sprintf("%s, %s, %d bytes sent, %d received", n.target(), plural(max(n.Count, 1), "connection"), n.Sent, n.Received)
	case eventFlow:
		return fmt.Sprintf("%s, %d bytes sent, %d received", n.target(), n.Sent, n.Received)
	}
	text := n.target() + " to " + n.who() + ": " + n.reason()
	if n.Count > 1 {
		text += fmt.Sprintf(" (%d times)", n.Count)
	}
	return text
}

// readEvents reads the lines of a kept log. One that a crash cut off is left out.
func readEvents(path string) ([]event, error) {
	var b bytes.Buffer
	if err := copyKept(&b, path); err != nil {
		return nil, err
	}
	var out []event
	for sc := newLineScanner(&b); sc.Scan(); {
		var ev event
		if json.Unmarshal(sc.Bytes(), &ev) == nil {
			out = append(out, ev)
		}
	}
	return out, nil
}

// maxEventLine bounds a line of these logs, in bytes.
const maxEventLine = 1 << 20

func newLineScanner(r io.Reader) *bufio.Scanner {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxEventLine)
	return sc
}

// allEvents are those of a task's three logs, by time.
func allEvents(t task) ([]event, error) {
	var all []event
	for _, name := range []string{"events.jsonl", ledgerLog, flowLog} {
		some, err := readEvents(t.path(name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(a, b event) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// A denial is what was denied to one program, or could not be reached, however often.
type denial struct {
	Event string    `json:"event"` // eventDenied or eventFailed
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Times int       `json:"times"`
	netEvent
}

// gather puts the same denials together, in the order of their first.
func gather(events []event) []denial {
	type key struct {
		event, proto, name, addr, rule, program string
		port                                    uint16
	}
	at := map[key]int{}
	var out []denial
	for _, ev := range events {
		if ev.Net == nil || ev.Event != eventDenied && ev.Event != eventFailed {
			continue
		}
		n := *ev.Net
		times := max(n.Count, 1)
		n.Count = 0
		k := key{ev.Event, n.Proto, n.Name, n.Addr, n.Rule, n.Program, n.Port}
		if i, seen := at[k]; seen {
			out[i].Times += times
			out[i].Last = ev.Time
			continue
		}
		at[k] = len(out)
		out = append(out, denial{Event: ev.Event, First: ev.Time, Last: ev.Time, Times: times, netEvent: n})
	}
	slices.SortStableFunc(out, func(a, b denial) int { return cmp.Compare(a.First.UnixNano(), b.First.UnixNano()) })
	return out
}
