package worktree

import (
	"os"
	"testing"
	"time"
)

// TestLargeBase prints how long each part takes on the repository RCC_REPO.
func TestLargeBase(t *testing.T) {
	repo := os.Getenv("RCC_REPO")
	if repo == "" {
		t.Skip("set RCC_REPO to a repository to measure")
	}
	w := newWorld(t, "sha1")
	w.sh(w.dir, "rm", "-rf", w.repo)
	w.sh(w.dir, "git", "clone", "-q", "--shared", "--no-checkout", repo, w.repo)
	b := bakerOf(w)
	b.cache.rules = defaultLayerRules
	var base *Base
	use := func(what, commit string) {
		began := time.Now()
		var err error
		if base, err = b.cache.Base(t.Context(), b.repo, b.spec(commit)); err != nil {
			t.Fatal(err)
		}
		found := time.Since(began)
		if err := base.Check(); err != nil {
			t.Fatal(err)
		}
		base.Release()
		t.Logf("%-20s %v, checked after %v: %d layers, made %v", what, found.Round(100*time.Microsecond), time.Since(began).Round(100*time.Microsecond), len(base.Layers), base.Made)
	}
	first := w.g("rev-parse", "HEAD")
	use("in full", first)
	for range 5 {
		use("again", first)
	}
	w.g("read-tree", "HEAD")
	for n := range 8 {
		w.sh(w.repo, "sh", "-ec", `id=$(echo $1 | git hash-object -w --stdin)
			git ls-files | awk 'NR%780==10+'$1 | sed "s/^/100644 $id	/" | git update-index --index-info
			git commit -qm $1`, "sh", string(rune('1'+n)))
		use("100 files away", w.g("rev-parse", "HEAD"))
	}
	for range 3 {
		use("again", w.g("rev-parse", "HEAD"))
	}
}
