package hooks

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const useRcc = "# tools\nuse rcc\n"

// Each way of saying no, and yes; real direnv then does what the verdict says.
func TestAllowOpened(t *testing.T) {
	direnv := need(t, "direnv")
	run := func(h *home, dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command(direnv, args...)
		cmd.Dir, cmd.Env = dir, append(h.environ, "PWD="+dir)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	for _, tt := range []struct {
		name   string
		change func(o *Opened, h *home)
		reason string // "" for yes
	}{
		{"yes", func(*Opened, *home) {}, ""},
		{"not allowed", func(o *Opened, h *home) { run(h, h.at("p"), "deny") }, "not allowed .envrc in your checkout"},
		{"changed by the agent", func(o *Opened, h *home) { h.write("w/.envrc", "use rcc\n") }, "changed in this task"},
		{"new", func(o *Opened, h *home) { o.Base = nil }, "new in this task"},
		{"richer", func(o *Opened, h *home) {
			rich := useRcc + "export A=1\n"
			o.Base, o.CheckoutContent = []byte(rich), []byte(rich)
			h.write("p/.envrc", rich)
			h.write("w/.envrc", rich)
			run(h, h.at("p"), "allow")
		}, "more than"},
		{"checkout has another one", func(o *Opened, h *home) {
			h.write("p/.envrc", "use rcc\n")
			run(h, h.at("p"), "allow")
		}, "another one"},
		{"checkout has none", func(o *Opened, h *home) { os.Remove(h.at("p", ".envrc")) }, "another one"},
		{"denied by a newer direnv", func(o *Opened, h *home) {
			file := o.direnvDeny(o.Checkout)
			os.MkdirAll(filepath.Dir(file), 0o755)
			os.WriteFile(file, []byte(o.Checkout+"\n"), 0o644)
		}, "denied"},
		{"a link in place of the folder", func(o *Opened, h *home) {
			o.Envrc = "w/.envrc"
		}, "absolute"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHome(t)
			if _, _, err := InstallDirenv(h.at("config", "direnv"), h.path); err != nil {
				t.Fatal(err)
			}
			h.write("p/.envrc", useRcc)
			h.write("w/.envrc", useRcc)
			h.write("w/shell.env", "FOO=entered")
			run(h, h.at("p"), "allow")
			data, err := DirenvDataDir(h.environ)
			if err != nil {
				t.Fatal(err)
			}
			o := Opened{Envrc: h.at("w", ".envrc"), Base: []byte(useRcc), Checkout: h.at("p", ".envrc"), Direnv: data}
			tt.change(&o, h)
			o.Content, _ = os.ReadFile(h.at("w", ".envrc"))
			o.CheckoutContent, _ = os.ReadFile(h.at("p", ".envrc"))
			if out := run(h, h.at("w"), "export", "json"); !strings.Contains(out, "is blocked") || strings.Contains(out, "entered") {
				t.Fatalf("before, direnv says: %s", out)
			}
			path, notice, err := AllowOpened(o)
			if err != nil || (path != "") != (tt.reason == "") || tt.reason != "" && !strings.Contains(notice, tt.reason) || strings.Contains(notice, "\n") {
				t.Fatalf("%q, %q, %v", path, notice, err)
			}
			out := run(h, h.at("w"), "export", "json")
			if tt.reason != "" {
				if !strings.Contains(out, "is blocked") {
					t.Errorf("direnv says: %s", out)
				}
				return
			}
			if !strings.Contains(out, `"FOO":"entered"`) && !strings.Contains(out, `"FOO": "entered"`) {
				t.Errorf("direnv says: %s", out)
			}
			// What direnv itself would have written is the same.
			ours, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := ForgetOpened(o); err != nil {
				t.Error(err)
			}
			if out := run(h, h.at("w"), "export", "json"); !strings.Contains(out, "is blocked") {
				t.Errorf("forgotten, direnv says: %s", out)
			}
			run(h, h.at("w"), "allow")
			if theirs, err := os.ReadFile(path); err != nil || string(theirs) != string(ours) {
				t.Errorf("direnv writes %q, we %q; %v", theirs, ours, err)
			}
			// Another content at this path is not allowed by that.
			h.write("w/.envrc", useRcc+"export EVIL=1\n")
			if out := run(h, h.at("w"), "export", "json"); !strings.Contains(out, "is blocked") {
				t.Errorf("changed later, direnv says: %s", out)
			}
		})
	}
	if path, notice, err := AllowOpened(Opened{}); path != "" || notice != "" || err != nil {
		t.Errorf("without an .envrc: %q, %q, %v", path, notice, err)
	}
}
