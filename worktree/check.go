package worktree

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// check looks at all that the quarantine received: how much it is, and every
// tree in it. Everything below the base is the host's own and is not looked at.
func (t *Tree) check(ctx context.Context, r *Repo, tip string, lim Limits) error {
	if err := t.checkAmount(ctx, r, lim); err != nil {
		return err
	}
	roots, err := t.newRoots(ctx, r)
	if err != nil {
		return err
	}
	return checkTrees(ctx, r.git, t.onIncoming(call{}), t.Format, lim, t.Base, roots)
}

// checkTrees looks at trees beside the tree of base, with git as c calls it.
func checkTrees(ctx context.Context, g *Git, c call, format string, lim Limits, base string, roots []string) error {
	objects, err := openObjects(ctx, g, c)
	if err != nil {
		return err
	}
	defer objects.close()
	known, err := objects.root(base)
	if err != nil {
		return err
	}
	check := &treeCheck{objects: objects, format: format, lim: lim, memo: map[[2]string]extent{}, trees: map[string][]entry{}}
	for _, root := range roots {
		if err := check.root(root, known); err != nil {
			return err
		}
	}
	return nil
}

// maxCommit bounds one commit or tag object: its message is shown to people.
const maxCommit = 1 << 20

// checkAmount counts the new objects and their unpacked bytes.
func (t *Tree) checkAmount(ctx context.Context, r *Repo, lim Limits) error {
	// The list of a result at the limits is some 100 MB; it goes through a file.
	list, err := os.CreateTemp(t.path(incomingName), "new-")
	if err != nil {
		return fmt.Errorf("cannot check the result: %w", err)
	}
	defer os.Remove(list.Name())
	defer list.Close()
	c := t.onIncoming(call{out: list})
	if _, err := r.git.run(ctx, c, "rev-list", "--objects", "--no-object-names", tipRef, "--not", baseRef); err != nil {
		return fmt.Errorf("cannot check the result: %w", err)
	}
	if _, err := list.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot check the result: %w", err)
	}
	sum := &amount{lim: lim}
	c = t.onIncoming(call{in: list, out: sum})
	if _, err := r.git.run(ctx, c, "cat-file", "--buffer", "--batch-check=%(objecttype) %(objectsize)"); err != nil {
		return fmt.Errorf("cannot check the result: %w", err)
	}
	return sum.err
}

// amount adds up the lines "type size" that are written to it.
type amount struct {
	lim     Limits
	rest    []byte
	objects int64
	bytes   int64
	err     error
}

func (a *amount) Write(p []byte) (int, error) {
	a.rest = append(a.rest, p...)
	for {
		i := bytes.IndexByte(a.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		a.add(string(a.rest[:i]))
		a.rest = a.rest[i+1:]
	}
}

func (a *amount) add(line string) {
	if a.err != nil {
		return
	}
	kind, text, _ := strings.Cut(line, " ")
	size, err := strconv.ParseInt(text, 10, 64)
	a.objects++
	a.bytes += size
	switch {
	case err != nil:
		a.err = refuse("an object of it is missing")
	case kind == "commit" && size > maxCommit:
		a.err = refuse("it has a commit whose message is larger than %d KiB", maxCommit>>10)
	case a.objects > a.lim.Objects:
		a.err = refuse("it has more than %d new objects", a.lim.Objects)
	case a.bytes > a.lim.Bytes:
		a.err = refuse("it holds more than %d MiB", a.lim.Bytes>>20)
	}
}

// newRoots are the trees of the new commits, each once.
func (t *Tree) newRoots(ctx context.Context, r *Repo) ([]string, error) {
	out, err := t.incoming(ctx, r, nil, "rev-list", "--no-commit-header", "--format=%T", tipRef, "--not", baseRef)
	if err != nil {
		return nil, fmt.Errorf("cannot check the result: %w", err)
	}
	seen := map[string]bool{}
	var roots []string
	for _, id := range strings.Fields(string(out)) {
		if !seen[id] {
			seen[id] = true
			roots = append(roots, id)
		}
	}
	return roots, nil
}

// extent is how much a tree holds that its counterpart in the base does not.
type extent struct {
	files  int64
	height int // folders below and including it
	length int // bytes of its longest path
}

// treeCheck walks new trees beside the base's. An entry that the base has at
// the same place is not looked at. What was measured once is remembered, so a
// tree that would unfold to a billion files costs no more than its objects.
type treeCheck struct {
	objects *objectReader
	format  string
	lim     Limits
	memo    map[[2]string]extent // new tree and its counterpart, "" for none
	trees   map[string][]entry   // trees that are looked at often
	work    int64
}

// mostWork bounds the tree entries that are looked at in one check.
const mostWork = 50e6

func (c *treeCheck) root(id, base string) error {
	e, err := c.measure(id, base, 1)
	if err != nil {
		return err
	}
	return c.within(e)
}

func (c *treeCheck) within(e extent) error {
	switch {
	case e.files > c.lim.Files:
		return refuse("it unfolds to more than %d files", c.lim.Files)
	case e.height > c.lim.Depth:
		return refuse("it has folders more than %d deep", c.lim.Depth)
	case e.length > c.lim.Path:
		return refuse("it has a path longer than %d bytes", c.lim.Path)
	}
	return nil
}

func (c *treeCheck) measure(id, base string, depth int) (extent, error) {
	key := [2]string{id, base}
	if e, ok := c.memo[key]; ok {
		return e, nil
	}
	if depth > c.lim.Depth {
		return extent{}, c.within(extent{height: depth})
	}
	entries, err := c.tree(id)
	if err != nil {
		return extent{}, err
	}
	known := map[string]entry{}
	if base != "" {
		old, err := c.tree(base)
		if err != nil {
			return extent{}, err
		}
		for _, e := range old {
			known[e.name] = e
		}
	}
	sum := extent{height: 1}
	for _, e := range entries {
		if c.work++; c.work > mostWork {
			return extent{}, refuse("its trees are too large to be checked")
		}
		old, there := known[e.name]
		if there && old == e {
			continue
		}
		below, err := c.entry(e, old, depth)
		if err != nil {
			return extent{}, err
		}
		sum.files += below.files
		sum.height = max(sum.height, 1+below.height)
		sum.length = max(sum.length, below.length)
		if err := c.within(sum); err != nil {
			return extent{}, err
		}
	}
	c.memo[key] = sum
	return sum, nil
}

// entry measures one entry that the base does not have at this place.
func (c *treeCheck) entry(e, old entry, depth int) (extent, error) {
	switch e.mode {
	case modeModule:
		return extent{}, refuse("it has a link to a commit of another repository at %s, which hides its content; take it out of every commit (git reset --soft to the base, git rm --cached, and commit again) or add the files themselves", quotePath(e.name))
	case modeTree:
		base := ""
		if old.mode == modeTree {
			base = old.id
		}
		below, err := c.measure(e.id, base, depth+1)
		if below.length > 0 {
			below.length += len(e.name) + 1
		}
		return below, err
	}
	return extent{files: 1, length: len(e.name)}, nil
}

func (c *treeCheck) tree(id string) ([]entry, error) {
	if entries, ok := c.trees[id]; ok {
		return entries, nil
	}
	data, err := c.objects.read(id, "tree")
	if err != nil {
		return nil, err
	}
	entries, err := parseTree(data, c.format)
	if err != nil {
		return nil, &RefusedError{Reason: "it has " + err.Error()}
	}
	if len(c.trees) < 4096 {
		c.trees[id] = entries
	}
	return entries, nil
}
