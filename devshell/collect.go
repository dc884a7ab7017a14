package devshell

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An Entry is a shell in the cache.
type Entry struct {
	Key, Name  string
	Made, Used time.Time
	Paths      int // of its closure
}

// Entries lists the shells in the cache, the last used first. A cache that does
// not exist has none.
func (c *Cache) Entries() ([]Entry, error) {
	keys, err := c.keys()
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, key := range keys {
		dir := c.newest(key)
		if dir == "" {
			continue
		}
		s, err := readEntry(dir, key)
		if err != nil {
			continue
		}
		e := Entry{Key: key, Name: s.Name, Paths: len(s.Paths), Used: modified(filepath.Join(dir, lockName)), Made: modified(filepath.Join(dir, infoName))}
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return b.Used.Compare(a.Used) })
	return out, nil
}

func modified(path string) time.Time {
	fi, err := os.Lstat(path)
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}

// memoAge is how long the version of a nix program is remembered.
const memoAge = 90 * 24 * time.Hour

// Collect removes the shells that keep does not name and that nobody has used for
// longer than olderThan, and what is left of ones that were not made. Those in use
// stay, and so does a key whose shell is just being made. The store paths
// are for Nix's own garbage collector. It returns the keys of what it removed.
func (c *Cache) Collect(keep func(key string) bool, olderThan time.Duration) (removed []string, err error) {
	keys, err := c.keys()
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		since := time.Now().Add(-olderThan)
		if keep != nil && keep(key) {
			since = time.Time{}
		}
		gone, errKey := c.collect(key, since)
		if gone {
			removed = append(removed, key)
		}
		err = also(err, errKey)
	}
	memos, _ := filepath.Glob(c.path(memoPrefix + "*"))
	for _, memo := range memos {
		if time.Since(modified(memo)) > memoAge {
			err = also(err, os.Remove(memo))
		}
	}
	return removed, err
}

// collect removes a key if nothing of it is in use, or was since that time; what
// a killed maker left, and shells that a newer one replaced, go in any case. It
// tells whether a whole shell is gone.
func (c *Cache) collect(key string, since time.Time) (bool, error) {
	turn, err := tryLock(c.path(key+lockSuffix), unix.LOCK_EX, unix.O_CREAT)
	if errors.Is(err, errLocked) {
		return false, nil
	}
	if err != nil {
		return false, cacheError(c.dir, err)
	}
	defer turn.Close()
	c.sweep(key)
	dir, whole := c.path(key), c.newest(key) != ""
	_ = os.Remove(dir) // if nothing is left in it
	for _, file := range []string{dir, c.path(key + logSuffix)} {
		if file == dir && len(c.numbers(key)) > 0 {
			continue // the shells' locks have their time
		}
		if modified(file).After(since) {
			return false, nil
		}
	}
	for _, n := range c.numbers(key) {
		shell := filepath.Join(dir, strconv.Itoa(n))
		if modified(filepath.Join(shell, lockName)).After(since) {
			return false, nil
		}
		if err := removeShell(shell); errors.Is(err, errLocked) {
			return false, nil
		} else if err != nil {
			return false, cacheError(c.dir, err)
		}
	}
	for _, file := range []string{dir, c.path(key + logSuffix), c.path(key + lockSuffix)} {
		if err := os.RemoveAll(file); err != nil {
			return false, cacheError(c.dir, err)
		}
	}
	return whole, nil
}

// keys lists all keys of which anything is there.
func (c *Cache) keys() ([]string, error) {
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, cacheError(c.dir, err)
	}
	var keys []string
	for _, e := range entries {
		key := strings.TrimSuffix(strings.TrimSuffix(e.Name(), lockSuffix), logSuffix)
		if isKey(key) && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

func isKey(name string) bool {
	return len(name) == 32 && !strings.ContainsFunc(name, func(r rune) bool { return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f') })
}
