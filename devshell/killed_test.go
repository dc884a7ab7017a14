package devshell

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// victimName is the argv[0] under which the test binary makes a shell, to be killed.
const victimName = "devshell-victim"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == victimName {
		os.Exit(victim(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

func victim(cache, tree string) int {
	n, err := Find(os.Environ())
	if err == nil {
		_, err = OpenCache(cache).Shell(context.Background(), n, Source{Kind: KindFlake}, Options{
			Export: func(_ context.Context, dir string) error { return os.CopyFS(dir, os.DirFS(tree)) },
		})
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// When rcc itself is killed, Nix and its builders end, and the next one makes
// the shell and tidies up.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	w.edit("flake.nix", "$busybox mkdir -p", "$busybox sleep 1000; $busybox mkdir -p")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: program, Args: []string{victimName, w.cache.dir, w.tree}, Env: w.environ, Dir: w.dir, Stderr: os.Stderr}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(fmt.Sprint(w.ours()), "sleep"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is being built")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	w.gone()
	key := ""
	if keys, err := w.cache.keys(); err == nil && len(keys) == 1 {
		key = keys[0]
	}
	if _, err := os.Lstat(w.cache.path(key, treeName)); err != nil || key == "" {
		t.Fatalf("the killed one left no tree, so that there is nothing to tidy: %v", err)
	}
	w.edit("flake.nix", "$busybox sleep 1000; ", "")
	s := w.shell(Source{Kind: KindFlake})
	if s.Key != key || !s.Fresh {
		t.Errorf("%+v, not %s", s, key)
	}
	if _, err := os.Lstat(w.cache.path(key, treeName)); !os.IsNotExist(err) {
		t.Errorf("the tree of the killed one is left: %v", err)
	}
	if numbers := w.cache.numbers(key); len(numbers) != 1 {
		t.Errorf("%v", numbers)
	}
	if _, err := os.Lstat(w.cache.path(key + logSuffix)); !os.IsNotExist(err) {
		t.Errorf("its log is left: %v", err)
	}
}
