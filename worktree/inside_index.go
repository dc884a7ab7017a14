package worktree

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// indexFile is what is wanted of a git index (gitformat-index(5)), read as
// data. The agent's may have 78,000 entries of which none matters.
type indexFile struct {
	entries []indexLine // in order of their paths
}

type indexLine struct {
	path string
	mode uint32
	id   []byte
	skip bool // skip-worktree: a sparse checkout leaves it out of the tree
}

// maxIndex bounds an index in bytes: some five million entries.
const maxIndex = 512 << 20

const (
	flagExtended     = 0x4000
	flagSkipWorktree = 0x4000 // of the extended flags
)

// parseIndex reads an index of version 2, 3 or 4. One that is split or has
// folders as entries is an error: git can read it.
func parseIndex(data []byte, format string) (*indexFile, error) {
	bad := fmt.Errorf("cannot read an index")
	idBytes := idLen(format) / 2
	if len(data) < 12+idBytes || string(data[:4]) != "DIRC" {
		return nil, bad
	}
	version, n := binary.BigEndian.Uint32(data[4:]), int(binary.BigEndian.Uint32(data[8:]))
	fixed := 40 + idBytes + 2
	if version < 2 || version > 4 || n > len(data)/fixed {
		return nil, bad
	}
	data = data[:len(data)-idBytes] // the checksum
	at := 12
	text := string(data) // paths are parts of it
	x := &indexFile{entries: make([]indexLine, 0, n)}
	last := ""
	for range n {
		start := at
		if len(data)-at < fixed+2 {
			return nil, bad
		}
		e := indexLine{mode: binary.BigEndian.Uint32(data[at+24:]), id: data[at+40 : at+40+idBytes]}
		flags := binary.BigEndian.Uint16(data[at+40+idBytes:])
		at += fixed
		if flags&flagExtended != 0 {
			e.skip = binary.BigEndian.Uint16(data[at:])&flagSkipWorktree != 0
			at += 2
		}
		keep := 0
		if version == 4 {
			strip, used := offsetVarint(data[at:])
			if used == 0 || strip > len(last) {
				return nil, bad
			}
			at += used
			keep = len(last) - strip
		}
		nul := bytes.IndexByte(data[at:], 0)
		if nul < 0 {
			return nil, bad
		}
		e.path = text[at : at+nul]
		at += nul + 1
		if version == 4 {
			e.path = last[:keep] + e.path
		} else {
			at = start + (at-start+7)/8*8 // padded to eight bytes, with one NUL at least
		}
		if e.path == "" || e.path < last || e.mode>>12 == 0o4 {
			return nil, bad
		}
		last = e.path
		x.entries = append(x.entries, e)
	}
	for at < len(data) {
		if len(data)-at < 8 {
			return nil, bad
		}
		kind, size := text[at:at+4], int64(binary.BigEndian.Uint32(data[at+4:]))
		if kind == "link" || kind == "sdir" || int64(len(data)-at-8) < size {
			return nil, bad
		}
		at += 8 + int(size)
	}
	return x, nil
}

// offsetVarint is the number form of version 4 (varint.c, decode_varint).
func offsetVarint(data []byte) (value, used int) {
	for used < len(data) && used < 4 {
		b := data[used]
		if used > 0 {
			value++
		}
		value = value<<7 | int(b&0x7f)
		used++
		if b&0x80 == 0 {
			return value, used
		}
	}
	return 0, 0
}

// below are the entries whose paths begin with prefix.
func (x *indexFile) below(prefix string) []indexLine {
	if x == nil {
		return nil
	}
	from := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].path >= prefix })
	to := from + sort.Search(len(x.entries)-from, func(i int) bool { return !strings.HasPrefix(x.entries[from+i].path, prefix) })
	return x.entries[from:to]
}

// has says whether a file of this path was added: an entry that a sparse
// checkout leaves out does not count.
func (x *indexFile) has(p string) bool {
	list := x.below(p)
	return len(list) > 0 && list[0].path == p && !list[0].skip
}

// holds says whether a file below a folder was added; the prefix ends with a
// slash.
func (x *indexFile) holds(prefix string) bool {
	for _, e := range x.below(prefix) {
		if !e.skip {
			return true
		}
	}
	return false
}

// anySparse says whether a sparse checkout leaves anything out.
func (x *indexFile) anySparse() bool {
	for _, e := range x.below("") {
		if e.skip {
			return true
		}
	}
	return false
}

// sparse says whether a sparse checkout leaves this path out of the tree.
func (x *indexFile) sparse(p string) bool {
	list := x.below(p)
	return len(list) > 0 && list[0].path == p && list[0].skip
}

// writeIndex writes an index of version 2 whose entries have no stat data, so
// that git reads every file that it is asked about.
func writeIndex(file, format string, entries map[string]entry) error {
	paths := make([]string, 0, len(entries))
	for p := range entries {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	var b bytes.Buffer
	b.WriteString("DIRC\x00\x00\x00\x02")
	_ = binary.Write(&b, binary.BigEndian, uint32(len(paths))) // a buffer takes everything
	for _, p := range paths {
		e := entries[p]
		id, err := hex.DecodeString(e.id)
		if err != nil || len(id) != idLen(format)/2 {
			return fmt.Errorf("cannot write an index: the id of %s is not one", quotePath(p))
		}
		start := b.Len()
		b.Write(make([]byte, 24))
		_ = binary.Write(&b, binary.BigEndian, indexMode(e.mode))
		b.Write(make([]byte, 12))
		b.Write(id)
		_ = binary.Write(&b, binary.BigEndian, uint16(min(len(p), 0xfff)))
		b.WriteString(p)
		b.Write(make([]byte, 8-(b.Len()-start)%8))
	}
	sum := newHash(format)
	sum.Write(b.Bytes())
	b.Write(sum.Sum(nil))
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("cannot write to %s: %w", quotePath(filepath.Base(file)), err)
	}
	return nil
}

func newHash(format string) hash.Hash {
	if format == "sha256" {
		return sha256.New()
	}
	return sha1.New() // git's own name for objects, not a seal
}

// indexMode and treeMode turn modes of trees and of the index into each other.
// An index has two modes for files (read-cache.c, create_ce_mode).
func indexMode(m mode) uint32 {
	switch m {
	case modeExec:
		return 0o100755
	case modeLink:
		return 0o120000
	case modeModule:
		return 0o160000
	}
	return 0o100644
}

func treeMode(m uint32) mode {
	switch m {
	case 0o100755:
		return modeExec
	case 0o120000:
		return modeLink
	case 0o160000:
		return modeModule
	}
	return modeFile
}
