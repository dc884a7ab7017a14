package hooks

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxPrivate bounds a file of ours, in bytes.
const maxPrivate = 4 << 20

// maxEntries bounds how many files of a folder of ours are looked at.
const maxEntries = 100_000

// A folder is an open folder that only the user can write. All its files are
// opened relative to it and without following links, so that what was checked is
// what is used. The nil folder is one that does not exist.
type folder struct {
	*os.File
	path string
}

// openFolder opens a folder of the user's. Absent, it is nil, or made with mode
// 0700 where that is asked for. A link in its place, another owner, or others
// who may write in it are an error; the folders above are the user's to arrange.
func openFolder(path string, create bool) (*folder, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("cannot use %q: it is not an absolute path", path)
	}
	if create {
		if err := os.MkdirAll(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("cannot make %s: %w", path, plain(err))
		}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case err == unix.ENOENT && !create:
		return nil, nil
	case err == unix.ELOOP, err == unix.ENOTDIR: // open(2): O_NOFOLLOW with O_DIRECTORY gives ENOTDIR for a link
		return nil, fmt.Errorf("cannot believe %s: it is not a plain folder; remove it", path)
	case err != nil:
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	f := &folder{os.NewFile(uintptr(fd), path), path}
	if err := ownedByUser(fd, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func ownedByUser(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("cannot look at %s: %w", path, err)
	}
	switch {
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("cannot believe %s: it belongs to user %d, not to you; remove it", path, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("cannot believe %s: others may write to it; remove it, or chmod go-w", path)
	}
	return nil
}

// read returns a file's content; nil and no error when there is no such file.
func (f *folder) read(name string) ([]byte, error) {
	if f == nil {
		return nil, nil
	}
	path := filepath.Join(f.path, name)
	// O_NONBLOCK: a pipe in its place must not make us wait.
	fd, err := unix.Openat(int(f.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch {
	case err == unix.ENOENT:
		return nil, nil
	case err == unix.ELOOP:
		return nil, fmt.Errorf("cannot believe %s: it is a link; remove it", path)
	case err != nil:
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot believe %s: it is not a plain file; remove it", path)
	}
	if err := ownedByUser(fd, path); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxPrivate+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read %s: %w", path, plain(err))
	case len(data) > maxPrivate:
		return nil, fmt.Errorf("cannot believe %s: it has more than %d MiB; remove it", path, maxPrivate>>20)
	}
	return append([]byte{}, data...), nil
}

// write replaces a file whole, mode 0600: a reader sees the old or the new one.
func (f *folder) write(name string, data []byte) error {
	path := filepath.Join(f.path, name)
	temp := "." + rand.Text()
	fd, err := unix.Openat(int(f.Fd()), temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	file := os.NewFile(uintptr(fd), path)
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err == nil {
		err = unix.Renameat(int(f.Fd()), temp, int(f.Fd()), name)
	}
	if err != nil {
		unix.Unlinkat(int(f.Fd()), temp, 0)
		return fmt.Errorf("cannot write %s: %w", path, plain(err))
	}
	return nil
}

// remove removes a file, whatever it is; that there is none is fine.
func (f *folder) remove(name string) error {
	if f == nil {
		return nil
	}
	if err := unix.Unlinkat(int(f.Fd()), name, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("cannot remove %s: %w", filepath.Join(f.path, name), err)
	}
	return nil
}

// names lists the folder, in no order.
func (f *folder) names() ([]string, error) {
	if f == nil {
		return nil, nil
	}
	names, err := f.Readdirnames(maxEntries)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("cannot list %s: %w", f.path, plain(err))
	}
	return names, nil
}

func (f *folder) close() {
	if f != nil {
		f.Close()
	}
}

// plain is the reason of an error without the operation and the path around it.
func plain(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
