package devshell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Cache is a folder of dev shells.
//
//	<key>.lock          held (flock, exclusive) by whoever makes or removes shells of that key
//	<key>.log           what Nix said when it could not make it
//	<key>/tree/         while one is made: the files that Nix evaluates
//	<key>/<n>/          a shell, made once and never changed; the highest number counts
//	  lock              held (flock, shared) by whoever uses it; its time is that of the last use
//	  profile           a link that is a root for Nix's garbage collector. It is made in
//	                    this place and never renamed: Nix finds it by its path
//	  rc.bash, paths, environ, log, .attrs.*
//	  shell.json        written last: without it there is no shell
//	nix-<identity>      version of a nix program
//
// A key's shell is made again, beside the old one, when the user asks for that
// or when something of it is lost; whoever uses the old one keeps it.
type Cache struct{ dir string }

// OpenCache is the cache in dir, an absolute path. Nothing is made or looked at
// yet; the folder is made, for its owner alone, when it is needed.
func OpenCache(dir string) *Cache { return &Cache{dir: dir} }

const (
	lockSuffix  = ".lock"
	logSuffix   = ".log"
	lockName    = "lock"
	treeName    = "tree"
	profileName = "profile"
	rcName      = "rc.bash"
	logName     = "log"
	infoName    = "shell.json"
)

// DefaultTimeout is how long all Nix processes of one Shell may take together.
const DefaultTimeout = time.Hour

// Options say how a shell is made.
type Options struct {
	// Export writes the tree's files into an empty folder. It is called on a
	// miss only. The files' times do not matter: they are set to one time, as
	// self.lastModified of a path: flake is the newest of them.
	Export   func(ctx context.Context, dir string) error
	Progress func(text string) // gets one short line, now and then, while Nix works; nil: nobody does
	Timeout  time.Duration     // of all Nix processes together; 0: DefaultTimeout
	Refresh  bool              // evaluate again even on a hit
}

func (o Options) progress(text string) {
	if o.Progress != nil {
		o.Progress(text)
	}
}

// Shell returns the shell of a source, made by Nix when it is not in the cache.
// Of two who make one shell the second waits, up to ctx, and has the first
// one's. An error of Nix's is an *Error, one that took too long is
// context.DeadlineExceeded inside; nothing is left of a shell that could not be
// made but the log that the error names.
func (c *Cache) Shell(ctx context.Context, n *Nix, s Source, o Options) (*Shell, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	version, err := c.Version(ctx, n)
	if err != nil {
		return nil, err
	}
	key := s.key(version, n.surroundings(s))
	if !o.Refresh {
		if shell := c.hit(key); shell != nil {
			return shell, nil
		}
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, cacheError(c.dir, err)
	}
	waited := false
	turn, err := lockFile(ctx, c.path(key+lockSuffix), unix.LOCK_EX, unix.O_CREAT, func() {
		waited = true
		o.progress("waiting for another rcc that makes the same dev shell")
	})
	if err != nil {
		return nil, cacheError(c.dir, err)
	}
	defer turn.Close()
	if !o.Refresh || waited { // whoever we waited for refreshed it too
		if shell := c.hit(key); shell != nil {
			return shell, nil
		}
	}
	return c.make(ctx, &making{cache: c, nix: n, source: s, options: o, key: key, version: version})
}

func (c *Cache) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// hit returns the key's shell if it is there and whole.
func (c *Cache) hit(key string) *Shell {
	for range 3 { // it may be replaced by a newer one while we look
		dir := c.newest(key)
		if dir == "" {
			return nil
		}
		lock, err := tryLock(filepath.Join(dir, lockName), unix.LOCK_SH, 0)
		if err != nil {
			continue
		}
		shell, err := readEntry(dir, key)
		if err != nil || !allThere(shell.Paths) {
			lock.Close()
			return nil
		}
		_ = unix.Futimes(int(lock.Fd()), nil) // used now
		shell.lock = lock
		return shell
	}
	return nil
}

// newest is the folder of the key's newest shell, or "".
func (c *Cache) newest(key string) string {
	numbers := c.numbers(key)
	for i := len(numbers) - 1; i >= 0; i-- {
		dir := c.path(key, strconv.Itoa(numbers[i]))
		if _, err := os.Lstat(filepath.Join(dir, infoName)); err == nil {
			return dir
		}
	}
	return ""
}

// allThere says whether all paths of a closure exist: somebody may have removed
// one in spite of the root, or the whole store.
func allThere(paths []string) bool { return len(paths) > 0 && firstMissing(paths) == "" }

// firstMissing is the first of the store paths that does not exist, or "".
func firstMissing(paths []string) string {
	if len(paths) == 0 {
		return ""
	}
	store, err := os.Open(filepath.Dir(paths[0]))
	if err != nil {
		return paths[0]
	}
	defer store.Close()
	fd := int(store.Fd())
	// A look takes a microsecond or two: thousands are shared out.
	const share = 250
	var gone atomic.Pointer[string]
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), 1+len(paths)/share)
	for part := range slices.Chunk(paths, (len(paths)+workers-1)/workers) {
		look := func() {
			var st unix.Stat_t
			for i := range part {
				if unix.Fstatat(fd, filepath.Base(part[i]), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
					gone.CompareAndSwap(nil, &part[i])
					return
				}
			}
		}
		if workers == 1 {
			look()
		} else {
			wg.Go(look)
		}
	}
	wg.Wait()
	if p := gone.Load(); p != nil {
		return *p
	}
	return ""
}

// cacheError says that the cache cannot be used.
func cacheError(dir string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("cannot wait for another rcc that makes the same dev shell: %w", err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("cannot write to the cache in %q: %w; make it writable, or set XDG_CACHE_HOME", dir, errnoOf(err))
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("cannot write to the cache in %q: %w; make room", dir, errnoOf(err))
	}
	return fmt.Errorf("cannot use the cache in %q: %w", dir, err)
}

// errnoOf is the system's own error in err.
func errnoOf(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
