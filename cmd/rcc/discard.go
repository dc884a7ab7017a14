package main

import (
	"context"
	"fmt"
	"time"

	"rcc/worktree"
)

type discardCmd struct {
	IDs []string `arg:"" name:"id" help:"Tasks, or the beginnings of their names."`
}

func (c *discardCmd) Run(env *surroundings) error {
	ctx := context.Background()
	repo, s, lock, err := lockRepository(ctx, env)
	if err != nil {
		return err
	}
	defer lock.Close()
	// All are looked at before one is touched.
	var recs []*Record
	act := &action{Kind: "discard", When: time.Now().UTC(), Before: map[string]string{}}
	for _, id := range c.IDs {
		t, rec, err := s.find(id)
		if err != nil {
			return err
		}
		if rec.State == stateDiscarded {
			return nothing("%s is discarded already", rec.ID)
		}
		if rec.State == stateRunning {
			return fmt.Errorf("cannot discard %s while it runs; rcc stop %s first", rec.ID, rec.ID)
		}
		if act.Before[rec.ID] != "" {
			continue // named twice
		}
		busy, err := t.tryLock()
		if err != nil {
			return taskError(rec, err)
		}
		defer busy.Close()
		// As it was written: an interrupted one must be that again after undo.
		var written Record
		if readJSON(t.path("record.json"), &written) == nil {
			rec = &written
		}
		recs = append(recs, rec)
		act.Before[rec.ID] = rec.State
	}
	// What can be refused comes before anything is written: until then the
	// last merge or discard can still be taken back.
	for _, rec := range recs {
		if err := closeOpened(ctx, env, repo, rec); err != nil {
			return err
		}
	}
	if err := writeJSON(s.path(undoFile), act, true); err != nil {
		return err
	}
	for _, rec := range recs {
		if err := discard(ctx, repo, s.task(rec.ID), rec); err != nil {
			return err
		}
		env.say("discarded %s; rcc undo takes it back", rec.ID)
	}
	return nil
}

func discard(ctx context.Context, repo *worktree.Repo, t task, rec *Record) error {
	merged := rec.State == stateMerged
	rec.State = stateDiscarded // its phase stays, for an interrupted one that comes back
	if err := t.save(rec); err != nil {
		return err
	}
	crashPoint("discard-record")
	if rec.Tip == "" || merged {
		return nil
	}
	return repo.DropBranch(ctx, rec.ID, rec.Tip)
}

// closeOpened removes the worktree that rcc open made, unless somebody worked
// in it.
func closeOpened(ctx context.Context, env *surroundings, repo *worktree.Repo, rec *Record) error {
	path, err := repo.FindWorktree(ctx, rec.Branch)
	if err != nil || path == "" {
		return err
	}
	if err := repo.CloseWorktree(ctx, rec.ID, rec.Base, path); err != nil {
		return err
	}
	return forgetOpened(ctx, env, repo, rec, path)
}
