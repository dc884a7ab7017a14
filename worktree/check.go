package worktree

import (
	"context"
)

// check looks at all that the quarantine received: how much it is, and every
// tree in it. Everything below the base is the host's own and is not looked at.
func (t *Tree) check(ctx context.Context, r *Repo, tip string, lim Limits) error {
	c := &inspector{git: r.git, call: t.onIncoming(call{}), format: t.Format, lim: lim, base: t.Base}
	defer c.close()
	if err := c.open(ctx); err != nil {
		return err
	}
	if _, err := c.objects.read(tip, "commit"); err != nil {
		if isRefused(err) {
			return refuse("it is not the commit that was announced")
		}
		return err
	}
	return c.result(ctx, tip)
}

// extent is how much a tree holds that its counterpart in the base does not.
type extent struct {
	files  int64
	height int // folders below and including it
	length int // bytes of its longest path
}

// mostWork bounds the tree entries that are looked at in one check.
const mostWork = 50e6

func (c *inspector) root(id, base string) error {
	e, err := c.measure(id, base, 1)
	if err != nil {
		return err
	}
	return c.within(e)
}

func (c *inspector) within(e extent) error {
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

func (c *inspector) measure(id, base string, depth int) (extent, error) {
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
	if err := c.addTree(id, entries); err != nil {
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
func (c *inspector) entry(e, old entry, depth int) (extent, error) {
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
	return extent{files: 1, length: len(e.name)}, c.addBlob(e.id)
}

func (c *inspector) tree(id string) ([]entry, error) {
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
