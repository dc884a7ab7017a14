package worktree

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How old a ref lock must be to be taken for stale: one that holds our value,
// and an empty one. git holds a lock for milliseconds.
const (
	ownLockAge   = 200 * time.Millisecond
	emptyLockAge = 2 * time.Second
)

// clearStaleLock removes a ref lock that a killed git of ours left. git writes
// the new value into it before the rename: a lock that holds ours is ours. An
// empty one was caught earlier; whoever holds such a lock fills it at once, so
// one that stays empty is nobody's. It says whether it removed one.
func clearStaleLock(path, value string) bool {
	for range 30 {
		fi, err := os.Lstat(path)
		if err != nil || !fi.Mode().IsRegular() || fi.Size() > 100 {
			return false
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		text := strings.TrimSpace(string(data))
		age := emptyLockAge
		switch text {
		case "":
		case value:
			age = ownLockAge
		default:
			return false
		}
		if time.Since(fi.ModTime()) > age {
			return os.Remove(path) == nil
		}
		time.Sleep(ownLockAge / 2)
	}
	return false
}

// dirLock is an flock(2) on a folder. It is inherited by the git processes that
// work under it, so it is free only when rcc and all of them are gone.
type dirLock struct{ f *os.File }

// lockDir waits for the lock up to patience.
func lockDir(dir string, patience time.Duration) (*dirLock, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil, errors.Is(err, unix.EBADF), errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EOPNOTSUPP):
			// Some network file systems know no lock on a folder; the caller's own
			// lock, one per repository, still stands.
			return &dirLock{f}, nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end):
			f.Close()
			return nil, fmt.Errorf("cannot work in %s: another merge of rcc is at it; wait for it", quotePath(dir))
		}
	}
}

func (l *dirLock) unlock() { l.f.Close() }
