package devshell

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The values of a real dev shell, made by the real Nix.
func TestShell(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	s := w.shell(w.source(KindFlake, "", ""))
	if !s.Fresh || s.Name != "demo-shell" || !s.HasHook {
		t.Errorf("%+v", s)
	}
	if len(s.Paths) == 0 || !slices.IsSorted(s.Paths) {
		t.Errorf("paths: %q", s.Paths)
	}
	env := s.Environ("/o/p")
	for _, want := range []string{"GREETING=hello", "out=/o/p/out", "dev=/o/p/dev", "prefix=/o/p/out", "modified=315532800"} {
		if !slices.Contains(env, want) {
			t.Errorf("no %s in %q", want, env)
		}
	}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if dropped(name) {
			t.Errorf("%s got through", kv)
		}
	}
	for _, name := range []string{"own-tool", "bash", "sh"} {
		file := s.Look(name)
		if fi, err := os.Stat(file); err != nil || fi.Mode()&0o111 == 0 {
			t.Errorf("%s: %q, %v", name, file, err)
		}
	}
	if s.Look("no-such") != "" || s.Look("../bin/bash") != "" || s.Bash == "" || s.Interactive == "" {
		t.Errorf("bash %q, interactive %q", s.Bash, s.Interactive)
	}
	if _, err := os.Lstat(filepath.Join(w.cache.dir, s.Key, treeName)); !os.IsNotExist(err) {
		t.Errorf("the exported tree is still there: %v", err)
	}
	out := w.run(s.Bash, "-c", `rcc_outputs=/o/p rcc_path=/host; . "$1"
		echo "$hooked|$plain|$number|${array[*]}|${pairs[out]}|$lines|$PATH|$prefix|${!rcc_*}"; greet; shout hey`, "bash", s.RC)
	want := "hook of /o/p/out hello\n1|1||one two three q\"q /o/p/dev/lib|/o/p/out/x|a\nb\tc\\|" +
		filepath.Dir(s.Look("own-tool")) + ":/host|/o/p/out|\nhello from /o/p/out\nhey!\n"
	if out != want {
		t.Errorf("bash says %q, want %q", out, want)
	}
	again := w.shell(w.source(KindFlake, "", ""))
	if again.Fresh || !slices.Equal(again.Paths, s.Paths) || !slices.Equal(again.Environ("/x"), s.Environ("/x")) {
		t.Errorf("%+v", again)
	}
}

// What a flake does wrong is told in one line, with the place.
func TestEvaluationError(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	w.edit("flake.nix", `GREETING = "hello"`, `GREETING = nothing`)
	_, err := w.cache.Shell(context.Background(), w.nix, w.source(KindFlake, "", ""), w.options())
	if want := "cannot make the dev shell of flake.nix: undefined variable 'nothing' at flake.nix:34:22"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}
