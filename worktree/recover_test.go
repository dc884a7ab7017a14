package worktree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bigChange is a task that changes files in every way a merge can meet.
const bigChange = `
echo four >> a.txt
rm dir/b.txt; mkdir -p dir/b.txt; echo x > dir/b.txt/inner
rm gone.txt
rm swap; ln -s a.txt swap
rm -r folder; echo now a file > folder
mkdir -p new/deep; echo n > new/deep/n; chmod +x mode.sh
printf 'long content, written in two parts' > parts.txt
printf x > "$(printf 'q\n"\377')"
`

func (w *world) bigTask() (*Repo, *MergeIntent) { return w.bigTaskWith("") }

func (w *world) bigTaskWith(script string) (*Repo, *MergeIntent) {
	w.t.Helper()
	for _, f := range []string{"gone.txt", "swap", "folder/one", "folder/two", "mode.sh", "parts.txt", "untouched"} {
		w.write("proj/"+f, f+"\n")
	}
	w.commit("more")
	r, tree := w.task("t", false)
	w.agent(tree, bigChange+script)
	h := w.accept(r, tree)
	// Local changes that have nothing to do with the merge stay through it all.
	w.write("proj/untouched", "mine\n")
	w.write("proj/staged", "mine\n")
	w.g("add", "staged")
	w.write("proj/loose", "mine\n")
	in := w.plan(r, MergeSpec{ID: "t", Base: tree.Base, Start: tree.Start, Tip: h.Tip})
	return r, in
}

var applySteps = []string{"locked", "copied", "tried", "written", "indexed", "moved"}

func TestRecoverFromEachStep(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		for i, step := range applySteps {
			t.Run(fmt.Sprintf("%s/reverse=%v", step, reverse), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "sha1")
				r, in := w.bigTask()
				if reverse {
					if err := r.ApplyMerge(t.Context(), in); err != nil {
						t.Fatal(err)
					}
					in = in.Reversed()
				}
				before := w.stable()
				r.halt = func(s string) bool { return s == step }
				if err := r.ApplyMerge(t.Context(), in); !errors.Is(err, errHalted) {
					t.Fatal(err)
				}
				r.halt = nil
				if err := r.ApplyMerge(t.Context(), in); err == nil || !strings.Contains(err.Error(), "cut off") {
					t.Errorf("a second merge was not refused: %v", err)
				}
				done, err := r.RecoverMerge(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				if want := i >= 4; done != want {
					t.Errorf("done is %v, want %v", done, want)
				}
				w.checkSettled(in, done, before)
				if again, err := r.RecoverMerge(t.Context(), in); err != nil || again != done {
					t.Errorf("again: %v, %v", again, err)
				}
			})
		}
	}
}

// stable is the fingerprint of the checkout without git's logs, which record
// what was taken back too.
func (w *world) stable() string {
	var kept []string
	for l := range strings.SplitSeq(w.fingerprint(w.repo, false), "\n") {
		if !strings.HasPrefix(l, ".git/logs/") {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "\n")
}

func (w *world) checkSettled(in *MergeIntent, done bool, before string) {
	w.t.Helper()
	want := in.Old
	if done {
		want = in.New
	} else {
		same(w.t, "the checkout", before, w.stable())
	}
	if got := w.g("rev-parse", "HEAD"); got != want {
		w.t.Errorf("HEAD is %s, want %s", got, want)
	}
	if got := w.g("status", "--porcelain"); got != "A  staged\n M untouched\n?? loose" {
		w.t.Errorf("status %q", got)
	}
	for _, name := range []string{"index.lock", ourIndex, ourIndex + ".lock", "rcc-lock", "refs/heads/main.lock", "HEAD.lock"} {
		if _, err := os.Lstat(filepath.Join(w.repo, ".git", name)); err == nil {
			w.t.Errorf("%s is left", name)
		}
	}
}

// A git that was killed while it wrote files: some new, some old, some half,
// some gone.
func TestRecoverHalfWritten(t *testing.T) {
	for n := range 12 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "sha1")
			r, in := w.bigTask()
			before := w.stable()
			r.halt = func(s string) bool { return s == "tried" }
			if err := r.ApplyMerge(t.Context(), in); !errors.Is(err, errHalted) {
				t.Fatal(err)
			}
			// In git's order: what goes, then what comes.
			steps := []func(){
				func() { os.Remove(w.repo + "/dir/b.txt") },
				func() { os.Remove(w.repo + "/folder/one") },
				func() { os.Remove(w.repo + "/folder/two"); os.Remove(w.repo + "/folder") },
				func() { os.Remove(w.repo + "/gone.txt") },
				func() { w.write("proj/a.txt", "one\ntwo\nthree\nfour\n") },
				func() { w.write("proj/dir/b.txt/inner", "") },
				func() { w.write("proj/folder", "now a") },
				func() { os.Remove(w.repo + "/swap") },
				func() { os.Symlink("a.txt", w.repo+"/swap") },
				func() { w.write("proj/new/deep/n", "n\n"); os.Chmod(w.repo+"/mode.sh", 0o755) },
				func() { w.write("proj/parts.txt", "long content") },
				func() { w.write("proj/q\n\"\xff", "x"); w.write("proj/.git/"+ourIndex+".lock", "half") },
			}
			for _, f := range steps[:n+1] {
				f()
			}
			done, err := r.RecoverMerge(t.Context(), in)
			if err != nil || done {
				t.Fatalf("%v, %v", done, err)
			}
			w.checkSettled(in, false, before)
		})
	}
}

// Killed while a merge that could not move the ref was being taken back: the
// index is new, the files are partly old again.
func TestRecoverHalfTakenBack(t *testing.T) {
	w := newWorld(t, "sha1")
	r, in := w.bigTask()
	r.halt = func(s string) bool { return s == "indexed" }
	if err := r.ApplyMerge(t.Context(), in); !errors.Is(err, errHalted) {
		t.Fatal(err)
	}
	w.write("proj/a.txt", "one\ntwo\n")
	w.write("proj/gone.txt", "gone")
	os.RemoveAll(w.repo + "/new")
	os.Remove(w.repo + "/folder")
	w.write("proj/folder/one", "folder/one\n")
	os.Remove(w.repo + "/swap")
	os.Chmod(w.repo+"/mode.sh", 0o644)
	done, err := r.RecoverMerge(t.Context(), in)
	if err != nil || !done {
		t.Fatalf("%v, %v", done, err)
	}
	w.checkSettled(in, true, "")
}

func TestRecoverKeepsForeignChanges(t *testing.T) {
	w := newWorld(t, "sha1")
	r, in := w.bigTask()
	r.halt = func(s string) bool { return s == "written" }
	if err := r.ApplyMerge(t.Context(), in); !errors.Is(err, errHalted) {
		t.Fatal(err)
	}
	w.write("proj/a.txt", "somebody's work\n")
	w.write("proj/new/deep/n", "somebody's work\n")
	done, err := r.RecoverMerge(t.Context(), in)
	if done || err == nil || !strings.Contains(err.Error(), "a.txt") || !strings.Contains(err.Error(), "new/deep/n") {
		t.Fatalf("%v, %v", done, err)
	}
	if w.read("proj/a.txt") != "somebody's work\n" || w.read("proj/new/deep/n") != "somebody's work\n" {
		t.Error("the work is lost")
	}
	if w.read("proj/parts.txt") != "parts.txt\n" {
		t.Error("other files were not restored")
	}
}

func TestRecoverStaleRefLocks(t *testing.T) {
	for name, content := range map[string]string{"ours": "NEW\n", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "sha1")
			r, in := w.bigTask()
			r.halt = func(s string) bool { return s == "indexed" }
			if err := r.ApplyMerge(t.Context(), in); !errors.Is(err, errHalted) {
				t.Fatal(err)
			}
			lock := filepath.Join(w.repo, ".git/refs/heads/main.lock")
			w.write(lock, strings.Replace(content, "NEW", in.New, 1))
			w.write(filepath.Join(w.repo, ".git/HEAD.lock"), "")
			done, err := r.RecoverMerge(t.Context(), in)
			if err != nil || !done {
				t.Fatalf("%v, %v", done, err)
			}
			w.checkSettled(in, true, "")
		})
	}
}

func TestForeignRefLockIsKept(t *testing.T) {
	w := newWorld(t, "sha1")
	lock := filepath.Join(w.repo, ".git/refs/heads/x.lock")
	w.write(lock, strings.Repeat("1", 40)+"\n")
	old := time.Now().Add(-time.Hour)
	os.Chtimes(lock, old, old)
	if clearStaleLock(lock, strings.Repeat("2", 40)) {
		t.Error("a lock with another value was taken for ours")
	}
}

// The lock is inherited by git: as long as a killed merge's git lives, nobody
// recovers under its feet.
func TestLockIsHeldByChildren(t *testing.T) {
	dir := t.TempDir()
	a, err := lockDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir, 50*time.Millisecond); err == nil {
		t.Error("two hold the lock")
	}
	a.unlock()
	b, err := lockDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.unlock()
}

// A failure after the files and the index were written (the ref is locked by
// somebody) leaves everything as it was.
func TestApplyFailsWhole(t *testing.T) {
	w := newWorld(t, "sha1")
	r, in := w.bigTask()
	lock := filepath.Join(w.repo, ".git/refs/heads/main.lock")
	w.write(lock, strings.Repeat("1", 40)+"\n")
	err := r.ApplyMerge(t.Context(), in)
	if err == nil {
		t.Fatal("it went through")
	}
	os.Remove(lock)
	if got := w.g("status", "--porcelain"); got != "A  staged\n M untouched\n?? loose" {
		t.Errorf("status %q after %v", got, err)
	}
	if got := w.g("rev-parse", "HEAD"); got != in.Old {
		t.Errorf("HEAD is %s", got)
	}
}

// TestRecoverFromRecovery: a recovery that was killed while it wrote leaves the
// beginning of the old content, also of a file that the merge had removed.
func TestRecoverFromRecovery(t *testing.T) {
	for name, left := range map[string]string{"empty": "", "a part": "go"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "sha1")
			r, in := w.bigTask()
			before := w.stable()
			r.halt = func(s string) bool { return s == "written" }
			if err := r.ApplyMerge(t.Context(), in); !errors.Is(err, errHalted) {
				t.Fatal(err)
			}
			r.halt = nil
			w.write("proj/gone.txt", left) // it was "gone.txt\n"
			done, err := r.RecoverMerge(t.Context(), in)
			if err != nil || done {
				t.Fatal(done, err)
			}
			w.checkSettled(in, done, before)
		})
	}
}
