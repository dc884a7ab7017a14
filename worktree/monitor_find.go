package worktree

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// monitor looks for index entries whose files may not be what they say. An
// entry is certain in two cases only.
//
// Its file lies in the upper layer, and what lstat(2) says of it in the tree is
// what the entry says, and the file is older than the index: then git's own
// check of a file would find it unchanged (match_stat_data in statinfo.c,
// is_racy_stat in read-cache.c).
//
// Or there is nothing of its path in the upper layer, nothing there hides what
// lies below, and the base's index has the same entry: blob, mode and path. The
// base shows that blob.
//
// So it does not matter what was there in between, which renames leave no time,
// or whether a file that was only in the upper layer is gone without a trace.
type monitor struct {
	index   *indexFile
	base    *indexFile
	written int64 // when the index was, in seconds

	upper   []bool // entries of which there is something in the upper layer
	doubted []bool
}

func (m *monitor) find() ([]string, error) {
	n := m.index.len()
	m.upper, m.doubted = make([]bool, n), make([]bool, n)
	top, err := unix.Open(insideUpper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := m.folder(os.NewFile(uintptr(top), insideUpper), "", 0, n, false); err != nil {
		return nil, err
	}
	if err := m.compare(); err != nil {
		return nil, err
	}
	var paths []string
	for i, d := range m.doubted {
		if d {
			paths = append(paths, string(m.index.path(i)))
		}
	}
	return paths, nil
}

// folder looks at a folder of the upper layer, to which the entries from…to
// belong. hidden: nothing of the layers below is seen in it.
func (m *monitor) folder(f *os.File, prefix string, from, to int, hidden bool) error {
	defer f.Close()
	opaque, err := hides(int(f.Fd()))
	if err != nil {
		return err
	}
	hidden = hidden || opaque
	names, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range names {
		if prefix == "" && e.Name() == ".git" {
			continue
		}
		if err := m.item(f, prefix+e.Name(), e, from, to, hidden); err != nil {
			return err
		}
	}
	if hidden {
		m.doubtRest(from, to)
	}
	return nil
}

// doubtRest doubts all entries that have nothing in the upper layer.
func (m *monitor) doubtRest(from, to int) {
	for i := from; i < to; i++ {
		m.doubted[i] = m.doubted[i] || !m.upper[i]
	}
}

// item looks at one name in a folder of the upper layer.
func (m *monitor) item(dir *os.File, path string, e os.DirEntry, from, to int, hidden bool) error {
	own := m.search(path, from, to)
	below := m.search(path+"/", own, to)
	end := m.search(path+"0", below, to) // '0' follows '/'
	found := own < to && string(m.index.path(own)) == path
	if found {
		m.upper[own] = true
		m.doubted[own] = e.IsDir() || !m.same(own, path)
	}
	switch {
	case below == end:
		return nil
	case !e.IsDir():
		m.doubtRest(below, end) // a file or a whiteout hides a folder
		return nil
	}
	fd, err := unix.Openat(int(dir.Fd()), e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		m.doubtRest(below, end) // somebody is at it right now
		return nil
	}
	if err != nil {
		return err
	}
	return m.folder(os.NewFile(uintptr(fd), path), path+"/", below, end, hidden)
}

// search finds the first entry from…to that does not come before path.
func (m *monitor) search(path string, from, to int) int {
	want := []byte(path)
	return from + sort.Search(to-from, func(i int) bool { return bytes.Compare(m.index.path(from+i), want) >= 0 })
}

// hides tells whether a folder of the upper layer hides those below it. The
// kernel knows more than one value; all but none at all are taken for yes.
func hides(fd int) (bool, error) {
	var value [8]byte
	switch _, err := unix.Fgetxattr(fd, "user.overlay.opaque", value[:]); {
	case errors.Is(err, unix.ENODATA):
		return false, nil
	case errors.Is(err, unix.ERANGE):
		return true, nil
	default:
		return true, err
	}
}

// same tells whether the file in the tree is what its entry says. The device is
// not compared, as git does not; the inode's number and the size are 32 bits of
// what they are.
func (m *monitor) same(i int, path string) bool {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return false
	}
	e := m.index.data[m.index.at[i]:]
	num := func(k int) uint32 { return binary.BigEndian.Uint32(e[4*k:]) }
	mode := uint32(0o100644)
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		mode = 0o120000
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return false
	case st.Mode&0o100 != 0:
		mode = 0o100755
	}
	if num(6) != mode || num(2) != uint32(st.Mtim.Sec) || num(3) != uint32(st.Mtim.Nsec) ||
		num(0) != uint32(st.Ctim.Sec) || num(1) != uint32(st.Ctim.Nsec) ||
		num(5) != uint32(st.Ino) || num(7) != st.Uid || num(8) != st.Gid || num(9) != uint32(st.Size) {
		return false
	}
	if st.Size == 0 && !m.emptyBlob(e[indexStat:indexStat+m.index.idBytes]) {
		return false // git writes a size of 0 where it is in doubt
	}
	return st.Mtim.Sec < m.written
}

// The ids of the blob without content.
var emptyBlobs = []string{"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813"}

func (m *monitor) emptyBlob(id []byte) bool {
	text := hex.EncodeToString(id)
	return text == emptyBlobs[0] || text == emptyBlobs[1]
}

// compare doubts every entry that has nothing in the upper layer and is not in
// the base's index. Most of both are alike, byte for byte but for times.
func (m *monitor) compare() error {
	x, b := m.index, m.base
	if x.idBytes != b.idBytes {
		return errDoubt
	}
	j := 0
	for i := range x.at {
		mine := x.entry(i)
		if stage := mine[indexStat+x.idBytes] >> 4 & 3; stage != 0 {
			return errDoubt // a merge is going on
		}
		if m.upper[i] || m.doubted[i] {
			continue
		}
		path := x.path(i)
		// The base's entry of the same name, if there is one, lies close ahead.
		for j < len(b.at) && bytes.Compare(b.path(j), path) < 0 {
			j++
		}
		if j == len(b.at) || !bytes.Equal(b.path(j), path) {
			m.doubted[i] = true
			continue
		}
		theirs := b.entry(j)
		m.doubted[i] = string(mine[24:28]) != string(theirs[24:28]) || string(mine[indexStat:indexStat+x.idBytes]) != string(theirs[indexStat:indexStat+x.idBytes]) || x.added(mine)
	}
	return nil
}

// entry is all of an entry and what follows.
func (x *indexFile) entry(i int) []byte { return x.data[x.at[i]:x.end] }

// added tells whether git add -N was all that happened to a file.
func (x *indexFile) added(entry []byte) bool {
	flags := indexStat + x.idBytes
	return entry[flags]&0x40 != 0 && binary.BigEndian.Uint16(entry[flags+2:])&0x2000 != 0
}

// readMonitored maps an index into memory and tells when it was written.
func readMonitored(file, format string) (*indexFile, int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !fi.Mode().IsRegular() || fi.Size() == 0 || fi.Size() > maxIndex {
		return nil, 0, errAgentIndex
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, 0, err
	}
	x, err := parseIndex(data, format)
	if err == nil && x.lines != nil {
		err = errAgentIndex // version 4, whose entries are not kept
	}
	return x, fi.ModTime().Unix(), err
}
