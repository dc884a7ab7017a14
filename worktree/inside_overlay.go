package worktree

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// overlayWalk finds what an overlay tree's files change against a commit P. It
// walks the upper layer, and beside it two git trees: the one that the layers
// below show, and P's. A folder that is not in the upper layer and is the same
// in both is not looked at, so the cost follows what changed. What is there and
// what is not comes from the upper layer and the git tree, never from the
// layers below: files that somebody removed from these are not deletions.
type overlayWalk struct {
	treeWalk // its root is the merged tree
	look     *inspector
	upper    int // descriptor of the upper layer
	index    *indexFile
	next     []spot
	asks     []question

	gone    []goneItem
	present []candidate
}

// spot is a folder of the tree that is to be looked at.
type spot struct {
	path   string
	upper  bool   // it is in the upper layer
	lower  string // id of its git tree in the layers below, "" when there is none or it is hidden
	parent string // id of its git tree in P, "" when there is none
}

// candidate is a file that is in the tree and perhaps not the same in P.
type candidate struct {
	path  string
	old   entry // P's; no mode when P has none
	lower entry // what the layers below have, when the upper layer has nothing
}

// goneItem is a file or a folder of P's that is not in the tree.
type goneItem struct {
	path string
	old  entry
}

// question is an untracked path of which git is to say whether it is ignored:
// a file, or a folder that would be entered.
type question struct {
	file candidate
	dir  *spot
}

func (h *harvester) newOverlayWalk(ctx context.Context, a *agent, look *inspector) (*overlayWalk, error) {
	w := &overlayWalk{treeWalk: treeWalk{h: h, ctx: ctx, ignores: &ignoreAsker{h: h, ctx: ctx}}, look: look, index: a.index}
	var err error
	if w.root, err = unix.Open(h.p.Tree, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("cannot open the tree: %w", err)
	}
	if w.upper, err = unix.Open(h.p.Upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		w.close()
		return nil, fmt.Errorf("cannot open the tree's upper layer: %w", err)
	}
	return w, nil
}

func (w *overlayWalk) close() {
	w.treeWalk.close()
	if w.upper > 0 {
		unix.Close(w.upper)
	}
}

// walk goes level by level, so that git is asked about all names of a level at
// once.
func (w *overlayWalk) walk(parent string) error {
	level := []spot{{upper: true, lower: w.h.p.LowerTree, parent: parent}}
	for depth := 0; len(level) > 0; depth++ {
		if depth >= deepest {
			w.h.note("folders below %d others are left out: %s", deepest, quotePath(level[0].path))
			return nil
		}
		w.next, w.asks = nil, nil
		for _, s := range level {
			if err := w.folder(s); err != nil {
				return err
			}
		}
		paths := make([]string, len(w.asks))
		for i, q := range w.asks {
			paths[i] = q.file.path
		}
		ignored, err := w.ignores.ask(paths)
		if err != nil {
			return err
		}
		for i, q := range w.asks {
			switch {
			case ignored[i]:
			case w.h.carried(q.file.path):
				w.h.noteCarried(q.file.path)
			case q.dir != nil:
				w.next = append(w.next, *q.dir)
			default:
				w.present = append(w.present, q.file)
			}
		}
		level = w.next
	}
	return nil
}

// folder looks at one folder: first at what is in the upper layer, then at what
// differs between the two git trees.
func (w *overlayWalk) folder(s spot) error {
	var upper []fs.DirEntry
	fd := -1
	if s.upper {
		var ok bool
		if fd, upper, ok = w.readUpper(s.path); !ok {
			return nil // named; its tracked files count as unchanged
		}
		defer unix.Close(fd)
		if s.path != "" && isOpaque(fd) {
			s.lower = ""
		}
	}
	if s.lower == s.parent && len(upper) == 0 {
		return nil
	}
	lower, err := w.entries(s.lower)
	if err != nil {
		return err
	}
	parent, err := w.entries(s.parent)
	if err != nil {
		return err
	}
	for _, e := range upper {
		w.upperEntry(s.path, fd, e, lower[e.Name()], parent[e.Name()])
		delete(lower, e.Name())
		delete(parent, e.Name())
	}
	if s.lower == s.parent {
		return nil
	}
	for name, l := range lower {
		if p := parent[name]; p != l {
			w.lowerEntry(path.Join(s.path, name), l, p)
		}
		delete(parent, name)
	}
	for name, p := range parent {
		w.parentEntry(path.Join(s.path, name), p)
	}
	return nil
}

// entries are those of a git tree by name; none for "".
func (w *overlayWalk) entries(tree string) (map[string]entry, error) {
	byName := map[string]entry{}
	if tree == "" {
		return byName, nil
	}
	list, err := w.look.tree(tree)
	for _, e := range list {
		byName[e.name] = e
	}
	return byName, err
}

func (w *overlayWalk) readUpper(dir string) (int, []fs.DirEntry, bool) {
	at := dir
	if at == "" {
		at = "."
	}
	fd, err := openWithin(w.upper, at, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		w.h.note("left out, it cannot be read (%v): %s", err, quotePath(dir))
		return -1, nil, false
	}
	// Reading a folder moves the descriptor's place; the copy is for the rest.
	list, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		unix.Close(fd)
		w.h.note("left out, it cannot be read (%v): %s", err, quotePath(dir))
		return -1, nil, false
	}
	entries, err := listOpen(list, filepath.Join(w.h.p.Upper, dir))
	if err != nil {
		w.h.note("left out in part, it cannot be read (%v): %s", err, quotePath(dir))
	}
	return fd, entries, true
}

// upperEntry decides about one entry of the upper layer. l and p are what the
// layers below and P have in its place. It follows treeWalk.sort.
func (w *overlayWalk) upperEntry(dir string, fd int, e fs.DirEntry, l, p entry) {
	name, kind := e.Name(), e.Type()
	at := path.Join(dir, name)
	if kind&fs.ModeCharDevice != 0 && isWhiteout(fd, name) {
		w.absent(at, p)
		return
	}
	if !w.nameFits(dir, at, name, kind) {
		return
	}
	switch {
	case kind.IsDir() && p.mode == modeModule:
		w.noteModule(at)
	case kind.IsDir():
		s := spot{path: at, upper: true}
		if l.mode == modeTree {
			s.lower = l.id
		}
		w.enter(s, p)
	case kind != 0 && kind != fs.ModeSymlink:
		w.special(at, name, kind)
		w.absent(at, p)
	default:
		w.file(candidate{path: at, old: p})
	}
}

// lowerEntry decides about an entry that the layers below have, the upper layer
// has not, and that is not the same in P.
func (w *overlayWalk) lowerEntry(at string, l, p entry) {
	switch {
	case l.mode == modeModule:
		if p.mode != "" && p.mode != modeModule {
			w.absent(at, p) // there is an empty folder
		}
	case l.mode == modeTree && p.mode == modeModule:
		w.noteModule(at)
	case l.mode == modeTree:
		w.enter(spot{path: at, lower: l.id}, p)
	default:
		w.file(candidate{path: at, old: p, lower: l})
	}
}

// enter looks into a folder that has tracked or forced files, or that git does
// not ignore.
func (w *overlayWalk) enter(s spot, p entry) {
	if p.mode == modeTree {
		s.parent = p.id
	} else {
		w.absent(s.path, p)
	}
	switch {
	case s.parent != "" || w.index.holds(s.path+"/"):
		w.next = append(w.next, s)
	default:
		w.asks = append(w.asks, question{file: candidate{path: s.path}, dir: &s})
	}
}

// file takes a file that is tracked or was added by force, or that git does not
// ignore.
func (w *overlayWalk) file(c candidate) {
	if c.old.mode == modeTree {
		w.absent(c.path, c.old)
		c.old = entry{}
	}
	switch {
	case c.old.mode != "" || w.index.has(c.path):
		w.present = append(w.present, c)
	default:
		w.asks = append(w.asks, question{file: c})
	}
}

// absent notes what P has and the tree has not. A submodule's folder may be
// gone without a meaning.
func (w *overlayWalk) absent(at string, p entry) {
	if p.mode != "" && p.mode != modeModule {
		w.gone = append(w.gone, goneItem{at, p})
	}
}

// noteModule names files in a submodule's folder, whose history is elsewhere.
func (w *overlayWalk) noteModule(at string) {
	if len(w.read(at)) > 0 {
		w.h.note("files in the submodule %s are not taken", quotePath(at))
	}
}
