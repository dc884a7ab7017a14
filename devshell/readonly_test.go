package devshell

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// readOnly calls f where nothing can be written in dir: for root on a read-only
// mount in a namespace of the calling thread, for others without the rights.
func readOnly(t *testing.T, dir string, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		for _, right := range []os.FileMode{0o555, 0o755} {
			err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				return errors.Join(err, os.Chmod(path, right))
			})
			if err != nil {
				t.Fatal(err)
			}
			if right == 0o555 {
				f()
			}
		}
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = errors.Join(
				unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
				unix.Mount(dir, dir, "", unix.MS_BIND, ""),
				unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""),
			)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		need(t, "mount namespaces: "+err.Error(), false)
	}
}

// A warm cache on a read-only file system is as good as any.
func TestReadOnlyCache(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	source := w.source(KindFlake, "", "")
	first := w.shell(source)
	first.Release()
	memos, err := filepath.Glob(w.cache.path(memoPrefix + "*"))
	if err != nil || len(memos) != 1 {
		t.Fatal(memos, err)
	}
	look := func() {
		if err := os.WriteFile(w.cache.path("new"), nil, 0o600); err == nil {
			t.Error("it can be written")
		}
		hit, err := w.cache.Shell(t.Context(), w.nix, source, w.options())
		if err != nil {
			t.Error(err)
			return
		}
		defer hit.Release()
		// It is held: whoever may write cannot remove it.
		lock, err := os.Open(filepath.Join(filepath.Dir(hit.RC), lockName))
		if err != nil {
			t.Error(err)
			return
		}
		defer lock.Close()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
			t.Errorf("the entry is not held: %v", err)
		}
		if opened, err := w.cache.Open(first.Key); err != nil {
			t.Error(err)
		} else {
			opened.Release()
		}
		if cached, err := w.cache.Cached(t.Context(), w.nix, source); err != nil || cached == nil {
			t.Errorf("%v, %v", cached, err)
		} else {
			cached.Release()
		}
		other := w.source(KindFlake, "", "plain")
		if _, err := w.cache.Shell(t.Context(), w.nix, other, w.options()); err == nil || !strings.HasPrefix(err.Error(), "cannot write to the cache in ") {
			t.Errorf("a shell that is not there: %v", err)
		}
	}
	readOnly(t, w.cache.dir, look)
	if err := os.Remove(memos[0]); err != nil {
		t.Fatal(err)
	}
	readOnly(t, w.cache.dir, look) // nor is the version needed
}

// Only who shares a lock does without the right to write.
func TestReadOnlyLock(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "lock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	readOnly(t, dir, func() {
		a, err := tryLock(file, unix.LOCK_SH, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer a.Close()
		if _, err := tryLock(file, unix.LOCK_EX, 0); err == nil {
			t.Error("locked for writing")
		}
		if _, err := tryLock(file+"2", unix.LOCK_SH, unix.O_CREAT); err == nil {
			t.Error("made")
		}
	})
}
