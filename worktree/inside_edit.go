package worktree

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

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
	if h.deflate == nil { // one for all: it has a megabyte of its own
		h.deflate, _ = zlib.NewWriterLevel(nil, zlib.BestSpeed) // the level is right
	}
	h.deflate.Reset(&b)
	_, err := h.deflate.Write(append([]byte(head), data...))
	if cerr := h.deflate.Close(); err == nil {
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
