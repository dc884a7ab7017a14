package devshell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// errLocked says that somebody else holds a lock.
var errLocked = errors.New("somebody else holds it")

// tryLock opens a file and locks it (flock(2)) if that can be had at once. The
// file is then the one that path names: a lock on a file that was removed or
// replaced meanwhile keeps nobody out. Where nothing can be written a shared lock
// still can be had: flock(2) does not ask how the file was opened.
func tryLock(path string, how, flags int) (*os.File, error) {
	for range 100 {
		f, err := os.OpenFile(path, unix.O_RDWR|unix.O_NOFOLLOW|flags, 0o600)
		if how == unix.LOCK_SH && flags == 0 && (errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES)) {
			f, err = os.OpenFile(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		}
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil && namedBy(f, path) {
			return f, nil
		}
		f.Close()
		switch {
		case err == unix.EWOULDBLOCK:
			return nil, errLocked
		case err != nil && err != unix.EINTR:
			return nil, fmt.Errorf("cannot lock %q: %w", path, err)
		}
	}
	return nil, errLocked
}

func namedBy(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// lockFile is tryLock that waits, up to ctx. waiting is called once when it has to.
func lockFile(ctx context.Context, path string, how, flags int, waiting func()) (*os.File, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		f, err := tryLock(path, how, flags)
		if err == nil || !errors.Is(err, errLocked) {
			return f, err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > limit {
		return nil, fmt.Errorf("cannot read %q: it is not a file of at most %d bytes", path, limit)
	}
	data := make([]byte, fi.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", path, err)
	}
	return data, nil
}

// writeWhole puts a file in place with all its bytes or not at all. It is not
// forced to the disk: after a power cut a cut-off file is made again.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = also(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return also(err, os.Remove(f.Name()))
	}
	return nil
}
