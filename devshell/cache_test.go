package devshell

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// recordNix puts a nix in front of PATH that notes each start, and returns a
// function that tells how often it was started since.
func (w *world) recordNix() func() int {
	w.t.Helper()
	file := filepath.Join(w.dir, "started")
	dir := filepath.Join(w.dir, "recorder")
	script := "#!/bin/sh\necho started >>" + quote(file) + "\nexec " + quote(w.nix.path) + ` "$@"` + "\n"
	if err := os.Mkdir(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "nix"), []byte(script), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.environ[0] = strings.Replace(w.environ[0], "PATH=", "PATH="+dir+":", 1)
	var err error
	if w.nix, err = Find(w.environ); err != nil || w.nix.path != filepath.Join(dir, "nix") {
		w.t.Fatalf("%+v, %v", w.nix, err)
	}
	return func() int {
		text, _ := os.ReadFile(file)
		_ = os.Remove(file)
		return strings.Count(string(text), "started")
	}
}

// The same content is a hit, from anywhere, and starts no Nix; anything else
// that decides the result is a miss.
func TestHitStartsNothing(t *testing.T) {
	w := newWorld(t)
	started := w.recordNix()
	w.flake("")
	s := w.source(KindFlake, "", "")
	first := w.shell(s)
	if n := started(); n == 0 {
		t.Fatal("nix was not started for the first shell: the recorder is wrong")
	}
	w.cache = OpenCache(w.cache.dir)
	if again := w.shell(s); started() != 0 || again.Fresh || again.Key != first.Key {
		t.Errorf("nix was started on a hit, or it was none: %+v", again)
	}
	other := s
	other.Files = []File{{"flake.lock", "100644", "new"}, {"flake.nix", "100644", "id"}}
	if miss := w.shell(other); started() == 0 || !miss.Fresh || miss.Key == first.Key {
		t.Errorf("a new flake.lock is a hit: %+v", miss)
	}
}

// Everything that decides the result is in the key, and the order of files is not.
func TestKey(t *testing.T) {
	base := Source{Kind: KindFlake, Files: []File{{"a", "100644", "1"}, {"b", "100644", "2"}}}
	keys := map[string]string{base.key("2.8.0", nil): "base"}
	for name, key := range map[string]string{
		"kind":         Source{Kind: KindFile, Files: base.Files}.key("2.8.0", nil),
		"folder":       Source{Kind: KindFlake, Dir: "x", Files: base.Files}.key("2.8.0", nil),
		"attribute":    Source{Kind: KindFlake, Attr: "x", Files: base.Files}.key("2.8.0", nil),
		"import":       Source{Kind: KindFlake, Files: base.Files, ImportFromDerivation: true}.key("2.8.0", nil),
		"blob":         Source{Kind: KindFlake, Files: []File{{"a", "100644", "1"}, {"b", "100644", "3"}}}.key("2.8.0", nil),
		"mode":         Source{Kind: KindFlake, Files: []File{{"a", "100755", "1"}, {"b", "100644", "2"}}}.key("2.8.0", nil),
		"path":         Source{Kind: KindFlake, Files: []File{{"a", "100644", "1"}, {"c", "100644", "2"}}}.key("2.8.0", nil),
		"fewer files":  Source{Kind: KindFlake, Files: base.Files[:1]}.key("2.8.0", nil),
		"version":      base.key("2.9.0", nil),
		"surroundings": base.key("2.8.0", []string{"nixpkgs=/x"}),
	} {
		if was, ok := keys[key]; ok {
			t.Errorf("%s and %s have one key", name, was)
		}
		keys[key] = name
	}
	turned := Source{Kind: KindFlake, Files: []File{base.Files[1], base.Files[0]}}
	if turned.Content() != base.Content() || turned.Files[0].Path != "b" {
		t.Error("the order of files matters")
	}
	allowed := base
	allowed.ImportFromDerivation, allowed.Attr = true, "x"
	if allowed.Content() != base.Content() {
		t.Error("the content that is allowed depends on how it is used")
	}
}

// nixRun runs a command of nix with what it needs.
func (w *world) nixRun(args ...string) string {
	w.t.Helper()
	return w.run(append([]string{w.nix.path, "--extra-experimental-features", "nix-command"}, args...)...)
}

// Of many who need one shell at once one makes it.
func TestConcurrentMakers(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh, exports := 0, 0
	o := w.options()
	export := o.Export
	o.Export = func(ctx context.Context, dir string) error {
		mu.Lock()
		exports++
		mu.Unlock()
		return export(ctx, dir)
	}
	for range 8 {
		wg.Go(func() {
			s, err := OpenCache(w.cache.dir).Shell(context.Background(), w.nix, w.source(KindFlake, "", ""), o)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Release()
			mu.Lock()
			defer mu.Unlock()
			if s.Fresh {
				fresh++
			}
			if firstMissing(s.Paths) != "" {
				t.Error("a path is missing")
			}
		})
	}
	wg.Wait()
	if fresh != 1 || exports != 1 {
		t.Errorf("made %d times, exported %d times", fresh, exports)
	}
}

// Whoever uses a shell keeps it while a newer one is made, and no longer.
func TestRefresh(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	source := w.source(KindFlake, "", "")
	old := w.shell(source)
	o := w.options()
	o.Refresh = true
	w.edit("flake.nix", `"hello"`, `"again"`) // what no key knows of
	newer, err := w.cache.Shell(context.Background(), w.nix, source, o)
	if err != nil {
		t.Fatal(err)
	}
	defer newer.Release()
	if !newer.Fresh || newer.Key != old.Key || newer.RC == old.RC || !slices.Contains(newer.Environ(""), "GREETING=again") {
		t.Errorf("%+v", newer)
	}
	if _, err := os.Stat(old.RC); err != nil {
		t.Errorf("the old shell was taken away: %v", err)
	}
	if hit := w.shell(source); hit.RC != newer.RC || hit.Fresh {
		t.Errorf("%+v", hit)
	}
	old.Release()
	third, err := w.cache.Shell(context.Background(), w.nix, source, o)
	if err != nil {
		t.Fatal(err)
	}
	defer third.Release()
	if _, err := os.Stat(old.RC); !os.IsNotExist(err) {
		t.Errorf("the old shell is still there: %v", err)
	}
	// A refresh that fails leaves the last good one.
	w.edit("flake.nix", `"again"`, `nothing`)
	if _, err := w.cache.Shell(context.Background(), w.nix, source, o); err == nil {
		t.Error("no error")
	}
	if hit := w.shell(source); hit.RC != third.RC {
		t.Errorf("%+v", hit)
	}
}

// An entry that is not whole is made again.
func TestDamagedEntry(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	source := w.source(KindFlake, "", "")
	for name, damage := range map[string]func(s *Shell) error{
		"a path was deleted from the store": func(s *Shell) error {
			// Properly: Nix knows that they are gone.
			i := slices.IndexFunc(s.Paths, func(p string) bool { return strings.HasSuffix(p, "-demo-shell-env") })
			w.nixRun("store", "delete", "--ignore-liveness", s.Paths[i])
			return nil
		},
		"shell.json is cut off": func(s *Shell) error {
			return os.Truncate(filepath.Join(filepath.Dir(s.RC), infoName), 100)
		},
		"shell.json is empty": func(s *Shell) error {
			return os.WriteFile(filepath.Join(filepath.Dir(s.RC), infoName), nil, 0o600)
		},
		"shell.json is of another version": func(s *Shell) error {
			file := filepath.Join(filepath.Dir(s.RC), infoName)
			data, err := os.ReadFile(file)
			return errors.Join(err, os.WriteFile(file, []byte(strings.Replace(string(data), `"version":1`, `"version":99`, 1)), 0o600))
		},
		"shell.json is a link": func(s *Shell) error {
			file := filepath.Join(filepath.Dir(s.RC), infoName)
			return errors.Join(os.Rename(file, file+"2"), os.Symlink(file+"2", file))
		},
		"the list of paths is cut off": func(s *Shell) error {
			return os.Truncate(filepath.Join(filepath.Dir(s.RC), pathsName), 100)
		},
		"the variables are gone": func(s *Shell) error { return os.Remove(filepath.Join(filepath.Dir(s.RC), exportedName)) },
		"rc.bash is cut off":     func(s *Shell) error { return os.Truncate(s.RC, 10) },
		"rc.bash is gone":        func(s *Shell) error { return os.Remove(s.RC) },
		"a maker was killed": func(s *Shell) error {
			tree := filepath.Join(w.cache.dir, s.Key, treeName, "deep")
			return errors.Join(os.Remove(filepath.Join(filepath.Dir(s.RC), infoName)), os.MkdirAll(tree, 0o755), os.WriteFile(tree+"/x", nil, 0o600))
		},
	} {
		s := w.shell(source)
		s.Release()
		if err := damage(s); err != nil {
			t.Fatal(err)
		}
		again := w.shell(source)
		if !again.Fresh || again.Look("own-tool") == "" {
			t.Errorf("%s: %+v", name, again)
		}
		again.Release()
		if _, err := os.Lstat(filepath.Join(w.cache.dir, s.Key, treeName)); !os.IsNotExist(err) {
			t.Errorf("%s: the tree is still there", name)
		}
		if numbers := w.cache.numbers(s.Key); len(numbers) != 1 {
			t.Errorf("%s: %v", name, numbers)
		}
	}
}

// A path that somebody removed behind Nix's back is an error that says so.
func TestPathRemovedByHand(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	s := w.shell(w.source(KindFlake, "", ""))
	gone := filepath.Dir(filepath.Dir(s.Look("own-tool")))
	w.run("chmod", "-R", "u+w", gone)
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	_, err := w.cache.Shell(context.Background(), w.nix, w.source(KindFlake, "", ""), w.options())
	if err == nil || !strings.Contains(err.Error(), gone) {
		t.Errorf("%v", err)
	}
}

func TestUnwritableCache(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	if err := os.WriteFile(w.cache.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := w.cache.Shell(context.Background(), w.nix, w.source(KindFlake, "", ""), w.options())
	if err == nil || !strings.HasPrefix(err.Error(), "cannot use the cache in ") || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("%v", err)
	}
	if os.Getuid() == 0 {
		t.Log("root may write everywhere: the part about rights is left out")
		return
	}
	dir := filepath.Join(w.dir, "fixed")
	if err := os.Mkdir(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	_, err = OpenCache(dir).Shell(context.Background(), w.nix, w.source(KindFlake, "", ""), w.options())
	if err == nil || !strings.HasPrefix(err.Error(), "cannot write to the cache in ") || !strings.Contains(err.Error(), "XDG_CACHE_HOME") {
		t.Errorf("%v", err)
	}
}
