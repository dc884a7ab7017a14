package worktree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Layers are what an overlay stands on. They are held: no other process removes
// them until Release.
type Layers struct {
	cache *Cache
	base  *Base
	git   *held
	carry *held

	carried []string
	mapped  bool
}

// On joins a base with what is carried along. mapped says that the layers
// belong to root and are to be shown as the agent's own.
func (c *Cache) On(base *Base, mapped bool) *Layers {
	return &Layers{cache: c, base: base, mapped: mapped}
}

// Carry adds what is carried along from the checkout to the layers; nil is
// nothing.
func (l *Layers) Carry(ctx context.Context, c *Carried) error {
	if c == nil || len(c.Paths) == 0 {
		return nil
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	fill := func(dir string) error {
		if err := c.write(ctx, dir); err != nil {
			return err
		}
		return writeFolders(dir)
	}
	h, err := l.cache.soundEntry(ctx, carryKind, c.Key()+"-"+boot, fill, (*held).hasFolders)
	if err != nil {
		return err
	}
	l.carry, l.carried = h, c.Paths
	return nil
}

// writeFolders lists what a layer has, for hasFolders.
func writeFolders(dir string) error {
	root, err := os.Open(filepath.Join(dir, layerName))
	if err != nil {
		return fmt.Errorf("cannot list a layer: %w", err)
	}
	defer root.Close()
	list, _, err := writeManifest(root)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, manifestName), list, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot list a layer: %w", err)
	}
	return nil
}

// hasFolders tells whether a layer has all files that it was made with. A large
// one of carried files is the checkout's too: what its inode tells is no sign.
func (h *held) hasFolders() bool {
	list, err := os.ReadFile(filepath.Join(h.dir, manifestName))
	if err != nil {
		return false
	}
	root, err := os.Open(h.files())
	if err != nil {
		return false
	}
	defer root.Close()
	folders, err := parseManifest(list)
	return err == nil && checkFolders(root, folders) == nil
}

// CarryAgain adds to the layers what a tree had carried along. It tells whether
// that is still there: what was carried then is nowhere else.
func (l *Layers) CarryAgain(ctx context.Context, t *Tree) (bool, error) {
	if len(t.Carried) == 0 || len(t.Lower) < 2 {
		return true, nil
	}
	h, err := l.cache.hold(ctx, carryKind, entryOf(t.Lower[1]))
	if h == nil || err != nil {
		return false, err
	}
	if !h.hasFolders() {
		h.release()
		return false, nil
	}
	l.carry = h
	return true, nil
}

// list is the folders of the layers, the uppermost first.
func (l *Layers) list() []string {
	dirs := []string{l.git.files()}
	if l.carry != nil {
		dirs = append(dirs, l.carry.files())
	}
	return append(dirs, l.base.Layers...)
}

// Ready waits until the base is known to have the files that it was made with,
// and, unless it is large, that none of them was written to. A *DamagedError
// says that it is not as it was made.
func (l *Layers) Ready() error {
	if l == nil {
		return nil
	}
	return l.base.ready()
}

// Made tells whether any of the layers was made for these.
func (l *Layers) Made() bool {
	return l != nil && (l.base.Made || l.git != nil && l.git.made || l.carry != nil && l.carry.made)
}

// Check waits until all is known of the base. One that is damaged is not used
// again.
func (l *Layers) Check() error {
	if l == nil {
		return nil
	}
	return l.mark(l.base.Check())
}

// Known is Check without waiting: nil as long as nothing is known against it.
func (l *Layers) Known() error {
	if l == nil {
		return nil
	}
	return l.mark(l.base.Known())
}

func (l *Layers) mark(err error) error {
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return errors.Join(err, l.cache.markDamaged(damaged))
	}
	return err
}

// Release lets other processes remove the layers again. A tree that is kept
// holds on to them by its record.
func (l *Layers) Release() {
	if l == nil {
		return
	}
	l.base.Release()
	for _, h := range []*held{l.git, l.carry} {
		if h != nil {
			h.release()
		}
	}
}
