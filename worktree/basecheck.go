package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// startCheck begins to compare the layers with their lists.
func (b *Base) startCheck(ctx context.Context, c *Cache, r *Repo, spec BaseSpec) {
	b.names, b.checked = make(chan struct{}), make(chan struct{})
	ctx, b.cancel = context.WithCancel(ctx)
	known := sync.OnceFunc(func() { close(b.names) })
	go func() {
		b.damage = b.check(ctx, c, r, spec, known)
		close(b.checked)
		known()
	}()
}

// Check waits until the base is known to be what it was when it was made. A
// *DamagedError says that it is not: Release it and call Rebuild.
func (b *Base) Check() error {
	<-b.checked
	return b.damage
}

// ready is what a user of the base waits for: Check, or CheckNames where that
// would take long.
func (b *Base) ready() error {
	if b.Files > large {
		return b.CheckNames()
	}
	return b.Check()
}

// Known is what Check would say, nil as long as that is not known.
func (b *Base) Known() error {
	select {
	case <-b.checked:
		return b.damage
	default:
		return nil
	}
}

// CheckNames is a Check that takes a tenth of the time: it waits only until it
// is known that no file was added, removed or renamed. What was changed in
// place, Check tells later. After a restart of the machine it is no quicker.
func (b *Base) CheckNames() error {
	<-b.names
	return b.Known()
}

// check compares every layer with its list, and once after each boot the
// content too: nothing was forced to disk when the base was made, and after a
// power cut a file may have its right size and time and no content. names is
// called when CheckNames may end.
func (b *Base) check(ctx context.Context, c *Cache, r *Repo, spec BaseSpec, names func()) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	booted := slices.ContainsFunc(b.entries, func(e *baseEntry) bool { return e.Boot != boot })
	left := len(b.entries)
	for _, e := range b.entries {
		err := e.check(ctx, func() {
			// The files of layers above the last are few.
			if left--; left == 0 && !booted {
				names()
			}
		})
		if err != nil {
			return err
		}
	}
	if !booted {
		return nil
	}
	if err := b.checkContent(ctx, c, r, spec); err != nil {
		return err
	}
	for _, e := range b.entries {
		e.Boot = boot
		if err := e.writeInfo(); err != nil {
			return err
		}
	}
	return nil
}

// markDamaged sets a base aside, so that it is not found again.
func (c *Cache) markDamaged(d *DamagedError) error {
	err := os.WriteFile(filepath.Join(c.path(baseKind, d.name), damagedName), []byte(d.What+"\n"), 0o600)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot set a damaged base aside: %w", err)
	}
	return nil
}

// removeDamaged removes a base that was set aside. Tasks that use it keep it,
// under its name: their records and mounts name it.
func (c *Cache) removeDamaged(d *DamagedError, spec BaseSpec) error {
	h := c.claim(baseKind, d.name)
	if h == nil {
		return nil
	}
	free, err := spec.free(h.files())
	if err == nil && free {
		err = c.retire(baseKind, h)
	}
	if err != nil || !free {
		h.release()
		return err
	}
	return h.drop()
}

// free says whether no record names any of the layers.
func (s *BaseSpec) free(layers ...string) (bool, error) {
	if s.InUse == nil {
		return false, nil
	}
	inUse, err := s.InUse()
	if err != nil {
		return false, fmt.Errorf("cannot learn which bases are in use: %w", err)
	}
	return !slices.ContainsFunc(layers, func(l string) bool { return inUse[l] }), nil
}
