package worktree

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An index of git's, versions 2 and 3 (gitformat-index(5)): a header of 12
// bytes, the entries, extensions, and a hash over all of it. An entry is ten
// 32-bit numbers (ctime, its nanoseconds, mtime, its nanoseconds, device,
// inode, mode, uid, gid, size), an object id, 16 bits of flags, 16 more when
// one of them says so, the path, and 1 to 8 NUL up to a multiple of 8.
const (
	indexHeader = 12
	indexStat   = 40
	modeType    = 0o170000
	modeGitlink = 0o160000
)

var errIndex = errors.New("the index that git wrote cannot be read")

func indexHash(format string) hash.Hash {
	if format == "sha256" {
		return sha256.New()
	}
	return sha1.New()
}

// indexEntries calls do with each entry's numbers, which may be changed in
// place, and its path with the NUL behind it. The index was written by a git
// that ran in a sandbox on files of the repository: every length is checked.
func indexEntries(index []byte, format string, do func(stat, path []byte)) (int, error) {
	idLen := indexHash(format).Size()
	if len(index) < indexHeader+idLen || string(index[:4]) != "DIRC" {
		return 0, errIndex
	}
	if v := binary.BigEndian.Uint32(index[4:]); v != 2 && v != 3 {
		return 0, fmt.Errorf("%w: it has version %d", errIndex, v)
	}
	n := int(binary.BigEndian.Uint32(index[8:]))
	rest := index[indexHeader : len(index)-idLen]
	for range n {
		name := indexStat + idLen + 2
		if len(rest) < name+2 {
			return 0, errIndex
		}
		if rest[name-2]&0x40 != 0 { // extended: version 3
			name += 2
		}
		end := name
		for end < len(rest) && rest[end] != 0 {
			end++
		}
		size := (end + 8) &^ 7
		if end == name || size > len(rest) {
			return 0, errIndex
		}
		do(rest[:indexStat:indexStat], rest[name:end+1])
		rest = rest[size:]
	}
	return n, nil
}

// settled is the time that files written by a job which began at began get: a
// whole second that is over. An index whose entries are all older than itself
// has no "racy" entry, which git would read again at every status
// (Documentation/technical/racy-git.txt; only whole seconds are compared unless
// git was built with USE_NSEC).
func settled(began time.Time) time.Time { return began.Truncate(time.Second).Add(-2 * time.Second) }

// settle gives the files below root that the index names the time mtime, and
// writes what the file system says of them into the index, in memory: ctime,
// mtime, inode and size. Device, owner and mode stay as the git inside saw
// them. only, unless nil, says which paths were written just now; all others
// stay as they are. It returns the number of entries.
func settle(root *os.File, index []byte, format string, mtime time.Time, only map[string]bool) (int, error) {
	type item struct{ stat, path []byte }
	var items []item
	n, err := indexEntries(index, format, func(stat, path []byte) {
		// Of a submodule there is a folder, in which git looks for a repository.
		if binary.BigEndian.Uint32(stat[24:])&modeType == modeGitlink {
			return
		}
		if only == nil || only[string(path[:len(path)-1])] {
			items = append(items, item{stat, path})
		}
	})
	if err != nil {
		return 0, err
	}
	err = inParallel(len(items), 256, func(from, to int) error {
		at := walkDirs{root: int(root.Fd())}
		defer at.close()
		for _, it := range items[from:to] {
			fd, name, err := at.enter(it.path)
			if err == nil {
				err = settleOne(fd, name, it.stat, mtime)
			}
			if err != nil {
				return fmt.Errorf("cannot look at %s: %w", quotePath(string(it.path[:len(it.path)-1])), err)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	sealIndex(index, format)
	return n, nil
}

// sealIndex writes the hash at the end of an index that indexEntries has read.
func sealIndex(index []byte, format string) {
	h := indexHash(format)
	body := index[:len(index)-h.Size()]
	h.Write(body)
	h.Sum(body)
}

// settleOne sets one file's time and fills in its index entry. name ends with NUL.
func settleOne(fd int, name, stat []byte, mtime time.Time) error {
	times := [2]unix.Timespec{unix.NsecToTimespec(mtime.UnixNano()), unix.NsecToTimespec(mtime.UnixNano())}
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&times)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	if e != 0 {
		return e
	}
	var st unix.Statx_t
	if e := statxAt(fd, name, &st); e != 0 {
		return e
	}
	if t := st.Mode & unix.S_IFMT; t != unix.S_IFREG && t != unix.S_IFLNK {
		return errors.New("it is neither a file nor a link")
	}
	put := func(i int, v uint64) { binary.BigEndian.PutUint32(stat[4*i:], uint32(v)) }
	put(0, uint64(st.Ctime.Sec))
	put(1, uint64(st.Ctime.Nsec))
	put(2, uint64(st.Mtime.Sec))
	put(3, uint64(st.Mtime.Nsec))
	put(5, st.Ino)
	put(9, st.Size)
	return nil
}

// statxAt is statx(2) of a name that ends with NUL, without an
// allocation: there are as many calls as files.
func statxAt(fd int, name []byte, st *unix.Statx_t) unix.Errno {
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	_, _, e := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&name[0])), flags,
		unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(st)), 0)
	return e
}

// walkDirs opens the folders of paths that come in order, beneath root and
// never through a link, and keeps the last one open.
type walkDirs struct {
	root int
	dir  string
	fd   int // 0: none
}

// enter returns a descriptor of the folder that path lies in and the rest of path.
func (w *walkDirs) enter(path []byte) (int, []byte, error) {
	cut := len(path) - 1
	for cut > 0 && path[cut-1] != '/' {
		cut--
	}
	name := path[cut:]
	switch s := string(name[:len(name)-1]); s {
	case "", ".", "..": // no path of git's ends so
		return 0, nil, errIndex
	}
	if cut == 0 {
		return w.root, name, nil
	}
	if dir := string(path[:cut-1]); w.fd == 0 || dir != w.dir {
		w.close()
		fd, err := openBeneath(w.root, dir)
		if err != nil {
			return 0, nil, err
		}
		w.dir, w.fd = strings.Clone(dir), fd
	}
	return w.fd, name, nil
}

func (w *walkDirs) close() {
	if w.fd != 0 {
		unix.Close(w.fd)
		w.fd = 0
	}
}

// inParallel calls do for pieces of 0…n of at least least each, on all cores,
// and returns an error of one of them.
func inParallel(n, least int, do func(from, to int) error) error {
	// More pieces than cores: some are slower than others.
	size := max(least, (n+8*runtime.GOMAXPROCS(0)-1)/(8*runtime.GOMAXPROCS(0)))
	pieces := make(chan int, (n+size-1)/max(size, 1))
	for from := 0; from < n; from += size {
		pieces <- from
	}
	close(pieces)
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for range min(runtime.GOMAXPROCS(0), len(pieces)) {
		wg.Go(func() {
			for from := range pieces {
				if err := do(from, min(from+size, n)); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}
