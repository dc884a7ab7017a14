package worktree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// NoOverlayError tells that a file system cannot hold an overlay's own layer.
type NoOverlayError struct{ Reason string }

func (e *NoOverlayError) Error() string { return "cannot make an overlay: " + e.Reason }

// layOver makes the task's own layer of an overlay: a folder with nothing in it
// but what the private git directory does not share with other tasks.
func (r *Repo) layOver(ctx context.Context, t *Tree, refs *lent, on *Layers) error {
	t.Kind, t.LowerTree, t.MapLower, t.Carried = KindOverlay, on.base.Tree, on.mapped, on.carried
	d, err := r.privateDir(t, refs)
	if err != nil {
		return err
	}
	if t.Monitor = t.wantsMonitor(on.base.Files); t.Monitor {
		d.monitor(t.Path, r.Format)
	}
	if on.git, err = on.cache.gitLayer(ctx, d, on.base.Index); err != nil {
		return err
	}
	t.Lower = on.list()
	if err := t.makeLayer(); err != nil {
		return err
	}
	own := gitDir{head: t.branch(), refs: map[string]string{t.branch(): t.Base}}
	if err := own.writeFiles(filepath.Join(t.top(), ".git")); err != nil {
		return err
	}
	return t.giveAway(t.path(ownName))
}

// Stands tells whether all layers of a tree are there. A checkout has none.
func (t *Tree) Stands() bool {
	return !slices.ContainsFunc(t.Lower, missing)
}

// StandAgain puts a tree whose sandbox has ended on layers that are there: its
// own, or new ones in the place of those that were removed. It is ready to be
// mounted then.
func (r *Repo) StandAgain(ctx context.Context, t *Tree, on *Layers) error {
	git, err := on.cache.hold(ctx, gitKind, entryOf(t.Lower[0]))
	if err != nil {
		return err
	}
	if git != nil && !git.intact() {
		git.release()
		git = nil
	}
	if git == nil {
		// With the refs of today: those of then are nowhere else.
		now, err := r.Look(ctx, t.Start, t.ID)
		if err != nil {
			return err
		}
		refs, err := parseLent(now.refs, "", r.Format)
		if err != nil {
			return err
		}
		d, err := r.privateDir(t, refs)
		if err != nil {
			return err
		}
		if t.Monitor = t.wantsMonitor(on.base.Files); t.Monitor {
			d.monitor(t.Path, r.Format)
		}
		if git, err = on.cache.gitLayer(ctx, d, on.base.Index); err != nil {
			return err
		}
	}
	on.git = git
	if on.carry != nil && len(on.carried) > 0 {
		t.Carried = on.carried
	}
	t.Lower, t.MapLower = on.list(), on.mapped
	return t.fresh()
}

// WasCarried tells whether a path of the tree was carried along, or lies in what
// was.
func (t *Tree) WasCarried(path string) bool {
	return slices.ContainsFunc(t.Carried, func(c string) bool { return path == c || strings.HasPrefix(path, c+"/") })
}

// entryOf is the key of the entry that a layer belongs to.
func entryOf(layer string) string { return filepath.Base(filepath.Dir(layer)) }

// makeLayer makes the folders that the kernel needs for the task's own layer.
func (t *Tree) makeLayer() error {
	for _, name := range []string{ownName, upperName, kernelName} {
		if err := os.Mkdir(t.path(name), 0o755); err != nil {
			return fmt.Errorf("cannot make the tree: %w", err)
		}
	}
	return CheckLayer(t.top())
}

// CheckLayer finds out whether a file system has user extended attributes.
// Without them overlayfs can be mounted, and fails later on: a folder in the
// place of a removed one gives EIO (ovl_set_opaque in fs/overlayfs/dir.c).
func CheckLayer(dir string) error {
	const name = "user.rcc.probe"
	if err := unix.Lsetxattr(dir, name, []byte("y"), 0); err != nil {
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			return &NoOverlayError{"the file system of " + quotePath(dir) + " has no extended attributes of users"}
		}
		return fmt.Errorf("cannot make the tree: %w", &os.PathError{Op: "setxattr", Path: dir, Err: err})
	}
	return unix.Lremovexattr(dir, name)
}

// Rest is for a tree whose sandbox has ended: it removes what the kernel needed
// beside the tree's own layer, and left there with no permissions. A mark in it
// would keep a volatile overlay from being mounted again (Documentation/
// filesystems/overlayfs.rst, "Volatile mount"): what was not written out may be
// lost after a crash of the machine, as in any folder.
func (t *Tree) Rest() error {
	if !t.overlay() {
		return nil
	}
	return removeTree(t.path(kernelName), t.path(trashName))
}

// fresh makes a tree whose sandbox has ended ready for another one.
func (t *Tree) fresh() error {
	if err := t.Rest(); err != nil {
		return err
	}
	if err := os.Mkdir(t.path(kernelName), 0o755); err != nil {
		return fmt.Errorf("cannot make the tree: %w", err)
	}
	if t.UID < 0 {
		return nil
	}
	return os.Lchown(t.path(kernelName), t.UID, t.GID)
}

// layers are the read-only layers as mounts know them.
func (t *Tree) layers() []Layer {
	var list []Layer
	for _, dir := range t.Lower {
		list = append(list, Layer{Dir: dir, MapOwner: t.MapLower})
	}
	return list
}
