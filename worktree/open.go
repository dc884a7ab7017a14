package worktree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// OpenWorktree makes an ordinary linked worktree (git-worktree(1)) of the
// branch rcc/<id> at path, which must not exist. Its files come from objects
// that were checked, never from the folder that the agent wrote in. base is
// what the task started from: when the result changes attributes against it, no
// filter driver is run.
func (r *Repo) OpenWorktree(ctx context.Context, id, base, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("cannot open %s: %q is not an absolute path", id, path)
	}
	tip, err := r.Tip(ctx, id)
	if err != nil {
		return err
	}
	if tip == "" {
		return fmt.Errorf("cannot open %s: there is no branch rcc/%s", id, id)
	}
	where, err := r.FindWorktree(ctx, "rcc/"+id)
	if err != nil {
		return err
	}
	if where != "" {
		return fmt.Errorf("cannot open %s: it is open at %s", id, quotePath(where))
	}
	c, err := r.onResult(ctx, base, tip)
	if err != nil {
		return err
	}
	if err := r.clearHalfOpened(path); err != nil {
		return fmt.Errorf("cannot open %s: %w", id, err)
	}
	if _, err := r.git.run(ctx, c, "worktree", "add", "--quiet", "--", path, "rcc/"+id); err != nil {
		// Nothing was there before, and nobody knows of it yet. git removes what it
		// made, but not when one of its own processes was killed.
		return fmt.Errorf("cannot open %s: %w", id, errors.Join(err, RemoveAll(path)))
	}
	return nil
}

// clearHalfOpened removes what a killed OpenWorktree left at path. While git
// makes a worktree its entry is locked with the reason "initializing"
// (add_worktree in builtin/worktree.c); anything else there is somebody's.
func (r *Repo) clearHalfOpened(path string) error {
	entries := filepath.Join(r.CommonDir, "worktrees")
	names, err := os.ReadDir(entries)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, n := range names {
		entry := filepath.Join(entries, n.Name())
		locked, _ := os.ReadFile(filepath.Join(entry, "locked"))
		gitdir, _ := os.ReadFile(filepath.Join(entry, "gitdir"))
		half := strings.HasPrefix(string(locked), "initializing")
		if half && strings.TrimSpace(string(gitdir)) == filepath.Join(path, ".git") {
			return errors.Join(RemoveAll(path), RemoveAll(entry))
		}
	}
	// An empty folder is from before git wrote anything; Remove takes no other.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is in the way, and git does not know it; move it away", quotePath(path))
	}
	return nil
}

// onResult is a call that reads or writes files by the attributes of a result.
// Attributes that the agent wrote must not choose among the user's filters.
func (r *Repo) onResult(ctx context.Context, base, tip string) (call, error) {
	c := call{dir: r.dir()}
	if tip != "" { // without the branch nobody can tell
		chosen, err := r.changesAttributes(ctx, [][2]string{{base, tip}})
		if err != nil || !chosen {
			return c, err
		}
	}
	var err error
	c.env, err = r.git.noFilters(ctx, r.dir())
	return c, err
}

// CloseWorktree removes a linked worktree of the branch rcc/<id>. It is refused
// when there is anything in it that is not committed, which git finds out by
// running the clean filters of files that it cannot tell by their times.
func (r *Repo) CloseWorktree(ctx context.Context, id, base, path string) error {
	tip, err := r.Tip(ctx, id)
	if err != nil {
		return err
	}
	c, err := r.onResult(ctx, base, tip)
	if err != nil {
		return err
	}
	if _, err := r.git.run(ctx, c, "worktree", "remove", "--", path); err != nil {
		return fmt.Errorf("cannot close %s: %w", quotePath(path), err)
	}
	return nil
}

// DropBranch removes refs/heads/rcc/<id> if it stands at expected. It is
// refused while a checkout stands on it. A branch that is gone already is fine.
func (r *Repo) DropBranch(ctx context.Context, id, expected string) error {
	tip, err := r.Tip(ctx, id)
	if err != nil || tip == "" {
		return err
	}
	if tip != expected {
		return fmt.Errorf("cannot remove the branch rcc/%s: it was moved to %s since; remove it yourself: git branch -D rcc/%s", id, short(tip), id)
	}
	where, err := r.FindWorktree(ctx, "rcc/"+id)
	if err != nil {
		return err
	}
	if where != "" {
		return fmt.Errorf("cannot remove the branch rcc/%s: it is checked out at %s; close that first: git worktree remove %s", id, quotePath(where), quotePath(where))
	}
	drop := func() error {
		_, err := r.run(ctx, "update-ref", "--no-deref", "-d", branchPrefix+id, expected)
		return err
	}
	err = drop()
	if err != nil && (r.clearRefLocks(branchPrefix+id, "") || clearStaleLock(filepath.Join(r.CommonDir, "packed-refs.lock"), "")) {
		err = drop()
	}
	if err != nil {
		return fmt.Errorf("cannot remove the branch rcc/%s: %w", id, err)
	}
	return nil
}

// RestoreBranch brings back a branch that DropBranch removed, from what was
// received in the task's folder.
func (t *Tree) RestoreBranch(ctx context.Context, r *Repo, tip string) error {
	now, err := r.Tip(ctx, t.ID)
	if err != nil {
		return err
	}
	if now != "" && now != tip {
		return errors.New("cannot bring the branch back: another one has its name")
	}
	return t.Accept(ctx, r, tip)
}
