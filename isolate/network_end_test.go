package isolate

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rcc/isolate/egress"
)

// TestGateKilled: without the gate everything is refused, and who serves the
// link is told.
func TestGateKilled(t *testing.T) {
	port := listenHost(t)
	forwarded := fmt.Sprintf("127.0.0.1:%d", port)
	w := newWorldNet(t, Policy{Net: NetAllow, Forward: []uint16{port}}, nil)
	rules := allowing(t, worldName)
	rules.Forward = []uint16{port}
	events, ended := w.serve(t, rules)
	w.wantStage(t, "welcome\nwelcome\nwelcome", "dial", "tcp", worldName+":7", worldName+":80", forwarded)
	unix.Kill(w.gatePID(t), unix.SIGKILL)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the end of the gate is no error")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nobody was told")
	}
	e := waitFor(t, events, "the gate's end", func(e egress.Event) bool { return e.Kind == egress.KindGate })
	if e.Text != "the gate ended: killed by signal 9 (SIGKILL)" {
		t.Errorf("%+v", e)
	}
	w.wantStage(t, refused+"\n"+refused+"\n"+refused, "dial", "tcp", worldAddress+":7", forwarded, "[2606:2800:220::34]:443")
	if got := w.stage(t, "dial", "tcp", worldName+":7"); strings.Contains(got, "welcome") {
		t.Errorf("a name leads on: %s", got)
	}
	w.wantStage(t, notPermitted, "dial", "udp", worldAddress+":9")
	w.want(t, "echo alive", "alive")
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestGateKilledUnheard: where nobody reads the link, the gate's end does not keep the sandbox from ending.
func TestGateKilledUnheard(t *testing.T) {
	w := newWorldNet(t, Policy{Net: NetAllow}, nil)
	gate := w.gatePID(t)
	unix.Kill(gate, unix.SIGKILL)
	done := make(chan error, 1)
	go func() { done <- w.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the sandbox does not end")
	}
}

// TestKeeperKilled: the sandbox ends, and the gate with it.
func TestKeeperKilled(t *testing.T) {
	w := newWorldNet(t, Policy{Net: NetAllow}, nil)
	gate := w.gatePID(t)
	w.keeper.Process.Kill()
	done := make(chan error, 1)
	go func() { _, _, err := w.Link().Receive(); done <- err }()
	select {
	case err := <-done:
		if err != io.EOF {
			t.Errorf("got %v, want EOF", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the link does not end")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	// Who reaps it is not ours to say.
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", gate)); err == nil && !strings.Contains(string(b), "State:\tZ") {
		t.Errorf("the gate is still there:\n%s", b)
	}
}

// TestNoLink: without a way out there is no gate.
func TestNoLink(t *testing.T) {
	w := newWorld(t, nil)
	if w.Link() != nil || w.Degraded() != nil {
		t.Error("there is a link")
	}
	if p := w.Who("tcp", netip.AddrPort{}, netip.AddrPort{}); p != (egress.Program{}) {
		t.Errorf("somebody is named: %v", p)
	}
}
