package worktree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// linkedFile is a file of a layer that is the checkout's own inode, as it was
// when the layer was made.
type linkedFile struct {
	path  string
	size  int64
	mtime unix.Timespec
}

// writeLinked keeps the list: "size seconds nanoseconds path", each with a NUL
// at its end.
func writeLinked(file string, list []linkedFile) error {
	var b bytes.Buffer
	for _, l := range list {
		sec, nsec := l.mtime.Unix()
		fmt.Fprintf(&b, "%d %d %d %s\x00", l.size, sec, nsec, l.path)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("cannot keep the list of linked files: %w", err)
	}
	return nil
}

// CarryChanged names the files of a layer (one of Tree.Lower) that were written
// in place in the user's checkout since the layer was made, or are gone from it. A task that ran in
// the meantime saw some of each. It is for a note when the task is over; layers
// of other kinds have no such files.
func CarryChanged(layer string) ([]string, error) {
	list := filepath.Join(filepath.Dir(layer), linkedName)
	data, err := os.ReadFile(list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of linked files: %w", err)
	}
	root, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot look at the carried files in %s: %w", quotePath(layer), err)
	}
	defer unix.Close(root)
	var changed []string
	for _, entry := range splitNul(data) {
		part := strings.SplitN(entry, " ", 4)
		if len(part) != 4 {
			return nil, fmt.Errorf("cannot read %s: it is damaged; remove %s", quotePath(list), quotePath(filepath.Dir(layer)))
		}
		var st unix.Stat_t
		if err := unix.Fstatat(root, part[3], &st, unix.AT_SYMLINK_NOFOLLOW); err == unix.ENOENT {
			changed = append(changed, part[3])
			continue
		} else if err != nil {
			return nil, fmt.Errorf("cannot look at a carried file: %s: %w", quotePath(part[3]), err)
		}
		sec, nsec := st.Mtim.Unix()
		for i, n := range [3]int64{st.Size, sec, nsec} {
			if part[i] != strconv.FormatInt(n, 10) {
				changed = append(changed, part[3])
				break
			}
		}
	}
	return changed, nil
}
