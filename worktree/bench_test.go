package worktree

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestLargeRepository prints how long each part takes on a repository of
// RCC_FILES files.
func TestLargeRepository(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("RCC_FILES"))
	if err != nil {
		t.Skip("set RCC_FILES to a number of files to measure")
	}
	w := newWorld(t, "sha1")
	for i := range n {
		w.write(fmt.Sprintf("proj/d%d/e%d/f%d.txt", i%100, i/100%20, i), line(i))
	}
	w.commit("many")
	lap := func(what string, f func()) {
		began := time.Now()
		f()
		t.Logf("%-28s %v", what, time.Since(began).Round(100*time.Microsecond))
	}
	var r *Repo
	var tree *Tree
	lap("open", func() { r = w.open() })
	lap("tree with its files", func() { r, tree = w.task("t", false) })
	lap("harvest, nothing changed", func() { w.harvest(r, tree) })
	w.agent(tree, "echo x >> d1/e0/f1.txt; echo y > new; git commit -qam one")
	lap("harvest, one file", func() { w.harvest(r, tree) })
	var h *Harvested
	w.agent(tree, "for i in $(seq 1000); do echo $i > d2/e0/n$i; done")
	lap("harvest, 1000 files", func() { h = w.harvest(r, tree) })
	lap("accept", func() { _ = tree.Accept(t.Context(), r, h.Tip) })
	var in *MergeIntent
	lap("plan", func() {
		in = w.plan(r, MergeSpec{ID: "t", Base: tree.Base, Start: tree.Start, Tip: h.Tip})
	})
	lap("apply", func() {
		if err := r.ApplyMerge(t.Context(), in); err != nil {
			t.Error(err)
		}
	})
	lap("remove", func() {
		if err := tree.Remove(); err != nil {
			t.Error(err)
		}
	})
}

func line(i int) string { return fmt.Sprintf("file number %d with a line of text\n", i) }
