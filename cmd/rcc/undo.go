package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"rcc/worktree"
)

type undoCmd struct{}

func (c *undoCmd) Run(env *surroundings) error {
	ctx := context.Background()
	repo, s, lock, err := lockRepository(ctx, env)
	if err != nil {
		return err
	}
	defer lock.Close()
	var act action
	err = readJSON(s.path(undoFile), &act)
	if errors.Is(err, fs.ErrNotExist) {
		return nothing("there is no merge or discard to take back")
	}
	if err != nil {
		return err
	}
	if act.Kind == "merge" {
		// Recorded like a merge: it moves the checkout as one does.
		act.Kind, act.Intent = "undo", act.Intent.Reversed()
		if err := writeJSON(s.path(mergingFile), &act, true); err != nil {
			return err
		}
		if err := repo.ApplyMerge(ctx, act.Intent); err != nil {
			return errors.Join(err, recoverMerge(ctx, env, repo, s))
		}
		crashPoint("undo-applied")
	}
	return undone(ctx, env, repo, s, &act)
}

// undone brings back the tasks of an action whose checkout is as before.
func undone(ctx context.Context, env *surroundings, repo *worktree.Repo, s store, act *action) error {
	for id, state := range act.Before {
		t := s.task(id)
		if err := bringBack(ctx, repo, t, state); err != nil {
			return err
		}
		rec, err := t.load()
		if err != nil {
			return err
		}
		env.say("%s is back: %s%s", id, rec.State, because(rec))
	}
	return errors.Join(removeFile(s.path(undoFile)), removeFile(s.path(mergingFile)))
}

// bringBack gives a task the state that it had, and its branch.
func bringBack(ctx context.Context, repo *worktree.Repo, t task, state string) error {
	rec, err := t.load()
	if err != nil {
		return fmt.Errorf("cannot bring back %s: its folder is gone", t.id())
	}
	if rec.Tip != "" && rec.Tree != nil {
		if err := rec.Tree.RestoreBranch(ctx, repo, rec.Tip); err != nil {
			return err
		}
	}
	rec.State, rec.MergedTo = state, ""
	return t.save(rec)
}
