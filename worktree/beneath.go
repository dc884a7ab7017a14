package worktree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// openBeneath opens a folder below root, itself for "" or ".", for reading. No
// part of the path may be a symbolic link or lead out (openat2(2)).
func openBeneath(root int, path string) (int, error) {
	if path == "" {
		path = "."
	}
	return openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
}

func openat2(dir int, path string, how *unix.OpenHow) (int, error) {
	for range 100 {
		fd, err := unix.Openat2(dir, path, how)
		if err != unix.EAGAIN && err != unix.EINTR { // something was renamed meanwhile
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// dirent is one name in a folder.
type dirent struct {
	name string
	kind uint32 // S_IFMT bits; 0: not known
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// readFolder lists an open folder, without "." and "..", in no order. It is
// getdents64(2) itself: os.File.ReadDir makes an object for each name.
func readFolder(fd int) ([]dirent, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var list []dirent
	for {
		n, err := unix.ReadDirent(fd, *buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n <= 0:
			return list, err
		}
		for b := (*buf)[:n]; len(b) > 19; {
			// ino 8 bytes, offset 8, length of the record 2, type 1, name with a NUL.
			size := int(binary.NativeEndian.Uint16(b[16:]))
			name := b[19:size]
			if i := bytes.IndexByte(name, 0); i >= 0 {
				name = name[:i]
			}
			if s := string(name); s != "." && s != ".." {
				list = append(list, dirent{s, uint32(b[18]) << 12}) // DT_x is S_IFx >> 12
			}
			b = b[size:]
		}
	}
}

// isFolder asks the file where the file system does not tell.
func (e dirent) isFolder(dir int) bool {
	if e.kind == 0 {
		var st unix.Stat_t
		if unix.Fstatat(dir, e.name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			return false
		}
		e.kind = st.Mode & unix.S_IFMT
	}
	return e.kind == unix.S_IFDIR
}
