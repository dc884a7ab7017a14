package worktree

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ready makes a task with one commit and one uncommitted change, accepted.
func (w *world) ready(id string) (*Repo, *Tree, MergeSpec) {
	w.t.Helper()
	r, tree := w.task(id, false)
	w.agent(tree, "echo four >> a.txt; git commit -qam work; echo new > new.txt")
	h := w.accept(r, tree)
	return r, tree, MergeSpec{ID: id, Base: tree.Base, Start: tree.Start, Tip: h.Tip}
}

func (w *world) plan(r *Repo, spec MergeSpec) *MergeIntent {
	w.t.Helper()
	in, err := r.PlanMerge(w.t.Context(), spec)
	if err != nil {
		w.t.Fatalf("plan: %v", err)
	}
	return in
}

func (w *world) clean(dir string) {
	w.t.Helper()
	if got := w.sh(dir, "sh", "-c", "git status --porcelain 2>/dev/null"); got != "" {
		w.t.Errorf("status of %s: %q", dir, got)
	}
}

func TestMergeModes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		mode  MergeMode
		moved bool // the branch has moved on
		log   string
		fails string
	}{
		{name: "forward", log: "left over|work|start"},
		{name: "merge", moved: true, log: "Merge task t|left over|work|other|start"},
		{name: "squash", mode: Squash, log: "Squashed task t|start"},
		{name: "squash moved", mode: Squash, moved: true, log: "Squashed task t|other|start"},
		{name: "rebase", mode: Rebase, moved: true, log: "left over|work|other|start"},
		{name: "rebase in place", mode: Rebase, log: "left over|work|start"},
		{name: "ff-only", mode: FFOnly, log: "left over|work|start"},
		{name: "ff-only moved", mode: FFOnly, moved: true, fails: "cannot fast-forward"},
		{name: "unknown", mode: "sideways", fails: "not known"},
	} {
		for _, format := range formats {
			t.Run(tc.name+"/"+format, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, format)
				r, _, spec := w.ready("t")
				spec.Mode = tc.mode
				if tc.moved {
					w.write("proj/other.txt", "o\n")
					w.commit("other")
				}
				before := w.fingerprint(w.repo, false)
				in, err := r.PlanMerge(t.Context(), spec)
				same(t, "the checkout at PlanMerge", before, w.fingerprint(w.repo, false))
				if tc.fails != "" {
					if err == nil || !strings.Contains(err.Error(), tc.fails) {
						t.Fatalf("got %v, want %q", err, tc.fails)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := r.ApplyMerge(t.Context(), in); err != nil {
					t.Fatal(err)
				}
				w.clean(w.repo)
				if got := strings.ReplaceAll(w.g("log", "--topo-order", "--format=%s"), "\n", "|"); got != tc.log {
					t.Errorf("log %q, want %q", got, tc.log)
				}
				if got := w.read("proj/a.txt"); got != "one\ntwo\nthree\nfour\n" {
					t.Errorf("a.txt is %q", got)
				}
				if got := w.g("symbolic-ref", "HEAD"); got != "refs/heads/main" {
					t.Errorf("HEAD is %s", got)
				}
				if tc.mode == Squash && !strings.Contains(w.g("log", "-1", "--format=%b"), "* work\n* left over") {
					t.Errorf("squash message %q", w.g("log", "-1", "--format=%B"))
				}
				if _, err := r.PlanMerge(t.Context(), spec); !errors.Is(err, ErrNothing) {
					t.Errorf("again: %v, want ErrNothing", err)
				}
				if err := r.UndoMerge(t.Context(), in); err != nil {
					t.Fatal(err)
				}
				w.clean(w.repo)
				if now := w.g("rev-parse", "HEAD"); now != in.Old {
					t.Errorf("after undo HEAD is %s, want %s", now, in.Old)
				}
			})
		}
	}
}

func TestMergeConflict(t *testing.T) {
	for _, mode := range []MergeMode{Merge, Squash, Rebase} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "sha1")
			r, _, spec := w.ready("t")
			spec.Mode = mode
			w.write("proj/a.txt", "one\ntwo\nthree\nfünf\n")
			w.commit("other")
			before := w.fingerprint(w.repo, false)
			_, err := r.PlanMerge(t.Context(), spec)
			var ce *ConflictError
			if !errors.As(err, &ce) || !slices.Equal(ce.Conflicts, []string{"a.txt"}) {
				t.Fatalf("got %v", err)
			}
			same(t, "the checkout", before, w.fingerprint(w.repo, false))
		})
	}
}

func TestLocalChangesInTheWay(t *testing.T) {
	for _, tc := range []struct {
		name, agent string
		local       func(w *world)
		want        []string
	}{
		{"modified", "echo x >> a.txt", func(w *world) { w.write("proj/a.txt", "mine\n") }, []string{"a.txt"}},
		{"staged", "echo x >> a.txt", func(w *world) { w.write("proj/a.txt", "mine\n"); w.g("add", "a.txt") }, []string{"a.txt"}},
		{"deleted", "echo x >> a.txt", func(w *world) { os.Remove(w.repo + "/a.txt") }, []string{"a.txt"}},
		{"elsewhere", "echo x >> a.txt", func(w *world) { w.write("proj/dir/b.txt", "mine\n"); w.write("proj/free", "x") }, nil},
		{"untracked", "echo x > n", func(w *world) { w.write("proj/n", "mine\n") }, []string{"n"}},
		{"untracked, same", "echo x > n", func(w *world) { w.write("proj/n", "x\n") }, []string{"n"}},
		{"ignored", "echo x > y.o; git add -f y.o", func(w *world) { w.write("proj/y.o", "mine\n") }, []string{"y.o"}},
		{"ignored folder", "git add -f -A; echo x > out; git add -f out", func(w *world) { w.write("proj/out/deep/y", "mine\n") }, []string{"out/deep/y"}},
		{"file where a folder comes", "mkdir n; echo x > n/x", func(w *world) { w.write("proj/n", "mine\n") }, []string{"n"}},
		{"link where a folder comes", "mkdir n; echo x > n/x", func(w *world) { os.Symlink("dir", w.repo+"/n") }, []string{"n"}},
		{"folder to file", "rm -r dir; echo x > dir", func(w *world) { w.write("proj/dir/y.o", "mine\n") }, []string{"dir/y.o"}},
		{"folder to file, clean", "rm -r dir; echo x > dir", func(w *world) {}, nil},
		{"file to folder, clean", "rm a.txt; mkdir a.txt; echo x > a.txt/y", func(w *world) {}, nil},
		{"new below a changed file", "rm a.txt; mkdir a.txt; echo x > a.txt/y", func(w *world) { w.write("proj/a.txt", "mine\n") }, []string{"a.txt"}},
		{"odd names", "printf x > '-n'; printf x > \"$(printf 'q\\n\"\\377')\"", func(w *world) { w.write("proj/q\n\"\xff", "mine\n"); w.write("proj/-n", "") }, []string{"-n", "q\n\"\xff"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "sha1")
			r, tree := w.task("t", false)
			w.agent(tree, tc.agent)
			h := w.accept(r, tree)
			spec := MergeSpec{ID: "t", Base: tree.Base, Start: tree.Start, Tip: h.Tip}
			early := w.plan(r, spec)
			tc.local(w)
			before := w.fingerprint(w.repo, false)
			in, err := r.PlanMerge(t.Context(), spec)
			var ce *ConflictError
			if tc.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				if err := r.ApplyMerge(t.Context(), in); err != nil {
					t.Fatal(err)
				}
				if got := w.g("rev-parse", "HEAD"); got != h.Tip {
					t.Errorf("HEAD is %s", got)
				}
				return
			}
			if !errors.As(err, &ce) || !slices.Equal(ce.Local, tc.want) {
				t.Fatalf("got %v (%q), want %q", err, ce, tc.want)
			}
			// What appears between plan and apply is seen too.
			if err := r.ApplyMerge(t.Context(), early); !errors.As(err, &ce) || !slices.Equal(ce.Local, tc.want) {
				t.Errorf("apply: %v", err)
			}
			same(t, "the checkout", before, w.fingerprint(w.repo, false))
			if _, err := os.Lstat(filepath.Join(w.repo, ".git", "index.lock")); err == nil {
				t.Error("index.lock is left")
			}
		})
	}
}

func TestBranchMovedSincePlan(t *testing.T) {
	for name, move := range map[string]func(w *world){
		"new commit":     func(w *world) { w.g("commit", "-q", "--allow-empty", "-m", "x") },
		"another branch": func(w *world) { w.g("checkout", "-q", "-b", "elsewhere") },
		"detached":       func(w *world) { w.g("checkout", "-q", "--detach") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "sha1")
			r, _, spec := w.ready("t")
			in := w.plan(r, spec)
			move(w)
			before := w.fingerprint(w.repo, true)
			if err := r.ApplyMerge(t.Context(), in); err == nil || !strings.Contains(err.Error(), "has moved since") {
				t.Errorf("got %v", err)
			}
			same(t, "the repository", before, w.fingerprint(w.repo, true))
		})
	}
}

// The reviewed tip is what is merged, by id, whatever the branch says by then.
func TestMergeIsByID(t *testing.T) {
	w := newWorld(t, "sha1")
	r, tree, spec := w.ready("t")
	w.agent(tree, "echo later > later")
	w.accept(r, tree)
	in := w.plan(r, spec)
	if in.New != spec.Tip {
		t.Errorf("merges %s, want %s", in.New, spec.Tip)
	}
}

func TestUndoIsRefused(t *testing.T) {
	w := newWorld(t, "sha1")
	r, _, spec := w.ready("t")
	in := w.plan(r, spec)
	if err := r.ApplyMerge(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if got := w.g("reflog", "-1", "--format=%gs", "HEAD"); got != "rcc merge t" {
		t.Errorf("reflog %q", got)
	}
	w.write("proj/new.txt", "mine\n")
	var ce *ConflictError
	if err := r.UndoMerge(t.Context(), in); !errors.As(err, &ce) || !slices.Equal(ce.Local, []string{"new.txt"}) {
		t.Errorf("over a local change: %v", err)
	}
	w.commit("mine")
	before := w.fingerprint(w.repo, true)
	if err := r.UndoMerge(t.Context(), in); err == nil || !strings.Contains(err.Error(), "has moved on since") {
		t.Errorf("after another commit: %v", err)
	}
	same(t, "the repository", before, w.fingerprint(w.repo, true))
}
