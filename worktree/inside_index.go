package worktree

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"sort"
)

// indexFile is what is wanted of a git index (gitformat-index(5)), read as
// data. The agent's may have 78,000 entries of which none matters, so entries
// are read where they lie, when they are asked for.
type indexFile struct {
	data    []byte
	idBytes int
	at      []uint32    // where each entry begins, in order of their paths
	lines   []indexLine // instead of at: entries whose paths are not whole in data
	end     int         // where the last entry ends
	skips   bool        // some entry is left out by a sparse checkout
}

type indexLine struct {
	path string
	mode uint32
	id   []byte
	skip bool // skip-worktree: a sparse checkout leaves it out of the tree
}

func (x *indexFile) len() int { return len(x.at) + len(x.lines) }

// path returns the path of an entry, for a moment.
func (x *indexFile) path(i int) []byte {
	if x.lines != nil {
		return []byte(x.lines[i].path)
	}
	at := x.at[i] + uint32(40+x.idBytes)
	at += 2 * uint32(1+x.data[at]>>6&1) // the extended flag, 0x4000
	return x.data[at : int(at)+bytes.IndexByte(x.data[at:], 0)]
}

func (x *indexFile) line(i int) indexLine {
	if x.lines != nil {
		return x.lines[i]
	}
	at := x.at[i]
	flags := at + uint32(40+x.idBytes)
	l := indexLine{path: string(x.path(i)), mode: binary.BigEndian.Uint32(x.data[at+24:]), id: x.data[at+40 : flags]}
	l.skip = x.data[flags]>>6&1 == 1 && binary.BigEndian.Uint16(x.data[flags+2:])&flagSkipWorktree != 0
	return l
}

// maxIndex bounds an index in bytes: some five million entries.
const maxIndex = 512 << 20

// flagSkipWorktree is one of the extended flags.
const flagSkipWorktree = 0x4000

var errAgentIndex = errors.New("cannot read an index")

// parseIndex reads an index of version 2, 3 or 4. One that is split or has
// folders as entries is an error: git can read it.
func parseIndex(data []byte, format string) (*indexFile, error) {
	idBytes := idLen(format) / 2
	if len(data) < 12+idBytes || len(data) > maxIndex || string(data[:4]) != "DIRC" {
		return nil, errAgentIndex
	}
	version, n := binary.BigEndian.Uint32(data[4:]), int(binary.BigEndian.Uint32(data[8:]))
	if version < 2 || version > 4 || n > len(data)/(40+idBytes+2) {
		return nil, errAgentIndex
	}
	x := &indexFile{data: data[:len(data)-idBytes], idBytes: idBytes} // a checksum ends it
	end, err := x.scan(n, version)
	if err != nil {
		return nil, err
	}
	x.end = end
	return x, x.extensions()
}

// scan finds the entries and returns where they end.
func (x *indexFile) scan(n int, version uint32) (int, error) {
	data, at, fixed := x.data, 12, 40+x.idBytes+2
	var last []byte
	for range n {
		start := at
		if len(data)-at < fixed+3 && (len(data)-at < fixed+2 || data[at+fixed-2]&0x40 != 0) {
			return 0, errAgentIndex
		}
		mode, skip := binary.BigEndian.Uint32(data[at+24:]), false
		at += fixed
		if data[at-2]&0x40 != 0 {
			skip = binary.BigEndian.Uint16(data[at:])&flagSkipWorktree != 0
			at += 2
		}
		keep := 0
		if version == 4 {
			strip, used := offsetVarint(data[at:])
			if used == 0 || strip > len(last) {
				return 0, errAgentIndex
			}
			at += used
			keep = len(last) - strip
		}
		nul := bytes.IndexByte(data[at:], 0)
		if nul < 0 {
			return 0, errAgentIndex
		}
		p := data[at : at+nul]
		at += nul + 1
		if version == 4 {
			p = append(last[:keep:keep], p...)
			x.lines = append(x.lines, indexLine{path: string(p), mode: mode, id: data[start+40 : start+40+x.idBytes], skip: skip})
		} else {
			x.at = append(x.at, uint32(start))
			at = start + (at-start+7)/8*8 // padded to eight bytes, with one NUL at least
		}
		// A path may stand several times, for the sides of a conflict.
		if len(p) == 0 || bytes.Compare(p, last) < 0 || mode>>12 == 0o4 {
			return 0, errAgentIndex
		}
		x.skips = x.skips || skip
		last = p
	}
	return at, nil
}

// extensions refuses those without which the entries are not the whole.
func (x *indexFile) extensions() error {
	partial := false
	err := x.eachExtension(func(kind string, _ []byte) { partial = partial || kind == "link" || kind == "sdir" })
	if err == nil && partial {
		err = errAgentIndex
	}
	return err
}

// eachExtension calls do with every extension.
func (x *indexFile) eachExtension(do func(kind string, body []byte)) error {
	if x.end > len(x.data) { // the padding of the last entry is cut off
		return errAgentIndex
	}
	for rest := x.data[x.end:]; len(rest) > 0; {
		if len(rest) < 8 {
			return errAgentIndex
		}
		size := int64(binary.BigEndian.Uint32(rest[4:]))
		if int64(len(rest)-8) < size {
			return errAgentIndex
		}
		do(string(rest[:4]), rest[8:8+size])
		rest = rest[8+size:]
	}
	return nil
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

// below calls each with the entries whose paths begin with prefix, until it
// says false.
func (x *indexFile) below(prefix string, each func(indexLine) bool) {
	if x == nil {
		return
	}
	want := []byte(prefix)
	from := sort.Search(x.len(), func(i int) bool { return bytes.Compare(x.path(i), want) >= 0 })
	for i := from; i < x.len() && bytes.HasPrefix(x.path(i), want); i++ {
		if !each(x.line(i)) {
			return
		}
	}
}

// find returns the entry of a path.
func (x *indexFile) find(p string) (found indexLine, ok bool) {
	x.below(p, func(l indexLine) bool {
		found, ok = l, l.path == p
		return false
	})
	return found, ok
}

// has says whether a file of this path was added: an entry that a sparse
// checkout leaves out does not count.
func (x *indexFile) has(p string) bool {
	l, ok := x.find(p)
	return ok && !l.skip
}

// holds says whether a file below a folder was added; the prefix ends with a
// slash.
func (x *indexFile) holds(prefix string) (holds bool) {
	x.below(prefix, func(l indexLine) bool {
		holds = !l.skip
		return l.skip
	})
	return holds
}

// anySparse says whether a sparse checkout leaves anything out.
func (x *indexFile) anySparse() bool { return x != nil && x.skips }

// sparse says whether a sparse checkout leaves this path out of the tree.
func (x *indexFile) sparse(p string) bool {
	if !x.anySparse() {
		return false
	}
	l, ok := x.find(p)
	return ok && l.skip
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
