package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A task chooses what it asks for: what it would have opened is named by the user,
// unless it is the one public thing that there is.
func TestWhyApply(t *testing.T) {
	quiet, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.Close()
	for _, tt := range []struct {
		offered, chosen []string
		want, err       string
	}{
		{offered: []string{"a.example:443"}, want: "a.example:443"},
		{offered: []string{"169.254.1.1:80"}, err: "cannot choose for you: 169.254.1.1:80 is not a public address; if you mean it, name it: rcc why x --apply 169.254.1.1:80"},
		{offered: []string{"[fd00::1]:80"}, err: "cannot choose for you: [fd00::1]:80 is not a public address; if you mean it, name it: rcc why x --apply '[fd00::1]:80'"},
		{offered: []string{"10.1.2.3:80"}, chosen: []string{"10.1.2.3:80"}, want: "10.1.2.3:80"},
		{offered: []string{"b.example", "a.example"}, err: "cannot choose for you: x was denied b.example, a.example; name those that you mean, as in: rcc why x --apply b.example"},
		{offered: []string{"b.example", "a.example"}, chosen: []string{"a.example"}, want: "a.example"},
		{offered: []string{"b.example"}, chosen: []string{"c.example"}, err: "cannot apply"},
	} {
		dir := t.TempDir()
		env := &surroundings{environ: []string{"XDG_CONFIG_HOME=" + dir}, stderr: quiet}
		var all []denial
		for _, e := range tt.offered {
			all = append(all, denial{Event: eventDenied, netEvent: netEvent{Allow: e}})
		}
		err := (&whyCmd{Apply: true, Entry: tt.chosen}).apply(env, &Record{ID: "x"}, all)
		switch {
		case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)):
			t.Errorf("%q: %v", tt.offered, err)
		}
		file, _ := os.ReadFile(filepath.Join(dir, "rcc", "config.toml"))
		if tt.want == "" && file != nil || !strings.Contains(string(file), tt.want) {
			t.Errorf("%q: the file is %q", tt.offered, file)
		}
	}
}

func TestShowDenials(t *testing.T) {
	show := func(all ...denial) string {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := showDenials(&surroundings{stdout: w}, &Record{ID: "x"}, all); err != nil {
			t.Error(err)
		}
		w.Close()
		out, _ := io.ReadAll(r)
		return string(out)
	}
	private := denial{Event: eventDenied, netEvent: netEvent{Proto: "tcp", Addr: "10.1.2.3", Port: 80, Rule: "it is private", Allow: "10.1.2.3:80"}}
	public := denial{Event: eventDenied, netEvent: netEvent{Proto: "tcp", Addr: "2600::1", Port: 80, Rule: "no", Allow: "[2600::1]:80"}}
	failed := denial{Event: eventFailed, netEvent: netEvent{Proto: "tcp", Name: "a.example", Port: 80, Rule: "allow a.example", Text: "timed out"}}
	if out := show(private, failed); strings.Contains(out, "--apply") || !strings.Contains(out, "timed out") || strings.Contains(out, "allow a.example") {
		t.Error(out)
	}
	if out := show(private, public); !strings.Contains(out, "\nrcc why x --apply '[2600::1]:80' adds that") {
		t.Error(out)
	}
}
