package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// UndoMerge takes a merge back: the branch and its checkout are moved to where
// they were. It is refused when the branch has moved on since, or local changes
// are in the way.
func (r *Repo) UndoMerge(ctx context.Context, in *MergeIntent) error {
	return r.ApplyMerge(ctx, in.Reversed())
}

// Reversed is the merge that takes in back. Record it before UndoMerge to be
// able to recover that.
func (in *MergeIntent) Reversed() *MergeIntent {
	back := *in
	back.Old, back.New, back.Reverse = in.New, in.Old, !in.Reverse
	return &back
}

// RecoverMerge brings a merge that was killed to its end or its beginning, and
// says which: done is true when the ref and the checkout are new. With an error
// that names files, those were changed by somebody since and are left alone;
// everything else is as before the merge.
func (r *Repo) RecoverMerge(ctx context.Context, in *MergeIntent) (done bool, err error) {
	ctx = context.WithoutCancel(ctx)
	if in.Worktree == "" {
		r.clearRefLocks(in.Ref, in.New)
		now, err := r.refIn(ctx, in)
		return now == in.New, err
	}
	// git processes of the killed merge hold this lock as long as they live.
	lock, err := lockDir(in.GitDir, time.Minute)
	if err != nil {
		return false, err
	}
	defer lock.unlock()
	there := *r
	there.Path, there.GitDir = in.Worktree, in.GitDir
	there.clearRefLocks(in.Ref, in.New)
	now, err := r.refIn(ctx, in)
	if err != nil {
		return false, err
	}
	if readMergeLock(in.GitDir) != in.ID {
		// It had not begun, or it had ended: the lock comes first and goes last.
		if err := errors.Join(removeLeft(in.GitDir)); err != nil {
			return false, err
		}
		return now == in.New, nil
	}
	if now == in.New {
		return true, unlockIndex(in.GitDir)
	}
	if now != in.Old {
		return false, fmt.Errorf("cannot recover the merge of %s: %s has moved since; look at git status, then remove %s", in.ID, inert(in.Ref), quotePath(filepath.Join(in.GitDir, "index.lock")))
	}
	written, err := r.indexIsNew(ctx, in)
	if err != nil {
		return false, err
	}
	if written {
		if err := r.moveRef(ctx, in); err != nil {
			return false, err
		}
		return true, unlockIndex(in.GitDir)
	}
	return false, r.takeBack(ctx, in)
}

// removeLeft removes what a merge leaves in a git directory without the lock.
func removeLeft(gitDir string) error {
	if _, err := os.Lstat(filepath.Join(gitDir, "index.lock")); err == nil {
		return nil // somebody else's; then the rest is none of ours to judge
	}
	return unlockIndex(gitDir)
}

// indexIsNew says whether the index has been replaced: it is the new one or
// the old one as a whole.
func (r *Repo) indexIsNew(ctx context.Context, in *MergeIntent) (bool, error) {
	list, err := r.changes(ctx, in.Old, in.New)
	if err != nil {
		return false, err
	}
	entries, err := r.indexEntries(ctx, in)
	if err != nil {
		return false, err
	}
	for _, c := range list {
		if e := entries[c.path]; c.deleted() && e.id != "" || !c.deleted() && (e.id != c.newID || e.mode != c.newMode) {
			return false, nil
		}
	}
	return true, nil
}

type indexEntry struct {
	mode, id string
	absent   bool // not in the checkout, by sparse checkout
}

func (r *Repo) indexEntries(ctx context.Context, in *MergeIntent) (map[string]indexEntry, error) {
	out, err := r.git.run(ctx, call{dir: in.Worktree}, "ls-files", "-z", "-t", "--stage")
	if err != nil {
		return nil, fmt.Errorf("cannot read the index: %w", err)
	}
	entries := map[string]indexEntry{}
	for _, line := range splitNul(out) { // "tag mode id stage TAB path"
		meta, path, _ := strings.Cut(line, "\t")
		if f := strings.Fields(meta); len(f) == 4 {
			entries[path] = indexEntry{mode: f[1], id: f[2], absent: f[0] == "S"}
		}
	}
	return entries, nil
}

// takeBack undoes a merge whose index was not replaced yet, path by path. The
// index stays byte for byte as it is.
func (r *Repo) takeBack(ctx context.Context, in *MergeIntent) error {
	if now, err := r.refIn(ctx, in); err != nil || now == in.New {
		return err // it went through after all
	}
	if written, err := r.indexIsNew(ctx, in); err != nil || written {
		return errors.Join(err, r.takeBackIndex(ctx, in, written))
	}
	list, err := r.changes(ctx, in.Old, in.New)
	if err != nil {
		return err
	}
	entries, err := r.indexEntries(ctx, in)
	if err != nil {
		return err
	}
	u := &undoer{r: r, ctx: ctx, in: in, entries: entries, below: map[string]bool{}}
	root, err := os.OpenRoot(in.Worktree)
	if err != nil {
		return fmt.Errorf("cannot open the checkout: %w", err)
	}
	defer root.Close()
	u.root = root
	if u.call, err = r.onCheckout(ctx, in); err != nil {
		return err
	}
	// checkout-index is to see the old index, not the copy.
	u.call.env = append(u.call.env, "GIT_INDEX_FILE="+filepath.Join(in.GitDir, "index"))
	if err := u.undo(list); err != nil {
		return err
	}
	if err := unlockIndex(in.GitDir); err != nil {
		return err
	}
	if len(u.kept) > 0 {
		return fmt.Errorf("cannot undo the merge in files that were changed since: %s", some(u.kept))
	}
	return nil
}

// takeBackIndex ends a merge that could replace the index but not move the ref:
// the same merge backwards, on files and index.
func (r *Repo) takeBackIndex(ctx context.Context, in *MergeIntent, written bool) error {
	if !written {
		return nil
	}
	back := in.Reversed()
	if err := copyIndex(in.GitDir); err != nil {
		return fmt.Errorf("cannot copy the index: %w", err)
	}
	c, err := r.onCheckout(ctx, back)
	if err != nil {
		return err
	}
	if _, err := r.git.run(ctx, c, "read-tree", "-m", "-u", "--no-recurse-submodules", back.Old, back.New); err != nil {
		return fmt.Errorf("cannot take the merge back: %w", err)
	}
	if err := os.Rename(filepath.Join(in.GitDir, ourIndex), filepath.Join(in.GitDir, "index")); err != nil {
		return fmt.Errorf("cannot take the merge back: %w", err)
	}
	return unlockIndex(in.GitDir)
}

// undoer restores files of a checkout.
type undoer struct {
	r       *Repo
	ctx     context.Context
	in      *MergeIntent
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
		ours, err := u.ours(c)
		switch {
		case err != nil:
			return err
		case ours:
			restore = append(restore, c.path)
		default:
			u.kept = append(u.kept, c.path)
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

// ours says whether a file that the merge changed or deleted may be restored.
func (u *undoer) ours(c change) (bool, error) {
	have, err := u.state(c)
	return have != stateForeign, err
}

type fileState int

const (
	stateMissing fileState = iota
	stateOurs              // the new content, or a beginning of it that was being written
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
