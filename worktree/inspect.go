package worktree

import (
	"bytes"
	"context"
	"errors"
	"strings"
)

// inspector looks at commits that the host does not have yet: that every object
// of theirs is there, how much they hold, and each tree in them. It walks new
// trees beside the base's; an entry that the base has at the same place is not
// looked at, so the cost follows what changed. (`git rev-list --objects tip
// --not base` reads every tree of the base first: list-objects.c,
// mark_edges_uninteresting.) What was measured once is remembered, so a tree
// that would unfold to a billion files costs no more than its objects.
type inspector struct {
	git    *Git
	call   call // on which repository
	format string
	lim    Limits
	base   string // commit

	objects *objectReader
	known   string // the base's tree

	memo  map[[2]string]extent // new tree and its counterpart, "" for none
	trees map[string][]entry   // trees that are looked at often
	work  int64

	counted map[string]bool
	blobs   []string // seen, and not asked for yet
	number  int64
	bytes   int64
}

// open starts its git process; ctx ends it.
func (c *inspector) open(ctx context.Context) error {
	objects, err := openObjects(ctx, c.git, c.call)
	if err != nil {
		return err
	}
	c.objects = objects
	c.memo, c.trees = map[[2]string]extent{}, map[string][]entry{}
	c.known, err = objects.root(c.base)
	return err
}

func (c *inspector) close() {
	if c.objects != nil {
		c.objects.close()
		c.objects = nil
	}
}

// result checks all that the history of tip has and the base's has not.
func (c *inspector) result(ctx context.Context, tip string) error {
	c.counted, c.blobs, c.number, c.bytes = map[string]bool{}, nil, 0, 0
	roots, err := c.newCommits(ctx, tip)
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := c.root(root, c.known); err != nil {
			return err
		}
	}
	return c.askBlobs()
}

const (
	// maxCommit bounds one commit object: its message is shown to people.
	maxCommit = 1 << 20
	// mostSteps bounds the commits that are read one by one before git is asked
	// for a list.
	mostSteps = 1000
)

// newCommits counts the commits that tip has and the base has not, and returns
// their trees, each once. Where every way from tip ends at the base, the
// commits on these ways are all: none of them can be an ancestor of the base.
// Else git sorts it out.
func (c *inspector) newCommits(ctx context.Context, tip string) ([]string, error) {
	seen := map[string]bool{c.base: true}
	var roots []string
	have := map[string]bool{}
	for next := []string{tip}; len(next) > 0; {
		id := next[len(next)-1]
		next = next[:len(next)-1]
		if seen[id] {
			continue
		}
		seen[id] = true
		root, parents, err := c.commit(id)
		if len(seen) > mostSteps || err == nil && len(parents) == 0 || isMissing(err) {
			return c.listCommits(ctx, tip)
		}
		if err != nil {
			return nil, err
		}
		if !have[root] {
			have[root] = true
			roots = append(roots, root)
		}
		next = append(next, parents...)
	}
	return roots, nil
}

// listCommits is newCommits for histories that leave the base's.
func (c *inspector) listCommits(ctx context.Context, tip string) ([]string, error) {
	out, err := c.git.run(ctx, c.call, "rev-list", tip, "--not", c.base)
	if err != nil {
		return nil, &RefusedError{Reason: "its history is not complete: " + lastLine(stderrOf(err)), missing: true}
	}
	c.counted, c.number, c.bytes = map[string]bool{}, 0, 0
	var roots []string
	have := map[string]bool{}
	for _, id := range strings.Fields(string(out)) {
		root, _, err := c.commit(id)
		if err != nil {
			return nil, err
		}
		if !have[root] {
			have[root] = true
			roots = append(roots, root)
		}
	}
	return roots, nil
}

// commit counts a commit and returns its tree and parents.
func (c *inspector) commit(id string) (root string, parents []string, err error) {
	data, err := c.objects.read(id, "commit")
	if err != nil {
		return "", nil, err
	}
	if len(data) > maxCommit {
		return "", nil, refuse("it has a commit whose message is larger than %d KiB", maxCommit>>10)
	}
	if err := c.count(id, int64(len(data))); err != nil {
		return "", nil, err
	}
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		switch {
		case root == "" && key == "tree" && isID(value, c.format):
			root = value
		case root != "" && key == "parent" && isID(value, c.format):
			parents = append(parents, value)
		case root == "":
			return "", nil, refuse("it has a commit that cannot be read")
		default:
			return root, parents, nil
		}
	}
	return root, parents, nil
}

// addTree counts a tree object.
func (c *inspector) addTree(id string, entries []entry) error {
	size := 0
	for _, e := range entries {
		size += len(e.mode) + len(e.name) + 2 + len(e.id)/2
	}
	return c.count(id, int64(size))
}

// addBlob notes a blob; that it is there and how large it is, is asked for many
// at a time.
func (c *inspector) addBlob(id string) error {
	if c.counted[id] {
		return nil
	}
	if err := c.count(id, 0); err != nil {
		return err
	}
	if c.blobs = append(c.blobs, id); len(c.blobs) < 4096 {
		return nil
	}
	return c.askBlobs()
}

func (c *inspector) askBlobs() error {
	ids := c.blobs
	c.blobs = nil
	return c.objects.sizes(ids, "blob", c.weigh)
}

// count counts an object once.
func (c *inspector) count(id string, size int64) error {
	if c.counted[id] {
		return nil
	}
	c.counted[id] = true
	if c.number++; c.number > c.lim.Objects {
		return refuse("it has more than %d new objects", c.lim.Objects)
	}
	return c.weigh(size)
}

func (c *inspector) weigh(size int64) error {
	// No sum of two sizes below the limit and a size that git gives overflows.
	if c.bytes += size; c.bytes > c.lim.Bytes || c.bytes < 0 {
		return refuse("it holds more than %d MiB", c.lim.Bytes>>20)
	}
	return nil
}

func isMissing(err error) bool {
	var re *RefusedError
	return errors.As(err, &re) && re.missing
}
