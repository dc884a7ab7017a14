package worktree

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rich fills a repository with all that a tree can hold.
func (b *baker) rich() string {
	b.t.Helper()
	b.sh(b.world.repo, "sh", "-ec", `
		mkdir -p deep/er/still sub bin many
		echo x > deep/er/still/file; echo y > "deep/a
b"; printf z > "$(printf 'latin\351')"; echo s > "with space"
		ln -s deep/er link; ln -s /nowhere broken; ln -s a.txt many/l
		printf '#!/bin/sh\n' > bin/run; chmod +x bin/run
		: > empty
		for i in $(seq 300); do echo $i > many/f$i; done
		printf '*.crlf text eol=crlf\n*.id ident\n' > sub/.gitattributes
		printf 'a\nb\n' > sub/x.crlf; printf '$Id$\n' > sub/x.id
		git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),module
		mkdir module`)
	b.commit("rich")
	return b.g("rev-parse", "HEAD")
}

func TestBaseInFull(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			b := newBaker(t, format)
			commit := b.rich()
			var done, total int
			spec := b.spec(commit)
			spec.Progress = func(d, n int) { done, total = d, n }
			first, err := b.cache.Base(t.Context(), b.repo, spec)
			if err != nil {
				t.Fatal(err)
			}
			defer first.Release()
			if !first.Made || len(first.Layers) != 1 || done != total || total < 300 {
				t.Errorf("%+v, %d of %d", first, done, total)
			}
			b.compare(first, commit)
			second := b.base(commit)
			if second.Made || second.Layers[0] != first.Layers[0] || second.Index != first.Index || second.Files != first.Files {
				t.Errorf("%+v", second)
			}
			if n := b.names(); len(n) != 1 {
				t.Errorf("%q", n)
			}
			e, err := b.cache.Entries()
			if err != nil || len(e) != 1 || e[0].Commit != commit || e[0].Files != first.Files || e[0].Bytes < 300*4096 || e[0].Layers != 1 || time.Since(e[0].Made) > time.Minute {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

// Every file has one time, before the making began, and nothing else moves it.
func TestBaseTimes(t *testing.T) {
	b := newBaker(t, "sha1")
	commit := b.rich()
	before := time.Now()
	base := b.base(commit)
	after := time.Now()
	times := map[time.Time]bool{}
	err := filepath.WalkDir(base.Layers[0], func(path string, d os.DirEntry, err error) error {
		if fi, ierr := d.Info(); ierr == nil && !d.IsDir() {
			times[fi.ModTime()] = true
		}
		return err
	})
	if err != nil || len(times) != 1 {
		t.Fatalf("%v, %v", times, err)
	}
	for m := range times {
		if m.Nanosecond() != 0 || after.Sub(m) < 2*time.Second || base.entries[0].Made.Sub(m) != 2*time.Second || before.Sub(m) >= 3*time.Second {
			t.Errorf("files are of %v, the making began between %v and %v", m, before, after)
		}
	}
}

func TestBaseKeys(t *testing.T) {
	b := newBaker(t, "sha1")
	commit := b.rich()
	plain := b.base(commit)
	b.g("config", "core.autocrlf", "true")
	b.repo = b.open()
	if crlf := b.base(commit); !crlf.Made || crlf.Layers[0] == plain.Layers[0] {
		t.Errorf("autocrlf has no base of its own: %+v", crlf)
	}
	b.g("commit", "-q", "--allow-empty", "-m", "same tree")
	if again := b.base(b.g("rev-parse", "HEAD")); again.Made {
		t.Error("a commit of the same tree made a base")
	}
}

// TestHasBase: Has is there to save a look at what Base would find, and no more.
func TestHasBase(t *testing.T) {
	b := newBaker(t, "sha1")
	commit := b.rich()
	spec := b.spec(commit)
	spec.Tree = b.g("rev-parse", commit+"^{tree}")
	has := func(want bool, when string) {
		t.Helper()
		if b.cache.Has(b.repo, spec) != want {
			t.Errorf("%s: %v", when, !want)
		}
	}
	has(false, "empty")
	base := b.base(commit)
	has(true, "made")
	other := spec
	other.MapOwner = true
	if b.cache.Has(b.repo, other) {
		t.Error("that of another owner will do")
	}
	if err := b.cache.markDamaged(&DamagedError{name: base.entries[0].name()}); err != nil {
		t.Fatal(err)
	}
	has(false, "damaged")
	if again := b.base(commit); !again.Made || again.Layers[0] == base.Layers[0] {
		t.Errorf("%+v", again)
	}
	has(true, "made beside a damaged one")
}

func TestBaseDamage(t *testing.T) {
	at := func(b *Base, name string) string { return filepath.Join(b.Layers[0], name) }
	cases := map[string]func(*Base) error{
		"removed file":   func(b *Base) error { return os.Remove(at(b, "many/f7")) },
		"added file":     func(b *Base) error { return os.WriteFile(at(b, "many/new"), nil, 0o644) },
		"added folder":   func(b *Base) error { return os.Mkdir(at(b, "deep/er/new"), 0o755) },
		"removed folder": func(b *Base) error { return os.RemoveAll(at(b, "deep")) },
		"truncated":      func(b *Base) error { return os.Truncate(at(b, "a.txt"), 3) },
		"same size and time": func(b *Base) error {
			fi, err := os.Stat(at(b, "a.txt"))
			if err == nil {
				err = os.WriteFile(at(b, "a.txt"), []byte("ONE\ntwo\nthree\n"), 0o644)
			}
			return errors.Join(err, os.Chtimes(at(b, "a.txt"), fi.ModTime(), fi.ModTime()))
		},
		"mode":        func(b *Base) error { return os.Chmod(at(b, "bin/run"), 0o644) },
		"folder mode": func(b *Base) error { return os.Chmod(at(b, "deep"), 0o700) },
		"xattr":       func(b *Base) error { return unix.Setxattr(at(b, "deep"), "user.overlay.opaque", []byte("y"), 0) },
		"link": func(b *Base) error {
			return errors.Join(os.Remove(at(b, "link")), os.Symlink("deep/xx", at(b, "link")))
		},
		"no layer": func(b *Base) error { return os.RemoveAll(b.Layers[0]) },
		"index":    func(b *Base) error { return os.WriteFile(b.Index, []byte("DIRC"), 0o644) },
		"manifest": func(b *Base) error { return os.Truncate(filepath.Join(filepath.Dir(b.Index), manifestName), 100) },
		"info": func(b *Base) error {
			return os.WriteFile(filepath.Join(filepath.Dir(b.Index), infoName), []byte("{"), 0o600)
		},
		"no lock": func(b *Base) error { return os.Remove(filepath.Join(filepath.Dir(b.Index), lockName)) },
	}
	b := newBaker(t, "sha1")
	commit := b.rich()
	for name, spoil := range cases {
		for _, inUse := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, in use %v", name, inUse), func(t *testing.T) {
				good := b.base(commit)
				good.Release()
				clear(b.inUse)
				b.inUse[good.Layers[0]] = inUse
				if err := spoil(good); err != nil {
					t.Fatal(err)
				}
				found, err := b.cache.Base(t.Context(), b.repo, b.spec(commit))
				if err != nil {
					t.Fatal(err)
				}
				err = found.CheckNames()
				if names := strings.Contains(name, "folder") || strings.Contains(name, "file") || name == "xattr"; names && err == nil {
					t.Error("not noticed by the names")
				}
				err = found.Check()
				found.Release()
				var damaged *DamagedError
				if !found.Made && !errors.As(err, &damaged) {
					t.Fatalf("not noticed: %+v, %v", found, err)
				}
				again, err := b.cache.Rebuild(t.Context(), b.repo, b.spec(commit))
				if err != nil {
					t.Fatal(err)
				}
				defer again.Release()
				if err := again.Check(); err != nil || !found.Made && again.Rebuilt == "" {
					t.Fatalf("%+v, %v", again, err)
				}
				b.compare(again, commit)
				if gone := missing(filepath.Dir(good.Index)); gone && inUse {
					t.Error("the base of a task was removed")
				}
				clear(b.inUse)
				b.inUse[again.Layers[0]] = true
				if _, _, err := b.cache.Collect(func() (map[string]bool, error) { return b.inUse, nil }); err != nil {
					t.Error(err)
				}
				if n := b.names(); len(n) != 1 {
					t.Errorf("%q", n)
				}
			})
		}
	}
}

// After a restart the content counts, not only the numbers.
func TestBaseAfterReboot(t *testing.T) {
	b := newBaker(t, "sha1")
	commit := b.rich()
	b.base(commit).Release()
	b.write("proj/many/f1", "changed\n")
	b.commit("second")
	top := b.base(b.g("rev-parse", "HEAD"))
	if len(top.Layers) != 2 {
		t.Fatalf("%+v", top)
	}
	top.Release()
	otherBoot := func(lose bool) {
		for _, e := range top.entriesAgain(b) {
			e.Boot = "another"
			if lose { // as a power cut does it: the right numbers, no content
				if err := os.WriteFile(filepath.Join(e.files(), "many/f1"), make([]byte, 8), 0o644); err != nil {
					t.Fatal(err)
				}
				root, _ := os.Open(e.files())
				list, _, err := writeManifest(root)
				if err != nil {
					t.Fatal(err)
				}
				root.Close()
				b.write(e.path(manifestName), string(list))
				e.Sum = crcOf(list)
			}
			if err := e.writeInfo(); err != nil {
				t.Fatal(err)
			}
		}
	}
	otherBoot(false)
	b.base(b.g("rev-parse", "HEAD")).Release()
	boot, _ := bootID()
	for _, e := range top.entriesAgain(b) {
		if e.Boot != boot {
			t.Errorf("the boot was not noted: %q", e.Boot)
		}
	}
	otherBoot(true)
	head := b.g("rev-parse", "HEAD")
	base, err := b.cache.Base(t.Context(), b.repo, b.spec(head))
	if err != nil {
		t.Fatal(err)
	}
	err = base.Check()
	base.Release()
	var damaged *DamagedError
	if !errors.As(err, &damaged) {
		t.Fatalf("lost content was not noticed: %v", err)
	}
	if base, err = b.cache.Rebuild(t.Context(), b.repo, b.spec(head)); err != nil {
		t.Fatal(err)
	}
	defer base.Release()
	b.compare(base, head)
}

// entriesAgain reads what is known of the base's entries, held or not.
func (b *Base) entriesAgain(k *baker) []*baseEntry {
	var all []*baseEntry
	for _, l := range b.Layers {
		e := &baseEntry{held: &held{dir: filepath.Dir(l)}}
		if err := e.readInfo(); err != nil {
			k.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func TestMakersMeet(t *testing.T) {
	b := newBaker(t, "sha1")
	commit := b.rich()
	made := 0
	one, out1 := b.another(commit, 6)
	two, out2 := b.another(commit, 6)
	if err := errors.Join(one.Wait(), two.Wait()); err != nil {
		t.Fatal(err, out1, out2)
	}
	for _, out := range []string{out1.String(), out2.String()} {
		if strings.Contains(out, `"made":true`) {
			made++
		}
	}
	if made != 1 {
		t.Errorf("made %d times: %s, %s", made, out1, out2)
	}
	if b.base(commit).Made {
		t.Error("made again")
	}
}

func TestProgressLines(t *testing.T) {
	var seen []string
	said := readProgress(strings.NewReader("Updating files:  12% (12/100)\rUpdating files: 100% (100/100), done.\nwarning: odd\nfatal: bad\n"+strings.Repeat("x", 1<<17)),
		func(done, total int) { seen = append(seen, fmt.Sprint(done, "/", total)) })
	if strings.Join(seen, " ") != "12/100 100/100" || strings.Contains(said, "Updating") {
		t.Errorf("%q, %q", seen, said)
	}
}

func crcOf(list []byte) uint32 { return crc32.Checksum(list, crcTable) }

// TestLargeBaseIsCheckedBeside: what was written in place to a file of a large
// base becomes known after the task has begun, at most once in a while.
func TestLargeBaseIsCheckedBeside(t *testing.T) {
	wasLarge, wasRecently := large, recently
	large, recently = 3, 24*time.Hour // longer than the test takes on any machine
	t.Cleanup(func() { large, recently = wasLarge, wasRecently })
	b := newBaker(t, "sha1")
	commit := b.rich()
	made := b.base(commit)
	made.Release()
	find := func() *Layers {
		found, err := b.cache.Base(t.Context(), b.repo, b.spec(commit))
		if err != nil || found.Made {
			t.Fatalf("%+v, %v", found, err)
		}
		return b.cache.On(found, false)
	}
	l := find()
	if err := errors.Join(l.Ready(), l.Check()); err != nil {
		t.Fatal(err)
	}
	l.Release()
	if err := os.WriteFile(filepath.Join(made.Layers[0], "a.txt"), []byte("bad"), 0o644); err != nil {
		t.Fatal(err)
	}
	l = find()
	if err := errors.Join(l.Ready(), l.Check()); err != nil {
		t.Errorf("every file was looked at again at once: %v", err)
	}
	l.Release()
	old := time.Now().Add(-2 * recently)
	if err := os.Chtimes(filepath.Join(filepath.Dir(made.Index), seenName), old, old); err != nil {
		t.Fatal(err)
	}
	l = find()
	var damaged *DamagedError
	// Ready does not wait for it, and tells it when it is known already.
	if err := l.Ready(); err != nil && !errors.As(err, &damaged) {
		t.Error(err)
	}
	if err := l.Check(); !errors.As(err, &damaged) || !strings.Contains(err.Error(), "a.txt") {
		t.Errorf("not noticed: %v", err)
	}
	l.Release()
	again := b.base(commit)
	defer again.Release()
	if !again.Made {
		t.Error("the damaged base was used again")
	}
	b.compare(again, commit)
}
