package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcc/isolate/egress"
)

func TestNetEventText(t *testing.T) {
	for _, tt := range []struct {
		event egress.Event
		want  string
	}{
		{
			egress.Event{Kind: egress.KindDenied, Proto: "dns", Name: "a.example", Rule: "it is not in the allow list", Mend: "a.example:443", Program: egress.Program{PID: 7, Name: "curl"}, Count: 1},
			"a.example to curl[7]: it is not in the allow list",
		},
		{
			egress.Event{Kind: egress.KindDenied, Proto: "tcp", Addr: netip.MustParseAddr("fd00::1"), Port: 443, Rule: "no", Count: 3},
			"[fd00::1]:443 to a program: no (3 times)",
		},
		{
			egress.Event{Kind: egress.KindDenied, Proto: "udp", Addr: netip.MustParseAddr("10.0.0.1"), Port: 123, Rule: "no", Program: egress.Program{Name: "ntp"}},
			"10.0.0.1:123 (udp) to ntp: no",
		},
		{
			egress.Event{Kind: egress.KindFailed, Proto: "tcp", Name: "b.example", Port: 443, Rule: "allow b.example", Text: "connection refused"},
			"b.example:443 to a program: connection refused",
		},
		{
			egress.Event{Kind: egress.KindFlow, Proto: "tcp", Name: "b.example", Addr: netip.MustParseAddr("10.0.0.1"), Port: 443, Sent: 10, Received: 20},
			"b.example:443, 10 bytes sent, 20 received",
		},
	} {
		if got := netEventOf(tt.event).text(tt.event.Kind); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// What is the same is told once, with its count; another port, rule or program is not the same.
func TestGather(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	one := netEvent{Proto: "tcp", Name: "a.example", Port: 443, Rule: "no", Program: "curl", PID: 7, Allow: "a.example:443"}
	ev := func(after time.Duration, kind string, change func(*netEvent)) event {
		n := one
		if change != nil {
			change(&n)
		}
		return event{Time: at.Add(after), Event: kind, Net: &n}
	}
	all := gather([]event{
		{Time: at, Event: "phase"},
		ev(1, eventDenied, nil),
		ev(2, eventDenied, func(n *netEvent) { n.Count = 5; n.PID = 8 }),
		ev(3, eventDenied, func(n *netEvent) { n.Port = 80; n.Allow = "a.example:80" }),
		ev(4, eventDenied, func(n *netEvent) { n.Program = "wget" }),
		ev(5, eventDenied, func(n *netEvent) { n.Rule = "other"; n.Allow = "" }),
		ev(6, eventFailed, nil),
		ev(7, eventFlow, nil),
	})
	if len(all) != 5 {
		t.Fatalf("%d: %+v", len(all), all)
	}
	if d := all[0]; d.Times != 6 || d.First != at.Add(1) || d.Last != at.Add(2) || d.PID != 7 {
		t.Errorf("%+v", d)
	}
	if got := strings.Join(wouldAllow(all), " "); got != "a.example:443 a.example:80" {
		t.Errorf("%q", got)
	}
}

// The three logs of a task come out as one, by time; a line that a crash cut off
// is left out.
func TestAllEvents(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("events.jsonl", `{"time":"2026-01-01T00:00:01Z","event":"phase","text":"command"}`+"\n"+`{"time":"2026-01-01T00:00:04Z","event":"end"}`+"\n"+`{"time":"2026-01-01T`)
	write(ledgerLog, `{"time":"2026-01-01T00:00:03Z","event":"denied","net":{"proto":"dns","name":"a.example"}}`+"\n")
	write(flowLog+".1", `{"time":"2026-01-01T00:00:02Z","event":"flow","net":{"proto":"tcp","name":"b.example","port":443,"sent":1,"received":2}}`+"\n")
	all, err := allEvents(task{dir})
	var got []string
	for _, ev := range all {
		got = append(got, ev.Event)
	}
	if s := strings.Join(got, " "); err != nil || s != "phase flow denied end" {
		t.Errorf("%q, %v", s, err)
	}
}

func TestDeniedNotes(t *testing.T) {
	n := func(name string) *netEvent {
		return &netEvent{Proto: "dns", Name: name, Rule: "it is not in the allow list", Allow: name, Program: "curl"}
	}
	var d denied
	if got := d.notes(&Record{ID: "x"}); got != nil {
		t.Errorf("%q", got)
	}
	d.count(eventDenied, n("a.example"))
	d.count(eventDenied, n("a.example"))
	d.count(eventFailed, &netEvent{Proto: "tcp", Name: "a.example", Port: 443, Rule: "allow a.example", Text: "timed out"})
	if got := d.notes(&Record{ID: "x"}); len(got) != 2 || !strings.HasPrefix(got[0], "one thing was denied on the network; rcc why x") || got[1] != "one thing was allowed but not reached; rcc why x tells why" {
		t.Errorf("%q", got)
	}
	if got := d.notes(&Record{ID: "x", Run: true}); len(got) != 2 || got[1] != "failed a.example:443 to a program: timed out" {
		t.Errorf("%q", got)
	}
	d = denied{}
	for _, name := range []string{"a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "g.example"} {
		d.count(eventDenied, n(name))
	}
	if got := d.notes(&Record{ID: "x"}); len(got) != 1 || !strings.HasPrefix(got[0], "7 things were denied") {
		t.Errorf("%q", got)
	}
	got := d.notes(&Record{ID: "x", Run: true})
	if len(got) != shownDenied+1 || got[0] != "denied a.example to curl: it is not in the allow list; --allow a.example would let it" || got[shownDenied] != "denied or failed: 2 more" {
		t.Errorf("%q", got)
	}
	for i := range maxDenied + 10 {
		d.count(eventDenied, n(strings.Repeat("x", i+1)))
	}
	if len(d.first) != maxDenied {
		t.Errorf("%d are told apart", len(d.first))
	}
}

// On a terminal JSON says the same with escapes of its own.
func TestEscapeHidden(t *testing.T) {
	in := "a\u009b2J\u202e\x7f\U000e0041 \u00fc\n"
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	got := escapeHidden(append(text, '\n'))
	var back string
	if err := json.Unmarshal(got, &back); err != nil || back != in {
		t.Errorf("%q, %v", back, err)
	}
	if want := `"a\u009b2J\u202e\u007f\udb40\udc41 \u00fc\n"` + "\n"; string(got) != strings.ReplaceAll(want, `\u00fc`, "\u00fc") {
		t.Errorf("%q", got)
	}
}
