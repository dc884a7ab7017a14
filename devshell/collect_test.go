package devshell

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Nix's real garbage collector leaves what an entry stands on, and takes the rest.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	s := w.shell(w.source(KindFlake, "", ""))
	w.write("junk", "junk")
	junk := strings.TrimSpace(w.nixRun("store", "add-file", filepath.Join(w.tree, "junk")))
	if _, err := os.Lstat(junk); err != nil {
		t.Fatal(err)
	}
	w.nixRun("store", "gc")
	if _, err := os.Lstat(junk); !os.IsNotExist(err) || !isStorePath(junk) {
		t.Fatalf("the collector did not take the junk: %v", err)
	}
	if gone := firstMissing(s.Paths); gone != "" {
		t.Errorf("the collector took %s", gone)
	}
	// When the entry goes, so does its root.
	s.Release()
	if removed, err := w.cache.Collect(nil, 0); err != nil || !slices.Equal(removed, []string{s.Key}) {
		t.Fatal(removed, err)
	}
	w.nixRun("store", "gc")
	if firstMissing(s.Paths) == "" {
		t.Error("the root outlives its entry")
	}
}

func TestCollect(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	none := OpenCache(filepath.Join(w.dir, "none"))
	if entries, err := none.Entries(); err != nil || entries != nil {
		t.Error(entries, err)
	}
	if removed, err := none.Collect(nil, 0); err != nil || removed != nil {
		t.Error(removed, err)
	}
	used := w.shell(w.source(KindFlake, "", ""))
	kept := w.shell(w.source(KindFlake, "", "plain"))
	idle := w.shell(w.source(KindFlake, "", "tool"))
	kept.Release()
	idle.Release()
	if _, err := w.cache.Shell(context.Background(), w.nix, w.source(KindFlake, "", "nope"), w.options()); err == nil {
		t.Fatal("no error")
	}
	entries, err := w.cache.Entries()
	if err != nil || len(entries) != 3 || !slices.ContainsFunc(entries, func(e Entry) bool {
		return e.Key == idle.Key && e.Name == "tool" && e.Paths == len(idle.Paths) && time.Since(e.Made) < time.Minute && time.Since(e.Used) < time.Minute
	}) {
		t.Errorf("%+v, %v", entries, err)
	}
	// What makers left that were killed, one of a shell that another has made since.
	half := w.cache.path(strings.Repeat("0", 32))
	for _, dir := range []string{filepath.Join(half, treeName), filepath.Join(half, "1"), w.cache.path(kept.Key, treeName), w.cache.path(kept.Key, "2")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep := func(key string) bool { return key == kept.Key }
	if removed, err := w.cache.Collect(keep, time.Hour); err != nil || removed != nil {
		t.Errorf("what was used an hour ago went: %q, %v", removed, err)
	}
	for _, dir := range []string{half, w.cache.path(kept.Key, treeName), w.cache.path(kept.Key, "2")} {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left of a killed maker", dir)
		}
	}
	removed, err := w.cache.Collect(keep, 0)
	if err != nil || !slices.Equal(removed, []string{idle.Key}) {
		t.Errorf("%q, %v", removed, err)
	}
	left, err := os.ReadDir(w.cache.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		name := e.Name()
		if !strings.HasPrefix(name, used.Key) && !strings.HasPrefix(name, kept.Key) && !strings.HasPrefix(name, memoPrefix) {
			t.Errorf("%s is left", name)
		}
	}
	if again := w.shell(w.source(KindFlake, "", "")); again.Fresh {
		t.Error("the shell in use was removed")
	}
}
