package worktree

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// CarrySpec says which ignored files of the user's checkout a task gets.
type CarrySpec struct {
	// Patterns are lines as in gitignore(5), one each, from the configuration.
	// A file is carried when a pattern matches it, or a folder that it is in,
	// and git ignores it. A later pattern that begins with "!" takes back.
	Patterns []string
	// Include reads more patterns from IncludeName in the checkout; those of
	// the configuration come after them. Whoever commits can write that file.
	Include bool
	// Tree is a commit of the repository, or "". What it tracks is not carried;
	// nor is what the checkout's index tracks.
	Tree string
}

// IncludeName is the file of patterns in the top folder of a checkout, a
// convention of other tools for worktrees.
const IncludeName = ".worktreeinclude"

// Carried is what of the user's checkout goes along with a task: its names and
// what stat(2) said of them. The contents are read by write and CopyInto, so
// the snapshot is as old as those.
//
// Left out everywhere: what is tracked; .git, so a repository inside is carried
// without its history and its configuration; pipes, sockets and devices;
// extended attributes; the set-user-ID and set-group-ID bits.
type Carried struct {
	Paths []string // sorted, relative to the checkout's top; a folder with all that is below it
	Notes []string // what could not be carried, for the user
	Files int      // how many files and symbolic links
	Bytes int64    // their sizes' sum

	top  string // the checkout
	tree *carriedDir
	racy int64 // when a file was found so young that it may change without a trace; else 0
}

// carriedDir is a folder: one that is carried, or one that leads to such.
type carriedDir struct {
	path  string // "" for the top
	name  string
	mode  uint32 // permission bits
	mtime unix.Timespec
	files []carriedFile // sorted by name
	dirs  []*carriedDir // likewise
}

// carriedFile is a regular file or a symbolic link.
type carriedFile struct {
	name     string
	mode     uint32 // as in stat(2)
	uid, gid uint32
	size     int64
	ino      uint64
	mtime    unix.Timespec
}

// FindCarried finds what to carry. It is nil when there is nothing to carry and
// nothing to say, as in a bare repository. A pattern that matches nothing is no
// error; one that can never match is.
func (r *Repo) FindCarried(ctx context.Context, spec CarrySpec) (*Carried, error) {
	if r.Bare {
		return nil, nil
	}
	f := &carryFinder{r: r, ctx: ctx}
	var err error
	if f.root, err = unix.Open(r.Top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("cannot carry files along: %s: %w", quotePath(r.Top), err)
	}
	defer unix.Close(f.root)
	lines, err := f.patterns(spec)
	if err != nil {
		return nil, err
	}
	var roots []string
	if len(lines) > 0 {
		if roots, err = f.roots(lines); err != nil {
			return nil, fmt.Errorf("cannot find the files to carry along: %w", err)
		}
	}
	c := &Carried{top: r.Top}
	if roots = f.fit(roots); len(roots) > 0 {
		if err := f.collect(c, spec.Tree, roots); err != nil {
			return nil, fmt.Errorf("cannot list the files to carry along: %w", err)
		}
	}
	if c.Notes = f.allNotes(); len(c.Paths) == 0 && len(c.Notes) == 0 {
		return nil, nil
	}
	return c, nil
}

// carryFinder is one search.
type carryFinder struct {
	r    *Repo
	ctx  context.Context
	root int // the checkout

	mu    sync.Mutex
	notes []string
}

func (f *carryFinder) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}

// allNotes are the notes in an order that does not depend on which core was
// first, and not more than a person reads.
func (f *carryFinder) allNotes() []string {
	const most = 20
	slices.Sort(f.notes)
	f.notes = slices.Compact(f.notes)
	if n := len(f.notes); n > most {
		f.notes = append(f.notes[:most:most], fmt.Sprintf("and %d more files are not carried along", n-most))
	}
	return f.notes
}

// carryFormat is counted up when a layer made from the same files would differ.
const carryFormat = "rcc carry 1\n"

// Key names the layer: two that are equal were made from files with the same
// names, sizes, times of change, inodes and modes, so that a layer made earlier
// still fits. It is 64 hexadecimal digits.
//
// A file that was written just before it was looked at can be written again
// without getting another time, as in Documentation/technical/racy-git.txt of
// git. Such a key is never met again.
func (c *Carried) Key() string {
	h := sha256.New()
	h.Write([]byte(carryFormat))
	buf := make([]byte, 0, 64<<10)
	buf = binary.BigEndian.AppendUint64(buf, uint64(c.racy))
	var walk func(d *carriedDir)
	walk = func(d *carriedDir) {
		if len(buf) > 32<<10 {
			h.Write(buf)
			buf = buf[:0]
		}
		buf = append(append(buf, d.name...), 0)
		buf = binary.BigEndian.AppendUint32(buf, d.mode)
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(d.files)))
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(d.dirs)))
		for i := range d.files {
			buf = d.files[i].appendKey(buf)
		}
		for _, sub := range d.dirs {
			walk(sub)
		}
	}
	if c.tree != nil {
		walk(c.tree)
	}
	h.Write(buf)
	return hex.EncodeToString(h.Sum(nil))
}

func (e *carriedFile) appendKey(buf []byte) []byte {
	buf = append(append(buf, e.name...), 0)
	buf = binary.BigEndian.AppendUint32(buf, e.mode)
	buf = binary.BigEndian.AppendUint32(buf, e.uid)
	buf = binary.BigEndian.AppendUint32(buf, e.gid)
	sec, nsec := e.mtime.Unix()
	for _, n := range [4]uint64{uint64(e.size), e.ino, uint64(sec), uint64(nsec)} {
		buf = binary.BigEndian.AppendUint64(buf, n)
	}
	return buf
}
