package worktree

import (
	"os"
	"slices"
	"strings"
	"testing"
)

var formats = []string{"sha1", "sha256"}

func TestTaskRoundTrip(t *testing.T) {
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, format)
			before := w.fingerprint(w.repo, true)
			r, tree := w.task("t1", false)
			same(t, "the repository at NewTree", before, w.fingerprint(w.repo, true))
			if got := w.agent(tree, "git status --porcelain; git log --format=%s main; git symbolic-ref HEAD; git config user.name"); got != "start\nrefs/heads/rcc/t1\nUrsula User" {
				t.Errorf("in the tree: %q", got)
			}
			w.agent(tree, `echo four >> a.txt; git commit -qam work; echo new > new.txt; echo x > x.o; mkdir out; echo y > out/y; rm dir/b.txt; ln -s a.txt link; chmod +x a.txt`)
			h := w.harvest(r, tree)
			same(t, "the repository at Harvest", before, w.fingerprint(w.repo, true))
			if !h.Uncommitted || len(h.Notes) > 0 {
				t.Errorf("harvested %+v", h)
			}
			if st, err := tree.Stat(t.Context(), r, h.Tip); err != nil || st.Files != 4 {
				t.Errorf("stat %+v, %v", st, err)
			}
			if err := tree.Accept(t.Context(), r, h.Tip); err != nil {
				t.Fatal(err)
			}
			same(t, "the repository at Accept", w.without(before), w.fingerprint(w.repo, false))
			if got := w.g("rev-parse", "refs/heads/rcc/t1"); got != h.Tip {
				t.Errorf("branch is at %s, want %s", got, h.Tip)
			}
			if got, want := w.files(h.Tip), []string{".gitignore", "a.txt", "link", "new.txt"}; !slices.Equal(got, want) {
				t.Errorf("files %q, want %q", got, want)
			}
			if got := w.g("log", "--format=%s|%an|%ae|%at", "main..rcc/t1"); !strings.HasPrefix(got, "left over|Ursula User|u@example.org|1700000000\nwork|Ursula User|") {
				t.Errorf("log %q", got)
			}
			if got := w.g("fsck", "--strict", "--no-dangling"); got != "" {
				t.Errorf("fsck: %s", got)
			}
			if err := tree.Remove(); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(tree.Dir); len(left) > 0 {
				t.Errorf("left in the task's folder: %v", left)
			}
		})
	}
}

// without drops the objects from a fingerprint that has them.
func (w *world) without(print string) string {
	var kept []string
	for l := range strings.SplitSeq(print, "\n") {
		if !strings.HasPrefix(l, ".git/objects/") {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "\n")
}
