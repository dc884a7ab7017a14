package worktree

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// overlayTree returns the tree of what the agent left in an overlay: what `git
// add -A` there would make of it on top of the parent, whose
// tree is root.
func (h *harvester) overlayTree(ctx context.Context, _, root string, a *agent) (string, error) {
	look, err := h.inspector(ctx)
	if err != nil {
		return "", err
	}
	if root != h.p.LowerTree || !h.untouched("index") {
		h.readAgentIndex(ctx, a)
	}
	w, err := h.newOverlayWalk(ctx, a, look)
	if err != nil {
		return "", err
	}
	defer w.close()
	if err := w.walk(root); err != nil {
		return "", err
	}
	if err := w.forcedBelow(root); err != nil {
		return "", err
	}
	edits := &edit{}
	kept, err := w.remove(edits)
	if err != nil {
		return "", err
	}
	if err := w.add(ctx, edits, kept); err != nil {
		return "", err
	}
	return h.writeTree(look, root, edits)
}

// remove puts into edits what is gone. What a sparse checkout left out is not,
// unless there is something else in its place; of that, the attribute files are
// returned, which git reads from the index then.
func (w *overlayWalk) remove(edits *edit) (kept map[string]entry, err error) {
	kept = map[string]entry{}
	sparse := w.index.anySparse()
	for len(w.gone) > 0 {
		g := w.gone[len(w.gone)-1]
		w.gone = w.gone[:len(w.gone)-1]
		switch {
		case !sparse:
			edits.at(g.path).gone = true
		case g.old.mode == modeTree:
			below, err := w.look.tree(g.old.id)
			if err != nil {
				return nil, err
			}
			for _, e := range below {
				w.absent(path.Join(g.path, e.name), e)
			}
		case !w.index.sparse(g.path) || w.exists(g.path):
			edits.at(g.path).gone = true
		case path.Base(g.path) == ".gitattributes":
			kept[g.path] = g.old
		}
	}
	return kept, nil
}

// add puts into edits what is there, as git would record it.
func (w *overlayWalk) add(ctx context.Context, edits *edit, kept map[string]entry) error {
	var paths []string
	for _, c := range w.present {
		if c.lower.mode != "" && !w.shows(c.path) {
			// The layer below is gone; what it had is known.
			edits.at(c.path).set = &entry{mode: treeMode(indexMode(c.lower.mode)), id: c.lower.id}
			continue
		}
		paths = append(paths, c.path)
	}
	paths, err := w.allUsable(paths)
	if err != nil || len(paths) == 0 {
		return err
	}
	for _, c := range w.present {
		if c.old.mode != "" {
			kept[c.path] = c.old
		}
	}
	index, err := w.h.record(ctx, kept, paths)
	if err != nil {
		return err
	}
	for _, p := range paths {
		l, ok := index.find(p)
		if !ok {
			return fmt.Errorf("cannot record %s: git left it out", quotePath(p))
		}
		edits.at(p).set = &entry{mode: treeMode(l.mode), id: hex.EncodeToString(l.id)}
	}
	return nil
}

// shows says whether the merged tree has a file or a link at a path.
func (w *overlayWalk) shows(p string) bool {
	var st unix.Stat_t
	if unix.Fstatat(w.root, p, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	return st.Mode&unix.S_IFMT == unix.S_IFREG || st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// record lets git make blobs of the files at paths, as git add would: with the
// attributes of the tree, and beside what is tracked there (old), which decides
// about line ends (convert.c, has_crlf_in_index).
func (h *harvester) record(ctx context.Context, old map[string]entry, paths []string) (*indexFile, error) {
	file := filepath.Join(h.p.Home, "index")
	if err := h.stageAll(ctx, func() error { return writeIndex(file, h.p.Format, old) }, nil, paths); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the harvest's index: %w", err)
	}
	return parseIndex(data, h.p.Format)
}
