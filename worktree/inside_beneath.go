package worktree

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openWithin opens a path below a folder and nowhere else: no component may be
// a symbolic link, lead up or out, or be another mount (openat2(2)).
func openWithin(dir int, p string, flags uint64) (int, error) {
	return openat2(dir, p, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// readBeneath reads a regular file below a folder, at most max bytes. Opening
// waits for nobody, whatever lies there (O_NONBLOCK, fifo(7)).
func readBeneath(dir int, p string, max int64) ([]byte, error) {
	fd, err := openWithin(dir, p, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > max {
		return nil, errors.New("not a plain file")
	}
	data := make([]byte, fi.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("cannot read it whole: %w", err)
	}
	return data, nil
}

// listBeneath lists a folder below a folder, in order of names.
func listBeneath(dir int, p string) ([]os.DirEntry, error) {
	fd, err := openWithin(dir, p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return listOpen(fd, p)
}

// listOpen lists an open folder and closes it. What could be read of it comes
// with the error.
func listOpen(fd int, name string) ([]os.DirEntry, error) {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	entries, err := f.ReadDir(-1)
	sortEntries(entries)
	return entries, err
}

// isOpaque says whether a folder of an upper layer hides what the layers below
// have in its place (Documentation/filesystems/overlayfs.rst, "whiteouts and
// opaque directories"; with the mount option userxattr the names are user.*).
func isOpaque(dir int) bool {
	var value [2]byte
	n, err := unix.Fgetxattr(dir, "user.overlay.opaque", value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// isWhiteout says whether an entry of an upper layer stands for a removed one:
// a character device 0, 0.
func isWhiteout(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}
