package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
)

// written are the events that a ledger wrote.
func written(t *testing.T, b *bytes.Buffer) (out []event) {
	t.Helper()
	for sc := newLineScanner(bytes.NewReader(b.Bytes())); sc.Scan(); {
		var ev event
		if err := json.Unmarshal(sc.Bytes(), &ev); err != nil {
			t.Fatal(err)
		}
		out = append(out, ev)
	}
	return out
}

// A thing that comes often has few lines, which add up to all of it.
func TestLedgerAddsUp(t *testing.T) {
	var b bytes.Buffer
	l := ledger{log: events{&b}}
	for i := range 1000 {
		l.add(eventTraffic, netEvent{Proto: "tcp", Name: "a.example", Addr: fmt.Sprint(i), Port: 443, Sent: 2, Received: 3})
		l.add(eventDenied, netEvent{Proto: "dns", Name: "b.example", Rule: "no", Count: 5})
	}
	l.settle()
	l.settle()
	times, sent, received, denials := 0, int64(0), int64(0), 0
	all := written(t, &b)
	for _, ev := range all {
		if ev.Event == eventTraffic {
			times, sent, received = times+max(ev.Net.Count, 1), sent+ev.Net.Sent, received+ev.Net.Received
		} else {
			denials += max(ev.Net.Count, 1)
		}
	}
	if len(all) > 30 || times != 1000 || sent != 2000 || received != 3000 || denials != 5000 {
		t.Errorf("%d lines, %d flows, %d and %d bytes, %d denials", len(all), times, sent, received, denials)
	}
	if all[0].Net.target() != "a.example:443" || all[0].Net.Count != 0 {
		t.Errorf("%+v", all[0].Net)
	}
}

// However many come later, the first ones keep their lines, and the rest is counted.
func TestLedgerIsBounded(t *testing.T) {
	var b bytes.Buffer
	l := ledger{log: events{&b}}
	l.add(eventTraffic, netEvent{Proto: "tcp", Name: "first.example", Port: 22, Sent: 7})
	for i := range 5 * maxEntries {
		l.add(eventTraffic, netEvent{Proto: "tcp", Name: fmt.Sprintf("%d.example", i), Port: 443, Sent: 1})
		l.add(eventDenied, netEvent{Proto: "dns", Name: fmt.Sprintf("%d.example", i), Rule: "no"})
	}
	l.settle()
	all := written(t, &b)
	if len(all) > 2*maxEntries+50 || all[0].Net.Name != "first.example" {
		t.Fatalf("%d lines, the first about %q", len(all), all[0].Net.Name)
	}
	sent := int64(0)
	for _, ev := range all {
		sent += ev.Net.Sent
	}
	if sent != 7+5*maxEntries {
		t.Errorf("%d bytes", sent)
	}
}
