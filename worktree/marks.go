package worktree

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// marksName is a list, beside the layer of an entry of few files, by which a
// damaged one is told from one that is as it was made.
const marksName = "marks"

// marks lists what a layer has: kinds, sizes, inodes and times. The time of a
// change of the inode is no part of it: the base's index gets a link in every
// layer of git directories.
func marks(layer string) ([]byte, error) {
	var b bytes.Buffer
	err := filepath.WalkDir(layer, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		size := st.Size
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			size = 0
		}
		fmt.Fprintf(&b, "%s\x00%o %d %d %d\n", path[len(layer):], st.Mode, size, st.Ino, unix.TimespecToNsec(st.Mtim))
		return nil
	})
	return b.Bytes(), err
}

// writeMarks is for who has just made the layer in dir.
func writeMarks(dir string) error {
	list, err := marks(filepath.Join(dir, layerName))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, marksName), list, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot list a layer: %w", err)
	}
	return nil
}

// intact tells whether a layer is as it was made.
func (h *held) intact() bool {
	was, err := os.ReadFile(filepath.Join(h.dir, marksName))
	if err != nil {
		return false
	}
	now, err := marks(h.files())
	return err == nil && bytes.Equal(was, now)
}
