package worktree

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// entryEnd checks an index's End of Index Entry, if it has one: git ignores one
// that is wrong, and reads the index more slowly.
func entryEnd(t *testing.T, data []byte) (extensions []string) {
	t.Helper()
	x, err := parseIndex(data, "sha1")
	if err != nil {
		t.Fatal(err)
	}
	sum := indexHash("sha1")
	err = x.eachExtension(func(kind string, body []byte) {
		extensions = append(extensions, kind)
		if kind == "EOIE" {
			if string(sum.Sum(nil)) != string(body[4:]) {
				t.Error("EOIE has another hash")
			}
			return
		}
		n := len(body)
		sum.Write([]byte(kind))
		sum.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	})
	if err != nil {
		t.Fatal(err)
	}
	return extensions
}

// TestMarkedValid has git read the extension: it asks a hook with our token,
// and looks at those files only that the hook names.
func TestMarkedValid(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		c := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@y", "-c", "index.recordEndOfIndexEntries=true"}, args...)...)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	git("init", "-q")
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git("add", ".")
	git("commit", "-qm", "x")
	file := filepath.Join(dir, ".git", "index")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before := entryEnd(t, data)
	for range 2 { // the second takes the first's extension out
		if data, err = markedValid(data, "sha1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(entryEnd(t, data), " "); got != strings.Join(before[:len(before)-1], " ")+" FSMN EOIE" {
		t.Errorf("extensions: %s", got)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	hook := filepath.Join(dir, ".git", "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$@\" >.git/asked\nprintf 'token\\0a\\0'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := git("-c", "core.fsmonitor="+hook, "-c", "core.fsmonitorHookVersion=2", "status", "--porcelain"); got != " M a\n" {
		t.Errorf("git was told of a, and says %q", got)
	}
	x, err := parseIndex(data, "sha1")
	if err != nil {
		t.Fatal(err)
	}
	token, err := x.token()
	asked, _ := os.ReadFile(filepath.Join(dir, ".git", "asked"))
	if err != nil || string(asked) != "2 "+token+"\n" {
		t.Errorf("git asked %q, %v; the token is %q", asked, err, token)
	}
}

func TestMonitorConfigQuotes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `a*b?[c]"d\e`)
	if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d := gitDir{}
	d.monitor(dir, "sha1")
	config, err := os.ReadFile(filepath.Join(dir, ".git/config"))
	if err != nil {
		t.Fatal(err)
	}
	d.config += string(config)
	if err := d.writeFiles(filepath.Join(dir, ".git")); err != nil {
		t.Fatal(err)
	}
	get := func(in string) string {
		out, _ := exec.Command("git", "-C", in, "config", "core.fsmonitor").Output()
		return strings.TrimSpace(string(out))
	}
	if got := get(dir); got != insideMonitor {
		t.Errorf("core.fsmonitor is %q", got)
	}
	run := exec.Command("sh", "-c", `git -c user.name=x -c user.email=x@y commit -q --allow-empty -m x && git worktree add -q inner`)
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := get(filepath.Join(dir, "inner")); got != "" {
		t.Errorf("core.fsmonitor of a linked worktree is %q", got)
	}
}
