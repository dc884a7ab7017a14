package worktree

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const mess = `
echo mine >> a.txt
rm dir/b.txt
echo staged > staged; git add staged
echo loose > loose
echo x > x.o
ln -s a.txt link
printf x > "$(printf 'q\n"\377')"
git init -q nested; echo n > nested/n
`

func TestDirty(t *testing.T) {
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, format)
			w.sh(w.repo, "sh", "-ec", mess)
			before := w.fingerprint(w.repo, true)
			r, tree := w.task("t", true)
			same(t, "the repository", before, w.fingerprint(w.repo, true))
			if tree.Base == tree.Start || !has(tree.Notes, "nested/") {
				t.Fatalf("%+v", tree)
			}
			if got := w.agent(tree, "git status --porcelain; git log --format=%s; cat a.txt loose staged; ls dir 2>&1 || :"); !strings.HasPrefix(got, "Uncommitted work of main, carried along by rcc --dirty\nstart\none\ntwo\nthree\nmine\nloose\nstaged\n") {
				t.Errorf("in the tree %q", got)
			}
			w.agent(tree, "echo agent > agent.txt; git add -A; git commit -qm one; sed -i s/one/ONE/ a.txt; git commit -qam two")
			h := w.accept(r, tree)
			same(t, "the repository", w.without(before), w.fingerprint(w.repo, false))
			st, err := r.Stat(t.Context(), tree.Base, h.Tip)
			if err != nil || !slices.Equal(st.Paths, []string{"a.txt", "agent.txt"}) {
				t.Errorf("%+v, %v", st, err)
			}
			spec := MergeSpec{ID: "t", Base: tree.Base, Start: tree.Start, Tip: h.Tip}
			if _, err := r.PlanMerge(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "a.txt") {
				t.Errorf("over the user's own change: %v", err)
			}
			w.g("checkout", "-q", "a.txt")
			for _, mode := range []MergeMode{Merge, Rebase, Squash} {
				spec.Mode = mode
				in := w.plan(r, spec)
				if strings.Contains(w.g("log", "--format=%s", in.New), "Uncommitted") {
					t.Errorf("%q: the snapshot came into the history", mode)
				}
				if got := w.g("diff", "--name-only", in.Old, in.New); got != "a.txt\nagent.txt" {
					t.Errorf("%q: changes %q", mode, got)
				}
				if got := w.g("show", in.New+":a.txt"); got != "ONE\ntwo\nthree" {
					t.Errorf("%q: a.txt %q", mode, got)
				}
			}
			spec.Mode = FFOnly
			if _, err := r.PlanMerge(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "--dirty") {
				t.Errorf("ff-only: %v", err)
			}
		})
	}
}

func TestDirtyCases(t *testing.T) {
	t.Run("clean", func(t *testing.T) {
		w := newWorld(t, "sha1")
		_, tree := w.task("t", true)
		if tree.Base != tree.Start || len(tree.Stores) != 1 {
			t.Errorf("%+v", tree)
		}
	})
	t.Run("another base", func(t *testing.T) {
		w := newWorld(t, "sha1")
		old := w.g("rev-parse", "HEAD")
		w.commit("two")
		_, err := w.open().NewTree(t.Context(), TreeSpec{Dir: t.TempDir(), ID: "t", Base: old, Dirty: true, UID: -1})
		if err == nil || !strings.Contains(err.Error(), "belongs to HEAD") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("racy", func(t *testing.T) {
		// Changed in the same tick as the index was written, with the same size.
		w := newWorld(t, "sha1")
		for range 20 {
			w.write("proj/a.txt", "AAA\n")
			w.commit("a")
			w.write("proj/a.txt", "BBB\n")
			id := filepath.Base(t.TempDir()) + "-" + w.g("rev-list", "--count", "HEAD")
			_, tree := w.task(id, true)
			if got := w.agent(tree, "cat a.txt"); got != "BBB" {
				t.Fatalf("a.txt %q", got)
			}
		}
	})
	t.Run("conflict", func(t *testing.T) {
		w := newWorld(t, "sha1")
		w.g("checkout", "-q", "-b", "other")
		w.write("proj/a.txt", "theirs\n")
		w.commit("theirs")
		w.g("checkout", "-q", "main")
		w.write("proj/a.txt", "ours\n")
		w.commit("ours")
		w.try(w.repo, "git", "merge", "-q", "other")
		before := w.fingerprint(w.repo, true)
		_, tree := w.task("t", true)
		same(t, "the repository", before, w.fingerprint(w.repo, true))
		if got := w.agent(tree, "cat a.txt"); !strings.Contains(got, "<<<<<<<") {
			t.Errorf("a.txt %q", got)
		}
	})
	t.Run("folder becomes link", func(t *testing.T) {
		w := newWorld(t, "sha1")
		os.RemoveAll(w.repo + "/dir")
		os.Symlink("/etc", w.repo+"/dir")
		_, tree := w.task("t", true)
		if got := w.agent(tree, "readlink dir; git status --porcelain"); got != "/etc" {
			t.Errorf("dir %q", got)
		}
	})
}

// A file that was changed in the second of its checkout, and given its old size
// and times, is still found later. git compares whole seconds (unless it was
// built with USE_NSEC), so this rests on the time of the index.
func TestHarvestFindsHiddenChanges(t *testing.T) {
	w := newWorld(t, "sha1")
	var r *Repo
	var trees []*Tree
	for n := range 8 {
		var tree *Tree
		r, tree = w.task(fmt.Sprint("t", n), false)
		w.agent(tree, "touch -r a.txt ref; printf 'ONE\\ntwo\\nthree\\n' > a.txt; touch -r ref a.txt; rm ref")
		trees = append(trees, tree)
	}
	time.Sleep(1100 * time.Millisecond)
	for _, tree := range trees {
		if h := w.harvest(r, tree); h.Tip == tree.Base {
			t.Error("the change was missed")
		}
	}
}
