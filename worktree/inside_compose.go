package worktree

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
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
		list := index.below(p)
		if len(list) == 0 || list[0].path != p {
			return fmt.Errorf("cannot record %s: git left it out", quotePath(p))
		}
		edits.at(p).set = &entry{mode: treeMode(list[0].mode), id: hex.EncodeToString(list[0].id)}
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

// edit is a change of a tree: of one path, and of what is below it.
type edit struct {
	gone  bool   // what was there is not
	set   *entry // the file or link that is there
	below map[string]*edit
}

func (e *edit) at(p string) *edit {
	for name := range strings.SplitSeq(p, "/") {
		if e.below[name] == nil {
			if e.below == nil {
				e.below = map[string]*edit{}
			}
			e.below[name] = &edit{}
		}
		e = e.below[name]
	}
	return e
}

// writeTree applies an edit to a tree and returns the new tree's id. Only
// folders that the edit names are read and written.
func (h *harvester) writeTree(look *inspector, tree string, e *edit) (string, error) {
	id, _, err := h.writeFolder(look, tree, e)
	return id, err
}

func (h *harvester) writeFolder(look *inspector, tree string, e *edit) (id string, empty bool, err error) {
	var entries []entry
	if tree != "" {
		if entries, err = look.tree(tree); err != nil {
			return "", false, err
		}
	}
	kept := make([]entry, 0, len(entries)+len(e.below))
	for _, old := range entries {
		if e.below[old.name] == nil {
			old.mode = plainMode(old.mode)
			kept = append(kept, old)
		}
	}
	byName := map[string]entry{}
	for _, old := range entries {
		byName[old.name] = old
	}
	for name, change := range e.below {
		now, ok, err := h.change(look, byName[name], change)
		if err != nil {
			return "", false, err
		}
		if ok {
			now.name = name
			kept = append(kept, now)
		}
	}
	slices.SortFunc(kept, func(a, b entry) int { return strings.Compare(sortKey(a), sortKey(b)) })
	if tree != "" && slices.Equal(kept, entries) {
		return tree, false, nil
	}
	var b bytes.Buffer
	for _, k := range kept {
		raw, err := hex.DecodeString(k.id)
		if err != nil {
			return "", false, err
		}
		b.WriteString(string(k.mode) + " " + k.name + "\x00")
		b.Write(raw)
	}
	id, err = h.writeObject("tree", b.Bytes())
	return id, len(kept) == 0, err
}

// change is what becomes of one entry, and whether there is one.
func (h *harvester) change(look *inspector, old entry, e *edit) (entry, bool, error) {
	if e.set != nil {
		return *e.set, true, nil
	}
	if len(e.below) == 0 {
		return old, !e.gone && old.mode != "", nil
	}
	tree := ""
	if old.mode == modeTree && !e.gone {
		tree = old.id
	}
	id, empty, err := h.writeFolder(look, tree, e)
	if empty && old.mode != "" && old.mode != modeTree && !e.gone {
		return old, true, err // only something below a file was to go
	}
	return entry{mode: modeTree, id: id}, !empty, err
}

// plainMode is a mode as an index keeps it.
func plainMode(m mode) mode {
	if m == modeGroup {
		return modeFile
	}
	return m
}

// writeObject writes a loose object into H (gitformat-loose, git-hash-object(1)).
func (h *harvester) writeObject(kind string, data []byte) (string, error) {
	head := kind + " " + strconv.Itoa(len(data)) + "\x00"
	sum := newHash(h.p.Format)
	sum.Write([]byte(head))
	sum.Write(data)
	id := hex.EncodeToString(sum.Sum(nil))
	var b bytes.Buffer
	z, err := zlib.NewWriterLevel(&b, zlib.BestSpeed)
	if err != nil {
		return "", err
	}
	_, err = z.Write(append([]byte(head), data...))
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	file := filepath.Join(h.p.Home, "objects", id[:2], id[2:])
	if merr := os.Mkdir(filepath.Dir(file), 0o755); merr != nil && !errors.Is(merr, fs.ErrExist) {
		err = merr
	}
	if _, there := os.Lstat(file); there == nil {
		return id, nil
	}
	if err == nil {
		err = os.WriteFile(file, b.Bytes(), 0o444)
	}
	if err != nil {
		return "", fmt.Errorf("cannot write to the harvest's folder: %w", err)
	}
	return id, nil
}
