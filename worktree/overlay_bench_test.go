package worktree

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"testing"
	"time"
)

// TestOverlayHarvestTime prints how long a harvest of 10 changed files takes,
// without a sandbox, in a clone of the repository
// RCC_REPO, for the kind of tree RCC_KIND or both.
func TestOverlayHarvestTime(t *testing.T) {
	repo := os.Getenv("RCC_REPO")
	if repo == "" {
		t.Skip("set RCC_REPO to a repository to measure")
	}
	w := newWorld(t, "sha1")
	w.repo = filepath.Join(w.dir, "clone")
	w.sh(w.dir, "git", "clone", "-q", "--shared", "--no-checkout", repo, w.repo)
	for _, kind := range kinds {
		if only := os.Getenv("RCC_KIND"); only != "" && only != kind {
			continue
		}
		r, tree := w.kind("t-"+kind, kind, nil)
		w.agent(tree, "git ls-files | awk 'NR%"+fmt.Sprint(max(1, 78000/10))+"==1' | head -10 | while read f; do echo change >> $f; done; git status --short | head -3; echo new > new-file")
		var times []time.Duration
		for range 15 {
			began := time.Now()
			h := w.harvest(r, tree)
			times = append(times, time.Since(began))
			if h.Tip == tree.Base {
				t.Fatal("nothing harvested")
			}
		}
		sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
		t.Logf("%s: fastest %v, median %v", kind, times[0], times[len(times)/2])
	}
}
