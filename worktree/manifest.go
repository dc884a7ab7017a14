package worktree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"sort"

	"golang.org/x/sys/unix"
)

// A manifest lists everything in a layer with its inode and the time of its
// last change of status, in nanoseconds. Whatever is done to a file or a
// folder (content, mode, owner, links, names in it, attributes) moves that
// time to now, and nothing sets it (inode(7), "ctime"). So a layer is as it was
// made when they all agree, and no content needs to be read.
//
//	"rccmf1\n\x00", then for each folder of the layer
//	    4  length of what follows of this folder
//	    8  inode
//	    8  ctime
//	       path from the top, NUL ("." for the top)
//	       for each entry that is not a folder: 8 inode, 8 ctime, name, NUL
//
// All numbers are little endian. The sum (CRC-32C) is kept elsewhere: it finds
// accidents. Who can write here is the user.
const manifestMagic = "rccmf1\n\x00"

// manifestEntry are the bytes before an entry's name.
const manifestEntry = 16

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// layerSize is what a layer holds.
type layerSize struct {
	Files int   // everything but folders; whiteouts count
	Bytes int64 // on disk
}

// writeManifest lists the layer below root.
func writeManifest(root *os.File) ([]byte, layerSize, error) {
	out := []byte(manifestMagic)
	var size layerSize
	for level := []string{"."}; len(level) > 0; {
		found := make([]folder, len(level))
		err := inParallel(len(level), 8, func(from, to int) error {
			for i := from; i < to; i++ {
				if err := found[i].read(int(root.Fd()), level[i]); err != nil {
					return fmt.Errorf("cannot list %s: %w", quotePath(level[i]), err)
				}
			}
			return nil
		})
		if err != nil {
			return nil, size, err
		}
		level = level[:0:0]
		for i := range found {
			f := &found[i]
			out = binary.LittleEndian.AppendUint32(out, uint32(len(f.record)))
			out = append(out, f.record...)
			level = append(level, f.folders...)
			size.Files += f.size.Files
			size.Bytes += f.size.Bytes
		}
	}
	return out, size, nil
}

// folder is one folder of a layer, read.
type folder struct {
	record  []byte
	folders []string // paths of those in it
	size    layerSize
}

func (f *folder) read(root int, dirPath string) error {
	fd, err := openBeneath(root, dirPath)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), dirPath)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	sort.Strings(names)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return err
	}
	f.add(dirPath, &st)
	for _, name := range names {
		if e := statxAt(fd, append([]byte(name), 0), &st); e != 0 {
			return e
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			f.add(name, &st)
			f.size.Files++
			continue
		}
		f.folders = append(f.folders, path.Join(dirPath, name))
	}
	return nil
}

func (f *folder) add(name string, st *unix.Statx_t) {
	f.record = binary.LittleEndian.AppendUint64(f.record, st.Ino)
	f.record = binary.LittleEndian.AppendUint64(f.record, uint64(nanoseconds(st.Ctime)))
	f.record = append(append(f.record, name...), 0)
	f.size.Bytes += int64(st.Blocks) * 512
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

var errManifest = errors.New("its list of files cannot be read")

// parseManifest cuts a list into the records of its folders.
func parseManifest(list []byte) ([][]byte, error) {
	if len(list) < len(manifestMagic) || string(list[:len(manifestMagic)]) != manifestMagic {
		return nil, errManifest
	}
	var folders [][]byte
	for rest := list[len(manifestMagic):]; len(rest) > 0; {
		if len(rest) < 4 {
			return nil, errManifest
		}
		n := int64(binary.LittleEndian.Uint32(rest))
		if n < manifestEntry+2 || n > int64(len(rest)-4) || rest[4+n-1] != 0 {
			return nil, errManifest
		}
		folders = append(folders, rest[4:4+n])
		rest = rest[4+n:]
	}
	return folders, nil
}

// checkFolders compares the folders of the layer below root with its list: not
// what files hold, but which there are. An error says what differs.
func checkFolders(root *os.File, folders [][]byte) error {
	return inParallel(len(folders), 16, func(from, to int) error {
		var st unix.Statx_t
		for _, f := range folders[from:to] {
			path, _, ok := nextName(f)
			if !ok {
				return errManifest
			}
			if e := statxAt(int(root.Fd()), path, &st); e != 0 || !agrees(f, &st) {
				return fmt.Errorf("the folder %s was changed", quotePath(string(path[:len(path)-1])))
			}
		}
		return nil
	})
}

// checkFiles compares everything with the list.
func checkFiles(root *os.File, folders [][]byte) error {
	return inParallel(len(folders), 16, func(from, to int) error {
		for _, f := range folders[from:to] {
			if err := checkFolder(int(root.Fd()), f); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkFolder compares one folder, given as its record without the length.
func checkFolder(root int, record []byte) error {
	where, entries, ok := nextName(record)
	if !ok {
		return errManifest
	}
	dir := string(where[:len(where)-1])
	fd, err := openBeneath(root, dir)
	if err != nil {
		return fmt.Errorf("the folder %s cannot be opened: %w", quotePath(dir), err)
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &st); err != nil {
		return err
	}
	if !agrees(record, &st) {
		return fmt.Errorf("the folder %s was changed", quotePath(dir))
	}
	for len(entries) > 0 {
		name, rest, ok := nextName(entries)
		if !ok {
			return errManifest
		}
		if e := statxAt(fd, name, &st); e != 0 || !agrees(entries, &st) {
			what := "was changed"
			if e != 0 {
				what = "is missing"
			}
			return fmt.Errorf("%s %s", quotePath(path.Join(dir, string(name[:len(name)-1]))), what)
		}
		entries = rest
	}
	return nil
}

// nextName is the name of the entry that list begins with, its NUL
// included, and what comes after it.
func nextName(list []byte) (name, rest []byte, ok bool) {
	for end := manifestEntry; end < len(list); end++ {
		if list[end] == 0 {
			return list[manifestEntry : end+1 : end+1], list[end+1:], end > manifestEntry
		}
	}
	return nil, nil, false
}

func agrees(entry []byte, st *unix.Statx_t) bool {
	return binary.LittleEndian.Uint64(entry) == st.Ino && binary.LittleEndian.Uint64(entry[8:]) == uint64(nanoseconds(st.Ctime))
}
