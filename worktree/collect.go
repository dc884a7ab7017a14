package worktree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Entry is what the cache tells of one of its entries.
type Entry struct {
	Kind    string
	Key     string
	Commit  string    // bases: for which it was made
	Tree    string    // bases
	Files   int       // bases: in the tree
	Bytes   int64     // bases: on disk, without the layers below
	Layers  int       // its own and those below
	Made    time.Time // bases: when its making began; others: when they were put here
	Used    time.Time // last
	Damaged string    // bases: why it is not used any more; ""
}

// Entries lists the cache without looking at any layer.
func (c *Cache) Entries() ([]Entry, error) {
	var all []Entry
	err := c.each(func(kind, key, dir string) error {
		e := Entry{Kind: kind, Key: key, Layers: 1}
		if fi, err := os.Stat(dir); err == nil {
			e.Made = fi.ModTime()
		}
		if fi, err := os.Stat(filepath.Join(dir, lockName)); err == nil {
			e.Used = fi.ModTime()
		}
		if kind == baseKind {
			b := baseEntry{held: &held{dir: dir}}
			if err := b.readInfo(); err != nil {
				e.Damaged = inert(err.Error())
			}
			e.Commit, e.Tree, e.Files, e.Bytes, e.Made = b.Commit, b.Tree, b.Files, b.Own.Bytes, b.Made
			e.Layers += len(b.Lower)
			if why, err := os.ReadFile(b.path(damagedName)); err == nil {
				e.Damaged = inert(strings.TrimSpace(string(why)))
			}
		}
		all = append(all, e)
		return nil
	})
	return all, err
}

// each calls do for every entry.
func (c *Cache) each(do func(kind, key, dir string) error) error {
	kinds, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot list the cache: %w", err)
	}
	for _, k := range kinds {
		if !k.IsDir() || strings.HasPrefix(k.Name(), ".") {
			continue
		}
		keys, err := os.ReadDir(c.path(k.Name(), ""))
		if err != nil {
			return fmt.Errorf("cannot list the cache: %w", err)
		}
		for _, e := range keys {
			if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			if err := do(k.Name(), e.Name(), c.path(k.Name(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Collect removes every entry that nobody uses: that nobody holds, whose layer
// (…/files) no record names, and on which no other base stands that stays. It
// also removes what killed makers left. inUse is asked while nobody can begin
// to use the entries in question, so that a task which starts at this moment
// either is in its answer or makes the entry again. It returns the folders
// that are gone, and what they took on disk.
func (c *Cache) Collect(inUse func() (map[string]bool, error)) (removed []string, bytes int64, err error) {
	return c.collect(nil, inUse)
}

// spared is how many entries of a kind Trim leaves, the last used ones.
var spared = map[string]int{baseKind: 6, gitKind: 20, carryKind: 6}

// Trim is Collect for every day: it leaves the entries that were used last.
func (c *Cache) Trim(inUse func() (map[string]bool, error)) error {
	all, err := c.Entries()
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b Entry) int { return b.Used.Compare(a.Used) })
	spare, seen, over := map[string]bool{}, map[string]int{}, false
	for _, e := range all {
		if seen[e.Kind]++; seen[e.Kind] <= spared[e.Kind] {
			spare[e.Kind+"/"+e.Key] = true
		} else {
			over = true
		}
	}
	if !over {
		return nil
	}
	_, _, err = c.collect(spare, inUse)
	return err
}

// collect is Collect without the entries of spare, by kind/key.
func (c *Cache) collect(spare map[string]bool, inUse func() (map[string]bool, error)) (removed []string, bytes int64, err error) {
	claimed := map[string]*held{} // by kind/key
	lower := map[string][]string{}
	defer func() {
		for _, h := range claimed {
			h.release()
		}
	}()
	err = c.each(func(kind, key, dir string) error {
		name := kind + "/" + key
		if !spare[name] {
			if h := c.claimOld(kind, key); h != nil {
				claimed[name] = h
			}
		}
		b := baseEntry{held: &held{dir: dir}}
		if kind == baseKind && missing(b.path(damagedName)) && b.readInfo() == nil {
			for _, l := range b.Lower {
				lower[name] = append(lower[name], baseKind+"/"+l.Name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	used, err := inUse()
	if err != nil {
		return nil, 0, fmt.Errorf("cannot learn what of the cache is in use: %w", err)
	}
	keep := func(name string) {
		if h := claimed[name]; h != nil {
			h.release()
			delete(claimed, name)
		}
	}
	for name, h := range claimed {
		if used[h.files()] {
			keep(name)
		}
	}
	// An entry lists all that it stands on, not only the next.
	for name, below := range lower {
		if claimed[name] == nil {
			for _, l := range below {
				keep(l)
			}
		}
	}
	for name, h := range claimed {
		kind, _, _ := strings.Cut(name, "/")
		was := h.dir
		if rerr := c.retire(kind, h); rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		bytes += diskUse(h.dir)
		delete(claimed, name)
		removed = append(removed, was)
		err = errors.Join(err, h.drop())
	}
	left, lerr := c.collectLeftOvers()
	removed = append(removed, left...)
	slices.Sort(removed)
	return removed, bytes, errors.Join(err, lerr)
}

// claimOld claims an entry, also one that has lost its lock.
func (c *Cache) claimOld(kind, key string) *held {
	dir := c.path(kind, key)
	if missing(filepath.Join(dir, lockName)) && !missing(dir) {
		lock, err := tryLock(filepath.Join(dir, lockName), unix.LOCK_EX, unix.O_CREAT)
		if err != nil {
			return nil
		}
		return &held{dir: dir, lock: lock}
	}
	return c.claim(kind, key)
}

// collectLeftOvers removes what killed makers and removers left, and locks for
// makers of entries that nobody makes.
func (c *Cache) collectLeftOvers() (removed []string, err error) {
	kinds, _ := os.ReadDir(c.dir)
	for _, k := range kinds {
		if !k.IsDir() {
			continue
		}
		gone, serr := c.sweep(k.Name())
		removed, err = append(removed, gone...), errors.Join(err, serr)
		names, _ := os.ReadDir(c.path(k.Name(), ""))
		for _, e := range names {
			if !strings.HasPrefix(e.Name(), makingPrefix) {
				continue
			}
			// Who waits for it notices that the file is another one (tryLock).
			path := c.path(k.Name(), e.Name())
			if f, lerr := tryLock(path, unix.LOCK_EX, 0); lerr == nil {
				err = errors.Join(err, os.Remove(path))
				f.Close()
			}
		}
	}
	return removed, err
}

// diskUse is what a folder of ours takes. A file that has a link elsewhere
// stays on the disk and does not count.
func diskUse(dir string) int64 {
	var bytes int64
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil && (st.Nlink == 1 || st.Mode&unix.S_IFMT == unix.S_IFDIR) {
			bytes += st.Blocks * 512
		}
		return nil
	})
	return bytes
}
