package main

import "testing"

// What the kernel lacks for the gate is told, and keeps nothing from working.
func TestGateFinding(t *testing.T) {
	if f := gateFinding(nil); !f.OK || f.Needed || f.Detail != "held by seccomp and Landlock" {
		t.Errorf("%+v", f)
	}
	f := gateFinding([]string{"Landlock does not keep it from x: boot A", "Landlock does not keep it from y: boot B"})
	if want := "held by seccomp; Landlock does not keep it from x: boot A; Landlock does not keep it from y: boot B"; f.OK || f.Needed || f.Detail != want {
		t.Errorf("%+v", f)
	}
}
