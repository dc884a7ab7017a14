package worktree

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Cache is what the tasks of one repository share: a folder of entries, each
// made once and never changed afterwards.
//
//	<kind>/<key>/           an entry; "files" in it is a layer for overlayfs
//	<kind>/<key>/lock       held (flock, shared) by whoever is about to use the entry
//	<kind>/.making-<key>    held by the one who makes that entry
//	<kind>/.new-<random>/   an entry that is being made
//	<kind>/.gone-<random>/  an entry that is being removed
//	<kind>/.names           held for the moment in which .new- and .gone- folders come and are looked at
//
// Entries come and go by one rename, so whatever is killed leaves at most a
// .new- or .gone- folder whose lock nobody holds; the next maker and Collect
// remove those. The folder can be removed at any time when no task runs.
type Cache struct {
	dir   string
	rules layerRules
}

// The kinds of entries.
const (
	baseKind  = "base"  // the files of a commit
	gitKind   = "git"   // what private git directories have in common
	carryKind = "carry" // ignored files that are carried along
)

// What an entry holds.
const (
	layerName = "files" // the layer
	lockName  = "lock"
)

// Prefixes of what lies beside the entries.
const (
	newPrefix    = ".new-"
	gonePrefix   = ".gone-"
	makingPrefix = ".making-"
	namesName    = ".names"
)

// OpenCache is the cache in dir, an absolute path. Nothing is made or looked
// at yet; folders are made, for their owner alone, when they are needed.
func OpenCache(dir string) *Cache { return &Cache{dir: dir, rules: defaultLayerRules} }

func (c *Cache) path(kind, name string) string { return filepath.Join(c.dir, kind, name) }

// held is an entry that nobody removes until it is released.
type held struct {
	dir  string
	made bool // by this call
	lock *os.File
}

func (h *held) release() { h.lock.Close() }

// touch notes that the entry is used now: that is the time of its lock.
func (h *held) touch() { _ = unix.Futimes(int(h.lock.Fd()), nil) }

// files is the entry's layer.
func (h *held) files() string { return filepath.Join(h.dir, layerName) }

// entry returns the entry of that kind and key, made by fill when it is not
// there. fill gets a folder that exists and holds nothing but the lock. Of
// two makers of one entry the second waits, up to ctx, and has the first one's.
func (c *Cache) entry(ctx context.Context, kind, key string, fill func(dir string) error) (*held, error) {
	for {
		h, err := c.hold(ctx, kind, key)
		if err != nil {
			return nil, err
		}
		if h != nil {
			h.touch()
			return h, nil
		}
		if h, err = c.makeEntry(ctx, kind, key, fill); h != nil || err != nil {
			return h, err
		}
	}
}

// generations is how many entries there may be of one key: one that is damaged
// may be in use by a task. It stays where it is until gc finds that nobody uses
// it, and its successors are named <key>.1, <key>.2, …
const generations = 10

// generation is the name of the entry that takes the place of g damaged ones.
func generation(key string, g int) string {
	if g == 0 {
		return key
	}
	return key + "." + strconv.Itoa(g)
}

// soundEntry is entry for one that sound finds as it was made.
func (c *Cache) soundEntry(ctx context.Context, kind, key string, fill func(dir string) error, sound func(*held) bool) (*held, error) {
	for g := range generations {
		h, err := c.entry(ctx, kind, generation(key, g), fill)
		if err != nil || sound(h) {
			return h, err
		}
		h.release()
	}
	return nil, fmt.Errorf("cannot use the cache in %s: %d of its layers (%s) are damaged; end the tasks and run: rcc gc", quotePath(c.dir), generations, kind)
}

// hold returns the entry if it is there, else nil.
func (c *Cache) hold(ctx context.Context, kind, key string) (*held, error) {
	dir := c.path(kind, key)
	lock, err := lockFile(ctx, filepath.Join(dir, lockName), unix.LOCK_SH, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the cache: %w", err)
	}
	return &held{dir: dir, lock: lock}, nil
}

// makeEntry waits its turn and makes the entry. nil and no error: look again,
// for somebody else made it in the meantime.
func (c *Cache) makeEntry(ctx context.Context, kind, key string, fill func(dir string) error) (*held, error) {
	if err := os.MkdirAll(c.path(kind, ""), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the cache: %w", err)
	}
	turn, err := lockFile(ctx, c.path(kind, makingPrefix+key), unix.LOCK_EX, unix.O_CREAT)
	if err != nil {
		return nil, fmt.Errorf("cannot make a cache entry: %w", err)
	}
	defer turn.Close()
	if !missing(filepath.Join(c.path(kind, key), lockName)) {
		return nil, nil
	}
	// An entry without its lock: somebody began to remove the cache by hand.
	if err := os.Rename(c.path(kind, key), c.path(kind, gonePrefix+randomName())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot make a cache entry: %w", err)
	}
	c.sweep(kind)
	n, err := c.newFolder(ctx, kind)
	if err != nil {
		return nil, err
	}
	err = fill(n.dir)
	if err == nil {
		// An empty folder of that name would be replaced; nothing else is.
		err = os.Rename(n.dir, c.path(kind, key))
	}
	if err != nil {
		err = errors.Join(err, RemoveAll(n.dir))
		n.release()
		return nil, fmt.Errorf("cannot make a cache entry in %s: %w", quotePath(c.dir), err)
	}
	n.dir, n.made = c.path(kind, key), true
	return n, nil
}

// newFolder makes a folder for an entry to be, and holds it.
func (c *Cache) newFolder(ctx context.Context, kind string) (*held, error) {
	names, err := lockFile(ctx, c.path(kind, namesName), unix.LOCK_EX, unix.O_CREAT)
	if err != nil {
		return nil, fmt.Errorf("cannot make a cache entry: %w", err)
	}
	defer names.Close()
	dir := c.path(kind, newPrefix+randomName())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make a cache entry: %w", err)
	}
	lock, err := lockFile(ctx, filepath.Join(dir, lockName), unix.LOCK_SH, unix.O_CREAT)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make a cache entry: %w", err), os.Remove(dir))
	}
	return &held{dir: dir, lock: lock}, nil
}

// claim takes an entry for oneself alone if nobody holds it, else nil.
func (c *Cache) claim(kind, key string) *held {
	dir := c.path(kind, key)
	lock, err := tryLock(filepath.Join(dir, lockName), unix.LOCK_EX, 0)
	if err != nil {
		return nil
	}
	return &held{dir: dir, lock: lock}
}

// retire gives a claimed entry a name by which nobody finds it. It stays
// claimed; when we are killed, it is a left-over.
func (c *Cache) retire(kind string, h *held) error {
	gone := c.path(kind, gonePrefix+randomName())
	if err := os.Rename(h.dir, gone); err != nil {
		return fmt.Errorf("cannot remove a cache entry: %w", err)
	}
	h.dir = gone
	return nil
}

// drop removes a retired entry and releases it.
func (h *held) drop() error {
	defer h.release()
	return RemoveAll(h.dir)
}

// sweep removes what killed makers and removers of this kind left. It is not
// done when somebody else is at it, and what it cannot remove stays for Collect
// to complain about.
func (c *Cache) sweep(kind string) (removed []string, err error) {
	names, _ := os.ReadDir(c.path(kind, ""))
	for _, e := range names {
		name := e.Name()
		// RemoveAll was killed after it had moved .new-x to ..new-x.trash/0.
		if rest, ok := strings.CutSuffix(name, ".trash"); ok {
			name = strings.TrimPrefix(rest, ".")
			if !missing(c.path(kind, name)) {
				continue
			}
		}
		if !strings.HasPrefix(name, newPrefix) && !strings.HasPrefix(name, gonePrefix) {
			continue
		}
		if free, lock := c.leftOver(kind, name); free {
			err = errors.Join(err, RemoveAll(c.path(kind, name)))
			removed = append(removed, c.path(kind, name))
			if lock != nil {
				lock.Close()
			}
		}
	}
	return removed, err
}

// leftOver says whether nobody holds a .new- or .gone- folder, and takes it.
func (c *Cache) leftOver(kind, name string) (free bool, lock *os.File) {
	names, err := tryLock(c.path(kind, namesName), unix.LOCK_EX, unix.O_CREAT)
	if err != nil {
		return false, nil
	}
	defer names.Close()
	lock, err = tryLock(filepath.Join(c.path(kind, name), lockName), unix.LOCK_EX, 0)
	// No lock in it: its maker was killed before it had made one, or its remover
	// after it had removed it. Two may remove the same folder at once; either
	// is done when it is gone.
	return err == nil || errors.Is(err, fs.ErrNotExist), lock
}

// errLocked tells that somebody else holds a lock.
var errLocked = errors.New("somebody else holds it")

// tryLock opens a file and locks it (flock(2)) if that can be had at once. The
// file is then the one that path names: a lock on a file that was removed or
// replaced meanwhile keeps nobody out.
func tryLock(path string, how, flags int) (*os.File, error) {
	for range 100 {
		f, err := os.OpenFile(path, unix.O_RDWR|unix.O_NOFOLLOW|flags, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil && sameFile(f, path) {
			return f, nil
		}
		f.Close()
		switch {
		case err == unix.EWOULDBLOCK:
			return nil, errLocked
		case err != nil && err != unix.EINTR:
			return nil, fmt.Errorf("cannot lock %s: %w", quotePath(path), err)
		}
	}
	return nil, errLocked
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// lockFile is tryLock that waits, up to ctx.
func lockFile(ctx context.Context, path string, how, flags int) (*os.File, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		f, err := tryLock(path, how, flags)
		if err == nil || !errors.Is(err, errLocked) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot wait for %s any longer: %w", quotePath(path), ctx.Err())
		case <-time.After(pause):
		}
	}
}

func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand
	return hex.EncodeToString(b[:])
}
