package worktree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// past is a deadline that ends a read at once.
var past = time.Unix(1, 0)

// Remove removes all that this package keeps in the task's folder.
func (t *Tree) Remove() error {
	err := t.RemoveWork()
	for _, name := range []string{incomingName, snapshotName, acceptedName, acceptedName + ".new", refsName} {
		err = errors.Join(err, removeTree(t.path(name), t.path(trashName)))
	}
	return err
}

// RemoveWork removes the agent's tree and keeps what was received from it, so
// that Accept can bring the branch back.
func (t *Tree) RemoveWork() error {
	var err error
	for _, name := range []string{treeName, ownName, harvestName, indexName, "dirty-index"} {
		err = errors.Join(err, removeTree(t.path(name), t.path(trashName)))
	}
	return err
}

// RemoveAll removes path, which an agent may have filled, and everything below
// it. It needs room for a folder beside it.
func RemoveAll(path string) error {
	return removeTree(path, filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".trash"))
}

// removeTree removes path and everything below it, whatever an agent left
// there: folders without permissions, paths longer than any path may be, a
// million files. trash is a folder beside it that is ours.
//
// Every folder that is found is first moved into trash, so that it is never
// more than one step away: no recursion, no long path, two descriptors. Names
// are resolved relative to a descriptor and links are not followed. A folder on
// which something is mounted cannot be moved (rename(2), EBUSY, EXDEV), so a
// mount that was left behind is an error and not emptied.
func removeTree(path, trash string) error {
	err := removeInto(path, trash)
	// Somebody else may be at the same. Whoever comes last sees that all is gone.
	for range 10 {
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
		err = removeInto(path, trash)
	}
	if err != nil && !(missing(path) && missing(trash)) {
		return fmt.Errorf("cannot remove %s: %w", quotePath(path), err)
	}
	return nil
}

func removeInto(path, trash string) error {
	if missing(path) && missing(trash) {
		return nil
	}
	if err := os.Mkdir(trash, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	tr := trasher{}
	var err error
	if tr.fd, err = unix.Open(trash, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	defer unix.Close(tr.fd)
	parent, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	defer unix.Close(parent)
	// What an earlier removal left in the trash goes first.
	if err := tr.empty(); err != nil {
		return err
	}
	if err := tr.take(parent, filepath.Base(path)); err != nil {
		return err
	}
	if err := tr.empty(); err != nil {
		return err
	}
	return os.Remove(trash)
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

type trasher struct {
	fd   int // the trash folder
	next int // number of the next folder in it
}

// take removes a file, or moves a folder into the trash.
func (tr *trasher) take(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR, unix.EPERM: // EPERM is what POSIX says for a folder
	default:
		return err
	}
	// Moving a folder changes its "..", which needs write permission on it.
	if err := openUp(dir, name); err != nil {
		return err
	}
	for {
		err := unix.Renameat2(dir, name, tr.fd, strconv.Itoa(tr.next), unix.RENAME_NOREPLACE)
		if err != unix.EEXIST {
			tr.next++
			return err
		}
		tr.next++
	}
}

// openUp makes a folder's owner able to read, write and enter it. The mode is
// changed through a descriptor, so a link is never followed; an O_PATH
// descriptor can be had without any permission (open(2)).
func openUp(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&0o700 == 0o700 {
		return nil
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), 0o700)
}

// empty removes the folders in the trash, and those that come out of them.
func (tr *trasher) empty() error {
	for {
		left, err := tr.sweep(tr.fd, func(name string) error {
			err := unix.Unlinkat(tr.fd, name, 0)
			if err != unix.EISDIR && err != unix.EPERM {
				return err
			}
			return tr.emptyFolder(name)
		})
		if err != nil || left == 0 {
			return err
		}
	}
}

// emptyFolder removes one folder in the trash; the folders in it take its place.
func (tr *trasher) emptyFolder(name string) error {
	if err := openUp(tr.fd, name); err != nil {
		return err
	}
	fd, err := unix.Openat(tr.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		left, err := tr.sweep(fd, func(entry string) error { return tr.take(fd, entry) })
		if err != nil {
			return err
		}
		if left == 0 {
			return unix.Unlinkat(tr.fd, name, unix.AT_REMOVEDIR)
		}
	}
}

// sweep calls do for every entry of a folder that it finds in one pass and
// returns how many there were. Entries that are removed while a folder is read
// may hide others (readdir(3)), so callers go on until a pass finds none.
func (tr *trasher) sweep(dir int, do func(name string) error) (int, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	f := os.NewFile(uintptr(fd), "folder")
	defer f.Close()
	n := 0
	for {
		names, _ := f.Readdirnames(4096)
		if len(names) == 0 {
			return n, nil
		}
		for _, name := range names {
			n++
			if err := do(name); err != nil {
				return n, err
			}
		}
	}
}
