package worktree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// BaseSpec says which base is wanted and how git is run to make it.
type BaseSpec struct {
	Commit   string // full id
	Tree     string // of Commit; "": git is asked
	MapOwner bool   // started as root: see MapOwner of Mount
	Confine  Confine
	// InUse lists the layers (…/files) that the records of tasks name. It is
	// asked before an existing base is changed or removed, while nobody else can
	// take that base. nil: none is ever changed.
	InUse func() (map[string]bool, error)
	// Progress, unless nil, is called while files are written.
	Progress func(done, total int)
}

// Base is a checkout of a commit as layers for overlayfs. It stays until
// Release; after that, as long as a task's record names its layers.
type Base struct {
	Tree    string   // id
	Layers  []string // folders of the host, the uppermost first
	Index   string   // a file: git's index that fits the layers
	Files   int      // in the index
	Made    bool     // by this call
	Rebuilt string   // why one that was there is not used; ""

	entries []*baseEntry  // of Layers
	names   chan struct{} // closed when the names are known to be right, or not to be
	checked chan struct{} // closed when all is
	damage  error
	cancel  context.CancelFunc // ends the check
}

// DamagedError is a base that is not as it was made.
type DamagedError struct {
	Dir  string // of the entry
	What string // the first difference found; inert text

	name string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("cannot use the base in %s: %s", quotePath(e.Dir), e.What)
}

// baseFormat is part of every key: entries of other versions are not looked at.
const baseFormat = 2

// baseKey names a base: its tree, and a hash of all else that decides which
// files a checkout makes and how they look.
func baseKey(r *Repo, tree string, spec BaseSpec) (key, kin string, err error) {
	mask, err := umask()
	if err != nil {
		return "", "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s\n%s\n%s\n%t %d\n", baseFormat, r.Format, r.carriedConfig(), mask, spec.MapOwner, os.Geteuid()))
	kin = hex.EncodeToString(sum[:6])
	return tree + "-" + kin, kin, nil
}

// kinOf is the part of an entry's name that bases which can stand on each
// other share, with the tree's id cut off before and the generation behind.
func kinOf(name string) string {
	_, rest, _ := strings.Cut(name, "-")
	kin, _, _ := strings.Cut(rest, ".")
	return kin
}

// Base finds or makes the base of a commit. One that was found is being
// compared with what it was when it was made; Check waits for the result,
// and nothing may rely on the base before.
func (c *Cache) Base(ctx context.Context, r *Repo, spec BaseSpec) (*Base, error) {
	return c.base(ctx, r, spec, false)
}

// Rebuild is what follows an error of Check: it sets aside what is damaged and
// returns a base that has been checked.
func (c *Cache) Rebuild(ctx context.Context, r *Repo, spec BaseSpec) (*Base, error) {
	return c.base(ctx, r, spec, true)
}

func (c *Cache) base(ctx context.Context, r *Repo, spec BaseSpec, check bool) (*Base, error) {
	if spec.Tree == "" {
		var err error
		if spec.Tree, err = r.treeOf(ctx, spec.Commit); err != nil {
			return nil, fmt.Errorf("cannot find the tree of %s: %w", short(spec.Commit), err)
		}
	}
	key, kin, err := baseKey(r, spec.Tree, spec)
	if err != nil {
		return nil, err
	}
	var why string
	// Each round that does not end sets a base aside.
	for range 3 * generations {
		b, name, err := c.findBase(ctx, key)
		switch {
		case err == nil && b == nil:
			if b, err = c.newBase(ctx, r, spec, name, kin); err == nil && b == nil {
				continue // somebody else made it
			}
		case err == nil:
			b.entries[0].touch()
			b.startCheck(ctx, c, r, spec)
			if check {
				err = b.Check()
			}
		}
		var damaged *DamagedError
		if errors.As(err, &damaged) {
			why = damaged.Error()
			// Marked while it is held, it cannot be a new one under the old name.
			err := c.markDamaged(damaged)
			b.Release()
			if err == nil {
				err = c.removeDamaged(damaged, spec)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			b.Release()
			return nil, err
		}
		b.Rebuilt = why
		return b, nil
	}
	return nil, fmt.Errorf("cannot use the cache in %s: %d bases of one commit are damaged; end the tasks and run: rcc gc", quotePath(c.dir), generations)
}

// HasBases tells whether a base was ever made here.
func (c *Cache) HasBases() bool { return !missing(c.path(baseKind, "")) }

// Has tells, by a few look-ups, whether there is a base of spec.Tree, which has to
// be known here. That it is as it was made, only Base finds out.
func (c *Cache) Has(r *Repo, spec BaseSpec) bool {
	key, _, err := baseKey(r, spec.Tree, spec)
	if err != nil {
		return false
	}
	for g := range generations {
		dir := c.path(baseKind, generation(key, g))
		if !missing(filepath.Join(dir, infoName)) && missing(filepath.Join(dir, damagedName)) {
			return true
		}
	}
	return false
}

// findBase returns the base of that key, or else a free name for it.
func (c *Cache) findBase(ctx context.Context, key string) (*Base, string, error) {
	free := ""
	for g := range generations {
		name := generation(key, g)
		b, err := c.openBase(ctx, name)
		if b != nil || err != nil {
			return b, name, err
		}
		if free == "" && missing(c.path(baseKind, name)) {
			free = name
		}
	}
	if free == "" {
		return nil, "", fmt.Errorf("cannot use the cache in %s: every base of a commit is damaged and in use; end the tasks and run: rcc gc", quotePath(c.dir))
	}
	return nil, free, nil
}

// openBase holds an entry and all that it stands on. nil: there is none, or
// it was set aside.
func (c *Cache) openBase(ctx context.Context, name string) (*Base, error) {
	top, err := c.openBaseEntry(ctx, name)
	if top == nil || err != nil {
		return nil, err
	}
	b := &Base{Tree: top.Tree, Index: top.path(baseIndexName), Files: top.Files, entries: []*baseEntry{top}}
	for _, low := range top.Lower {
		e, err := c.openBaseEntry(ctx, low.Name)
		var damaged *DamagedError
		if err != nil && !errors.As(err, &damaged) {
			b.Release()
			return nil, err
		}
		// A base that was made again has other inodes: the index does not fit it.
		if e == nil || e.ID != low.ID {
			if e != nil {
				e.release()
			}
			b.Release()
			return nil, &DamagedError{Dir: top.dir, What: "the base that it stands on is gone", name: name}
		}
		b.entries = append(b.entries, e)
	}
	for _, e := range b.entries {
		b.Layers = append(b.Layers, e.files())
	}
	return b, nil
}

// newBase makes an entry. nil: somebody else did.
func (c *Cache) newBase(ctx context.Context, r *Repo, spec BaseSpec, name, kin string) (*Base, error) {
	h, err := c.entry(ctx, baseKind, name, func(dir string) error {
		return c.fillBase(ctx, &baseJob{repo: r, spec: spec, dir: dir}, kin)
	})
	if err != nil {
		return nil, err
	}
	// Held twice for a moment, so that nobody removes it in between.
	defer h.release()
	if !h.made {
		return nil, nil
	}
	b, err := c.openBase(ctx, name)
	if b == nil || err != nil {
		return nil, err
	}
	b.Made, b.names, b.checked = true, make(chan struct{}), make(chan struct{})
	close(b.names)
	close(b.checked)
	return b, nil
}

// Release lets go of the base. A check that goes on is given up, so that the
// next user begins with one. nil is nothing.
func (b *Base) Release() {
	if b == nil {
		return
	}
	if b.cancel != nil {
		b.cancel()
		<-b.checked
	}
	for _, e := range b.entries {
		e.release()
	}
	b.entries = nil
}
