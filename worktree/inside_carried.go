package worktree

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// carried says whether a path was carried along, or lies in what was.
func (h *harvester) carried(p string) bool {
	for _, c := range h.p.Carried {
		if p == c || strings.HasPrefix(p, c+"/") {
			return true
		}
	}
	return false
}

// noteCarried names what git does not ignore any more: somebody may have made
// it there for the result.
func (h *harvester) noteCarried(p string) {
	h.note("left out, it was carried along or lies in what was: %s", quotePath(p))
}

// parentEntry decides about an entry of P's that neither the upper layer has nor
// the git tree of the layers below: it is gone, unless it was carried along and
// then committed by force.
func (w *overlayWalk) parentEntry(at string, p entry) {
	leads := slices.ContainsFunc(w.h.p.Carried, func(c string) bool {
		return at == c || strings.HasPrefix(at, c+"/") || strings.HasPrefix(c, at+"/")
	})
	switch {
	case !leads:
		w.absent(at, p)
	case w.h.p.CarryGone: // as it was committed: nobody can tell
	case p.mode == modeTree:
		w.next = append(w.next, spot{path: at, parent: p.id})
	case w.plainFile(at):
		w.present = append(w.present, candidate{path: at, old: p})
	default:
		w.absent(at, p)
	}
}

// forcedBelow adds what lies in carried folders, not in the upper layer, and
// was added by force. The index is the agent's: its paths may be anything.
func (w *overlayWalk) forcedBelow(parent string) error {
	taken := map[string]bool{}
	for _, c := range w.present {
		taken[c.path] = true
	}
	var failed error
	for _, carried := range w.h.p.Carried {
		w.index.below(carried, func(e indexLine) bool {
			if e.skip || taken[e.path] || !w.h.carried(e.path) || !w.plainFile(e.path) {
				return true
			}
			tracked, err := w.tracks(parent, e.path)
			if !tracked && err == nil { // a tracked one was not touched, or it would be taken already
				taken[e.path] = true
				w.present = append(w.present, candidate{path: e.path})
			}
			failed = err
			return err == nil
		})
	}
	return failed
}

// tracks says whether a git tree has a path.
func (w *overlayWalk) tracks(tree, p string) (bool, error) {
	for {
		name, rest, more := strings.Cut(p, "/")
		entries, err := w.entries(tree)
		if e := entries[name]; err != nil || e.mode != modeTree || !more {
			return e.mode != "", err
		}
		tree, p = entries[name].id, rest
	}
}

// plainFile says whether a path leads to a file or a link, through folders only.
// All of these can be listed: in another there might be a pipe that git opens,
// and that nobody knows of.
func (w *overlayWalk) plainFile(p string) bool {
	for i, name := range strings.Split(p, "/") {
		if i >= deepest || checkName(name, true) != "" {
			return false
		}
	}
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		fd, err := openWithin(w.root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return false
		}
		unix.Close(fd)
	}
	fd, err := openWithin(w.root, p, unix.O_PATH)
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	fi, err := f.Stat()
	return err == nil && (fi.Mode().IsRegular() || fi.Mode().Type() == fs.ModeSymlink)
}
