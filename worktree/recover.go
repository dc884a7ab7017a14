package worktree

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
		return now == in.New, removeLeft(in.GitDir)
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
	if !written {
		return false, r.takeBack(ctx, in)
	}
	// The files are new too, unless the kill came when a merge that could not
	// move the ref was being taken back.
	if _, err := r.settle(ctx, in.Reversed()); err != nil {
		return false, err
	}
	if err := r.moveRef(ctx, in); err != nil {
		return false, err
	}
	return true, unlockIndex(in.GitDir)
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
	written, err := r.indexIsNew(ctx, in)
	if err != nil {
		return err
	}
	if written {
		return r.takeBackIndex(ctx, in)
	}
	kept, err := r.settle(ctx, in)
	if err != nil {
		return err
	}
	if err := unlockIndex(in.GitDir); err != nil {
		return err
	}
	if len(kept) > 0 {
		return fmt.Errorf("cannot undo the merge in files that were changed since: %s", some(kept))
	}
	return nil
}

// takeBackIndex ends a merge that could replace the index but not move the ref:
// the same merge backwards, on files and index.
func (r *Repo) takeBackIndex(ctx context.Context, in *MergeIntent) error {
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
