package worktree

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// steps are commits that each change something else.
var steps = []struct{ name, script string }{
	{"edit", `echo more >> many/f1; echo new > many/new`},
	{"delete", `rm many/f2; rm -r deep/er`},
	{"rename folder", `git mv many lots`},
	{"file to folder", `rm a.txt; mkdir a.txt; echo in > a.txt/in`},
	{"folder to file", `rm -r bin; echo file > bin`},
	{"link to file", `rm link; echo plain > link`},
	{"file to link", `rm empty; ln -s lots empty`},
	{"folder to link", `rm -r a.txt; ln -s lots a.txt`},
	{"mode", `chmod +x lots/f3 "with space"; chmod +x sub/x.crlf`},
	{"back again", `mkdir -p deep/er/still; echo x > deep/er/still/other`},
	{"odd names", `rm "$(printf 'latin\351')" deep/a*; echo n > "$(printf 'new\nline')"; echo l > "$(printf '\377\376')"; echo w > .wh.a; echo q > 'a"b\'`},
	{"submodule", `rmdir module; git rm -q --cached module; echo file > module`},
	{"replaced folder", `rm -r lots; mkdir lots; echo only > lots/only`},
	{"eol", `printf 'c\nd\n' > sub/x.crlf; printf 'e\n' > sub/y.crlf; echo '$Id$' > sub/y.id`},
}

func (b *baker) step(script string) string {
	b.t.Helper()
	b.sh(b.world.repo, "sh", "-ec", script)
	return b.commit("step")
}

func TestLayers(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			b := newBaker(t, format)
			b.cache.rules.layers = len(steps) + 1
			b.base(b.rich())
			for i, s := range steps {
				base := b.base(b.step(s.script))
				if len(base.Layers) != i+2 || !base.Made {
					t.Errorf("%s: %d layers", s.name, len(base.Layers))
				}
				if t.Failed() {
					t.Fatal(s.name)
				}
			}
			e, err := b.cache.Entries()
			if err != nil || len(e) != len(steps)+1 {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

// With room for two layers, every other commit changes the bottom.
func TestUpdateInPlace(t *testing.T) {
	b := newBaker(t, "sha1")
	b.cache.rules.layers = 2
	b.base(b.rich()).Release()
	inode := func() string {
		var list []string
		for _, n := range b.names() {
			list = append(list, b.sh(b.dir, "stat", "-c", "%i", filepath.Join(b.cache.path(baseKind, n), layerName, ".gitignore")))
			break
		}
		return strings.Join(list, "")
	}
	first := inode()
	for i, s := range steps {
		base := b.base(b.step(s.script))
		base.Release()
		if want := 2 - i%2; len(base.Layers) != want || len(b.names()) != want {
			t.Fatalf("%s: %d layers, %q", s.name, len(base.Layers), b.names())
		}
		if len(base.Layers) == 1 && inode() != first {
			t.Errorf("%s: made in full", s.name)
		}
	}
}

// What a task uses is never changed: then the layer goes on the bottom.
func TestNoUpdateOfWhatIsUsed(t *testing.T) {
	b := newBaker(t, "sha1")
	b.cache.rules.layers = 2
	bottom := b.base(b.rich())
	bottom.Release()
	top := b.base(b.step(steps[0].script))
	top.Release()
	b.inUse[top.Layers[0]] = true // by a record
	third := b.base(b.step(steps[1].script))
	third.Release()
	if len(third.Layers) != 2 || third.Layers[1] != bottom.Layers[0] {
		t.Errorf("%+v", third)
	}
	clear(b.inUse)
	held := b.base(b.g("rev-parse", "HEAD~1")) // by a lock
	fourth := b.base(b.step(steps[2].script))
	if len(fourth.Layers) != 2 {
		t.Errorf("%+v", fourth)
	}
	b.compare(held, b.g("rev-parse", "HEAD~2"))
}

func TestAttributesAreMadeInFull(t *testing.T) {
	b := newBaker(t, "sha1")
	b.base(b.rich())
	base := b.base(b.step(`echo '*.txt text eol=crlf' > .gitattributes`))
	if len(base.Layers) != 1 {
		t.Errorf("%+v", base)
	}
}

func TestFarCommitIsMadeInFull(t *testing.T) {
	b := newBaker(t, "sha1")
	b.cache.rules.share = 10
	b.base(b.rich())
	if base := b.base(b.step(`for i in $(seq 60); do echo x >> many/f$i; done`)); len(base.Layers) != 1 {
		t.Errorf("%+v", base)
	}
	if base := b.base(b.step(`for i in $(seq 20); do echo x >> many/f$i; done`)); len(base.Layers) != 2 {
		t.Errorf("%+v", base)
	}
}

// A damaged bottom takes down what stands on it.
func TestDamageBelow(t *testing.T) {
	b := newBaker(t, "sha1")
	bottom := b.base(b.rich())
	bottom.Release()
	commit := b.step(steps[0].script)
	top := b.base(commit)
	top.Release()
	b.inUse[top.Layers[0]], b.inUse[bottom.Layers[0]] = true, true
	if err := os.Remove(filepath.Join(bottom.Layers[0], "a.txt")); err != nil {
		t.Fatal(err)
	}
	again, err := b.cache.Rebuild(t.Context(), b.repo, b.spec(commit))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Release()
	b.compare(again, commit)
	if missing(top.Layers[0]) || missing(bottom.Layers[0]) || again.Rebuilt == "" {
		t.Errorf("%+v", again)
	}
}

func TestCollect(t *testing.T) {
	b := newBaker(t, "sha1")
	bottom := b.base(b.rich())
	bottom.Release()
	top := b.base(b.step(steps[0].script))
	top.Release()
	other := b.base(b.step(`echo '* text' > .gitattributes`)) // stands alone
	collect := func() []string {
		t.Helper()
		removed, bytes, err := b.cache.Collect(func() (map[string]bool, error) { return b.inUse, nil })
		if err != nil || (bytes > 0) != (len(removed) > 0) {
			t.Fatalf("%q, %d, %v", removed, bytes, err)
		}
		return removed
	}
	b.inUse[top.Layers[0]] = true
	if r := collect(); len(r) != 0 { // top by a record, bottom by top, other by a lock
		t.Errorf("removed %q", r)
	}
	other.Release()
	if r := collect(); len(r) != 1 || r[0] != filepath.Dir(other.Index) {
		t.Errorf("removed %q", r)
	}
	clear(b.inUse)
	if r := collect(); len(r) != 2 || len(b.names()) != 0 {
		t.Errorf("removed %q", r)
	}
}

// Real kills of the maker at random moments; the next one always gets there,
// and Collect leaves nothing behind.
func TestKilledMakers(t *testing.T) {
	b := newBaker(t, "sha1")
	commits := []string{b.rich()}
	for _, s := range steps {
		commits = append(commits, b.step(s.script))
	}
	rounds, seed := 15, uint64(time.Now().UnixNano())
	if testing.Short() {
		rounds = 4
	}
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	b.cache.rules.layers = 2
	ended := 0
	for n := range rounds {
		commit := commits[dice.IntN(len(commits))]
		cmd, out := b.another(commit, 2)
		time.Sleep(time.Duration(dice.IntN(250)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		var said struct{ Made bool }
		if _, line, ok := strings.Cut(out.String(), "\n"); ok && json.Unmarshal([]byte(line), &said) == nil {
			ended++
		}
		if n%3 == 0 {
			b.base(commit).Release()
		}
		if t.Failed() {
			t.Fatal(n)
		}
	}
	t.Logf("%d of %d had ended", ended, rounds)
	// The git of the last one may live on for a moment.
	time.Sleep(200 * time.Millisecond)
	if _, _, err := b.cache.Collect(func() (map[string]bool, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(b.cache.path(baseKind, ".*-*"))
	if n := b.names(); len(n) != 0 || len(left) != 0 {
		t.Errorf("left: %q %q", n, left)
	}
}

// An entry that is removed between finding and locking is looked for again.
func TestRemovedWhileFound(t *testing.T) {
	c := OpenCache(filepath.Join(t.TempDir(), "c"))
	stop, done := make(chan bool), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, _, err := c.Collect(func() (map[string]bool, error) { return nil, nil }); err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 300 {
		h, err := c.entry(t.Context(), "git", "key", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, layerName), fmt.Append(nil, i), 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
		if missing(h.files()) {
			t.Fatal("a held entry was removed")
		}
		h.release()
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A bottom that was made again under its old name is another one: what stood
// on the old one has an index that does not fit.
func TestMadeAgainBelow(t *testing.T) {
	b := newBaker(t, "sha1")
	first := b.rich()
	bottom := b.base(first)
	bottom.Release()
	commit := b.step(steps[0].script)
	b.base(commit).Release()
	if err := os.Remove(filepath.Join(bottom.Layers[0], "a.txt")); err != nil {
		t.Fatal(err)
	}
	b.cache.rules.floor = 1 << 30 // in full
	again, err := b.cache.Rebuild(t.Context(), b.repo, b.spec(first))
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
	if again.Layers[0] != bottom.Layers[0] {
		t.Fatalf("%+v", again)
	}
	if top := b.base(commit); !top.Made || top.Rebuilt == "" {
		t.Errorf("%+v", top)
	}
}

// TestSoundEntry: a damaged entry stays for who uses it, and the next one has
// another name, up to a bound.
func TestSoundEntry(t *testing.T) {
	c := OpenCache(t.TempDir())
	made, bad := 0, 2
	get := func() (*held, error) {
		fill := func(string) error { made++; return nil }
		return c.soundEntry(t.Context(), gitKind, "key", fill, func(h *held) bool {
			for g := range bad {
				if filepath.Base(h.dir) == generation("key", g) {
					return false
				}
			}
			return true
		})
	}
	for range 2 {
		h, err := get()
		if err != nil || made != 3 || h.dir != c.path(gitKind, "key.2") {
			t.Fatalf("%+v, %v, %d made", h, err, made)
		}
		h.release()
	}
	bad = generations
	if _, err := get(); err == nil || !strings.Contains(err.Error(), "rcc gc") || made != generations {
		t.Errorf("%v, %d made", err, made)
	}
}
