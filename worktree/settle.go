package worktree

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
)

// settle brings the files of a checkout to in.Old, which its index holds, from
// any state that a merge to in.New can leave, path by path. The index is not
// written. Files that somebody else changed are left alone and returned.
func (r *Repo) settle(ctx context.Context, in *MergeIntent) (kept []string, err error) {
	list, err := r.changes(ctx, in.Old, in.New)
	if err != nil {
		return nil, err
	}
	u := &undoer{r: r, ctx: ctx, below: map[string]bool{}}
	if u.entries, err = r.indexEntries(ctx, in); err != nil {
		return nil, err
	}
	if u.root, err = os.OpenRoot(in.Worktree); err != nil {
		return nil, fmt.Errorf("cannot open the checkout: %w", err)
	}
	defer u.root.Close()
	if u.call, err = r.onCheckout(ctx, in); err != nil {
		return nil, err
	}
	// The index itself, not the copy that a merge works on.
	u.call.env = append(u.call.env, "GIT_INDEX_FILE="+filepath.Join(in.GitDir, "index"))
	err = u.undo(list)
	return u.kept, err
}

// undoer restores files of a checkout.
type undoer struct {
	r       *Repo
	ctx     context.Context
	call    call
	root    *os.Root // no path leaves the checkout, through links or otherwise
	entries map[string]indexEntry
	below   map[string]bool // folders that the old commit has changed files in
	kept    []string        // changed by somebody else since
}

func (u *undoer) undo(list []change) error {
	var restore []string
	// What the merge added goes first, the deepest first: it may stand where a
	// folder or a file was.
	sort.Slice(list, func(i, j int) bool { return list[i].path > list[j].path })
	for _, c := range list {
		for d := path.Dir(c.path); !c.added() && d != "." && !u.below[d]; d = path.Dir(d) {
			u.below[d] = true
		}
	}
	for _, c := range list {
		if !c.added() {
			continue
		}
		if err := u.remove(c); err != nil {
			return err
		}
	}
	for _, c := range list {
		if c.added() || c.oldMode == string(modeModule) || u.entries[c.path].absent {
			continue
		}
		have, err := u.state(c)
		switch {
		case err != nil:
			return err
		case have == stateForeign:
			u.kept = append(u.kept, c.path)
		case have != stateOld: // a change of the mode alone counts as new
			restore = append(restore, c.path)
		}
	}
	if len(restore) == 0 {
		return nil
	}
	c := u.call
	c.in = bytes.NewReader(joinNul(restore))
	if _, err := u.r.git.run(u.ctx, c, "checkout-index", "-f", "-z", "--stdin"); err != nil {
		return fmt.Errorf("cannot restore files: %w", err)
	}
	return nil
}

// remove takes away a file that the merge added, and folders that are empty
// then.
func (u *undoer) remove(c change) error {
	have, err := u.state(c)
	if err != nil {
		return err
	}
	if have == stateForeign {
		u.kept = append(u.kept, c.path)
		return nil
	}
	if have != stateMissing {
		if err := u.root.Remove(c.path); err != nil {
			return fmt.Errorf("cannot remove a file of the merge: %w", err)
		}
	}
	for d := path.Dir(c.path); d != "."; d = path.Dir(d) {
		if fi, err := u.root.Lstat(d); err != nil || !fi.IsDir() || u.root.Remove(d) != nil {
			break // not empty, or not there
		}
	}
	return nil
}

type fileState int

const (
	stateMissing fileState = iota
	stateOurs              // the new content, or a beginning of either that was being written
	stateOld               // the old content
	stateForeign
)

// state compares what stands at a path with what the merge found and writes.
func (u *undoer) state(c change) (fileState, error) {
	fi, err := u.root.Lstat(c.path)
	if err != nil {
		// Not there, or below something that is not a folder.
		return stateMissing, nil
	}
	switch {
	case fi.IsDir():
		if c.added() && u.below[c.path] {
			return stateMissing, nil // the old folder still stands where the file was to come
		}
		if entries, err := readDirIn(u.root, c.path); err == nil && len(entries) == 0 {
			return stateOurs, u.root.Remove(c.path) // the folder that the merge's own files stood in
		}
		if c.newMode == string(modeModule) || c.oldMode == string(modeModule) {
			return stateOld, nil
		}
		return stateForeign, nil
	case fi.Mode().Type() == os.ModeSymlink:
		link, err := u.root.Readlink(c.path)
		if err != nil {
			return stateForeign, nil
		}
		return u.compare(c, []byte(link), string(modeLink))
	case fi.Mode().IsRegular():
		f, err := u.root.Open(c.path)
		if err != nil {
			return stateForeign, nil
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		if err != nil {
			return stateForeign, fmt.Errorf("cannot read %s: %w", quotePath(c.path), err)
		}
		return u.compare(c, data, "")
	}
	return stateForeign, nil
}

func readDirIn(root *os.Root, name string) ([]os.DirEntry, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

func (u *undoer) compare(c change, data []byte, kind string) (fileState, error) {
	fits := func(mode string) bool { return (mode == string(modeLink)) == (kind == string(modeLink)) }
	if !c.deleted() && fits(c.newMode) && c.newMode != string(modeModule) {
		want, err := u.content(c.newID, c.path, kind)
		if err != nil {
			return stateForeign, err
		}
		if bytes.HasPrefix(want, data) {
			return stateOurs, nil
		}
	}
	if !c.added() && fits(c.oldMode) && c.oldMode != string(modeModule) {
		want, err := u.content(c.oldID, c.path, kind)
		if err != nil {
			return stateForeign, err
		}
		if bytes.Equal(want, data) {
			return stateOld, nil
		}
		// A recovery that was killed itself: the file had exactly the old
		// content before the merge, or that would have been refused.
		if bytes.HasPrefix(want, data) {
			return stateOurs, nil
		}
	}
	return stateForeign, nil
}

// content is a blob as it is checked out at a path: with line endings and
// filters applied (git-cat-file(1), --filters).
func (u *undoer) content(id, path, kind string) ([]byte, error) {
	if kind == string(modeLink) {
		return u.r.run(u.ctx, "cat-file", "blob", id)
	}
	out, err := u.r.git.run(u.ctx, u.call, "cat-file", "--filters", "--path="+path, id)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s as it was: %w", quotePath(path), err)
	}
	return out, nil
}
