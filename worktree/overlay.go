package worktree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kinds of entries of the cache.
const (
	gitKind   = "git"   // what private git directories have in common
	carryKind = "carry" // ignored files that are carried along
)

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

// HasBases tells whether a base was ever made here.
func (c *Cache) HasBases() bool { return !missing(c.path(baseKind, "")) }

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

// list is the folders of the layers, the uppermost first.
func (l *Layers) list() []string {
	dirs := []string{l.git.files()}
	if l.carry != nil {
		dirs = append(dirs, l.carry.files())
	}
	return append(dirs, l.base.Layers...)
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

// gitLayer gives the layer with what private git directories of one base, and
// of the same refs and settings, have in common. The index is the base's own: a
// task that has to write one gets its copy then.
func (c *Cache) gitLayer(ctx context.Context, d *gitDir, index string) (*held, error) {
	mark, err := markOf(index)
	if err != nil {
		return nil, fmt.Errorf("cannot read the base's index: %w", err)
	}
	// Nothing is forced to the disk: what was made before a restart of the
	// machine is not believed.
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	fill := func(dir string) error { return d.writeLayer(dir, index) }
	return c.soundEntry(ctx, gitKind, d.key(fmt.Sprint(mark, boot)), fill, (*held).intact)
}

// writeLayer makes the entry of a git layer.
func (d *gitDir) writeLayer(dir, index string) error {
	if err := os.Mkdir(filepath.Join(dir, layerName), 0o755); err != nil {
		return fmt.Errorf("cannot make a git directory: %w", err)
	}
	git := filepath.Join(dir, layerName, ".git")
	if err := d.write(git); err != nil {
		return err
	}
	if err := linkOrCopy(index, filepath.Join(git, "index")); err != nil {
		return err
	}
	return writeMarks(dir)
}

// key names all that write would write, and what the caller says of the index.
func (d *gitDir) key(index string) string {
	h := sha256.New()
	part := func(b []byte) { fmt.Fprintf(h, "%d:", len(b)); h.Write(b) }
	part([]byte("git layer 1"))
	part([]byte(index))
	part([]byte(d.config))
	part(alternatesFile(d.alternates))
	part(d.shallow)
	part(d.exclude)
	part(d.packedRefs)
	for _, files := range []map[string]string{d.refs, d.more} {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			part([]byte(name + " " + files[name]))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// linkOrCopy gives a file that will not change a second name. There is a bound
// on the names of a file (link(2), EMLINK).
func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	if err := copyFile(from, to); err != nil {
		return fmt.Errorf("cannot copy the base's index: %w", err)
	}
	return nil
}
