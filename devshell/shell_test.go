package devshell

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
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
	out := w.run(s.Bash, "-c", `exec 2>&1; rcc_outputs=/o/p rcc_path=/host; . "$1"
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

// A derivation with __structuredAttrs finds its two files.
func TestStructuredAttrs(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	s, err := w.cache.Shell(context.Background(), w.nix, w.source(KindFlake, "", "structured"), w.options())
	if version, _ := w.nix.Version(t.Context()); err != nil && strings.HasPrefix(version, "2.8.") {
		if !strings.Contains(err.Error(), "get-env.sh") {
			t.Error(err)
		}
		t.Log("get-env.sh of Nix 2.8 cannot do structured attributes; TestSampleEnvironments has those of newer versions")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if s.Attrs == "" || s.Bash == "" {
		t.Fatalf("%+v", s)
	}
	out := w.run(s.Bash, "-c", `. "$1"; . "$NIX_ATTRS_SH_FILE"; echo "${list[1]} ${set[y]} $NIX_ATTRS_JSON_FILE"`, "bash", s.RC)
	if want := "b c it's " + s.Attrs + "/.attrs.json\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
	if env := s.EnvironAt(Places{Attrs: "/attrs"}); !slices.Contains(env, "NIX_ATTRS_SH_FILE=/attrs/.attrs.sh") {
		t.Errorf("%q", env)
	}
}

// Where Nix has a daemon, everything goes through it: the builds, and the root
// that its collector respects.
func TestDaemon(t *testing.T) {
	w := newWorld(t)
	program, err := exec.LookPath("nix-daemon")
	need(t, "nix-daemon", err == nil)
	// Without a state folder the daemon would look for a daemon, and find itself.
	w.nixRun("store", "ping")
	if _, err := os.Stat(filepath.Join(w.dir, "var")); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(w.dir, "socket")
	w.environ = append(w.environ, "NIX_DAEMON_SOCKET_PATH="+socket)
	daemon := exec.Command(program)
	daemon.Env, daemon.Dir = w.environ, w.dir
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
	for range 200 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.environ = append(w.environ, "NIX_REMOTE=daemon")
	if w.nix, err = Find(w.environ); err != nil {
		t.Fatal(err)
	}
	w.flake("")
	s := w.shell(w.source(KindFlake, "", ""))
	w.nixRun("store", "gc")
	if gone := firstMissing(s.Paths); gone != "" {
		t.Errorf("the collector took %s", gone)
	}
	if s.Look("own-tool") == "" {
		t.Error("no tool")
	}
	_ = daemon.Process.Kill()
	_ = daemon.Wait()
	if hit := w.shell(w.source(KindFlake, "", "")); hit.Fresh {
		t.Error("a hit needs the daemon")
	}
	_, err = w.cache.Shell(t.Context(), w.nix, w.source(KindFlake, "", "plain"), w.options())
	if err == nil || !strings.Contains(err.Error(), "the Nix daemon does not answer") {
		t.Errorf("%v", err)
	}
}
