package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// changes lists, against H's index, the files that are gone and those that are
// new or different. The walk comes first: it sees to pipes that would block git.
func (h *harvester) changes(ctx context.Context, a *agent) (gone, present []string, err error) {
	h.readAgentIndex(ctx, a)
	w, err := h.newWalk(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	defer w.close()
	if err := w.walk(); err != nil {
		return nil, nil, err
	}
	missing, changed, err := changedTracked(ctx, h.h, h.p.Tree)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range missing {
		if !a.index.sparse(p) || w.exists(p) {
			gone = append(gone, p)
		}
	}
	present, err = w.allUsable(append(changed, w.found...))
	return gone, present, err
}

// allUsable are those paths that git will be able to read, if they are within
// the limits.
func (w *treeWalk) allUsable(paths []string) (present []string, err error) {
	h := w.h
	var bytes int64
	for _, p := range paths {
		size, ok := w.usable(p)
		if !ok {
			continue
		}
		present = append(present, p)
		bytes += size
	}
	if bytes > h.p.Limits.Bytes {
		return nil, refuse("the uncommitted files hold %d MiB, more than %d MiB; commit or remove what is not needed", bytes>>20, h.p.Limits.Bytes>>20)
	}
	if int64(len(present)) > h.p.Limits.Objects {
		return nil, refuse("there are %d uncommitted files, more than %d", len(present), h.p.Limits.Objects)
	}
	return present, nil
}

// walk looks for files that are not in the index, level by level: git is asked
// about all names of a level at once, and folders that are ignored are never
// entered. Nothing changes below our feet (every process of the task is dead
// and the tree is read-only), so a path whose folders were all seen to be
// folders leads through no symbolic link.
type treeWalk struct {
	h       *harvester
	ctx     context.Context
	root    int // descriptor of the tree
	tracked map[string]bool
	forced  map[string]bool
	inside  map[string]bool // folders with tracked or forced files
	links   map[string]bool // gitlinks
	ignores *ignoreAsker
	found   []string
}

// deepest is the number of folders in a path that is still looked at, and
// longest the length of a path in bytes (PATH_MAX without the NUL).
const (
	deepest = 1024
	longest = 4095
)

func (h *harvester) newWalk(ctx context.Context, a *agent) (*treeWalk, error) {
	w := &treeWalk{h: h, ctx: ctx, tracked: map[string]bool{}, forced: map[string]bool{}, inside: map[string]bool{}, links: map[string]bool{}}
	out, err := h.h(ctx, nil, "ls-files", "-z", "--stage")
	if err != nil {
		return nil, err
	}
	for _, entry := range splitNul(out) {
		meta, p, _ := strings.Cut(entry, "\t")
		if strings.HasPrefix(meta, "160000 ") {
			w.links[p] = true
		}
		w.tracked[p] = true
		w.addParents(p)
	}
	a.index.below("", func(e indexLine) bool {
		if !w.tracked[e.path] && !e.skip {
			w.forced[e.path] = true
			w.addParents(e.path)
		}
		return true
	})
	w.root, err = unix.Open(h.p.Tree, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the tree: %w", err)
	}
	w.ignores = &ignoreAsker{h: h, ctx: ctx}
	return w, nil
}

func (w *treeWalk) addParents(p string) {
	for d := path.Dir(p); d != "." && !w.inside[d]; d = path.Dir(d) {
		w.inside[d] = true
	}
}

func (w *treeWalk) close() {
	w.ignores.close()
	unix.Close(w.root)
}

func (w *treeWalk) walk() error {
	level := []string{""}
	for depth := 0; len(level) > 0; depth++ {
		if depth >= deepest {
			w.h.note("folders below %d others are left out: %s", deepest, quotePath(level[0]))
			return nil
		}
		var ask, next []string
		isDir := map[string]bool{}
		for _, dir := range level {
			for _, e := range w.read(dir) {
				p := path.Join(dir, e.Name())
				switch w.sort(dir, p, e) {
				case takeIt:
					w.found = append(w.found, p)
				case enterIt:
					next = append(next, p)
				case askFile:
					ask = append(ask, p)
				case askFolder:
					ask = append(ask, p)
					isDir[p] = true
				}
			}
		}
		ignored, err := w.ignores.ask(ask)
		if err != nil {
			return err
		}
		for i, p := range ask {
			switch {
			case ignored[i]:
			case w.h.carried(p):
				w.h.noteCarried(p)
			case isDir[p]:
				next = append(next, p)
			default:
				w.found = append(w.found, p)
			}
		}
		level = next
	}
	return nil
}

type verdict int

const (
	leaveIt verdict = iota
	takeIt
	enterIt
	askFile
	askFolder
)

// sort decides what to do with one entry of a folder.
func (w *treeWalk) sort(dir, p string, e fs.DirEntry) verdict {
	name, kind := e.Name(), e.Type()
	if !w.nameFits(dir, p, name, kind) {
		return leaveIt
	}
	switch {
	case w.links[p]:
		if kind.IsDir() && len(w.read(p)) > 0 {
			w.h.note("files in the submodule %s are not taken", quotePath(p))
		}
		return leaveIt
	case kind.IsDir() && w.inside[p]:
		return enterIt
	case kind.IsDir():
		return askFolder
	case kind != 0 && kind != fs.ModeSymlink:
		w.special(p, name, kind)
		return leaveIt
	case w.tracked[p]:
		return leaveIt
	case w.forced[p]:
		return takeIt
	}
	return askFile
}

// nameFits says whether a tree may have an entry of this name, and names it if
// not.
func (w *treeWalk) nameFits(dir, p, name string, kind fs.FileMode) bool {
	if why := checkName(name, kind == fs.ModeSymlink); why != "" {
		switch {
		case p == ".git":
		case name == ".git":
			w.h.note("%s is a repository of its own: its files are taken, its history is not", quotePath(dir))
		default:
			w.h.note("left out, it has %s: %s", why, quotePath(p))
		}
		return false
	}
	if len(p) > longest {
		w.h.note("left out, its path is longer than %d bytes: %s", longest, quotePath(p))
		return false
	}
	return true
}

// special reports a file that git cannot record. A pipe in the place of a file
// that git reads by itself would block it: git is given an end of file.
func (w *treeWalk) special(p, name string, kind fs.FileMode) {
	what := "a device"
	switch {
	case kind&fs.ModeNamedPipe != 0:
		what = "a pipe"
		if name == ".gitignore" || name == ".gitattributes" {
			w.h.pipes.serve(filepath.Join(w.h.p.Tree, p))
		}
	case kind&fs.ModeSocket != 0:
		what = "a socket"
	}
	w.h.note("left out, it is %s: %s", what, quotePath(p))
}

// read lists a folder, in order of names. One that cannot be read is named and
// taken for empty: its tracked files then count as unchanged.
func (w *treeWalk) read(dir string) []fs.DirEntry {
	at := dir
	if at == "" {
		at = "."
	}
	fd, err := unix.Openat(w.root, at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		w.h.note("left out, it cannot be read (%v): %s", err, quotePath(dir))
		return nil
	}
	f := os.NewFile(uintptr(fd), filepath.Join(w.h.p.Tree, dir))
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		w.h.note("left out in part, it cannot be read (%v): %s", errors.Unwrap(err), quotePath(dir))
	}
	sortEntries(entries)
	return entries
}

func sortEntries(entries []fs.DirEntry) {
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
}

func (w *treeWalk) exists(p string) bool {
	var st unix.Stat_t
	return unix.Fstatat(w.root, p, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// usable returns a file's size, and whether git will be able to read it.
func (w *treeWalk) usable(p string) (int64, bool) {
	var st unix.Stat_t
	if err := unix.Fstatat(w.root, p, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		w.h.note("left out, it cannot be read (%v): %s", err, quotePath(p))
		return 0, false
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		if err := unix.Faccessat(w.root, p, unix.R_OK, 0); err != nil {
			w.h.note("left out, it cannot be read (%v): %s", err, quotePath(p))
			return 0, false
		}
	}
	return st.Size, true
}
