package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rcc/worktree"
)

type gcCmd struct {
	All bool `help:"Also what rcc undo could still take back."`
}

// Run looks at every repository that has a folder in the state folder. One
// that cannot be cleaned does not keep the others from it.
func (c *gcCmd) Run(env *surroundings) error {
	ctx := context.Background()
	git, err := worktree.NewGit(env.environ)
	if err != nil {
		return err
	}
	stores, err := env.dirs.stores()
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range stores {
		g := &collector{env: env, git: git, store: s, all: c.All}
		if err := g.collect(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, collectCaches(env), collectShells(env, c.All))...)
}

type collector struct {
	env   *surroundings
	git   *worktree.Git
	repo  *worktree.Repo
	store store
	all   bool
}

func (g *collector) collect(ctx context.Context) error {
	lock, err := g.store.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	var rf repositoryFile
	if err := readJSON(g.store.path("repository.json"), &rf); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return g.removeLeftOvers(ctx) // killed before its first task
		}
		return err
	}
	// The checkout may be gone, or another repository's by now.
	if g.repo, err = g.git.Open(ctx, rf.Path); err != nil || g.repo.CommonDir != rf.CommonDir {
		if g.repo, err = g.git.Open(ctx, rf.CommonDir); err != nil {
			return g.gone(rf, err)
		}
	}
	if err := recoverMerge(ctx, g.env, g.repo, g.store); err != nil {
		return err
	}
	if err := g.removeLeftOvers(ctx); err != nil {
		return err
	}
	tasks, err := g.store.tasks()
	if err != nil {
		return err
	}
	keep := g.undoable()
	var errs []error
	for _, rec := range tasks {
		err := g.task(ctx, rec, keep[rec.ID])
		if errors.Is(err, fs.ErrNotExist) {
			if _, gone := os.Lstat(g.store.task(rec.ID).dir); errors.Is(gone, fs.ErrNotExist) {
				continue // a run that has just ended
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", rec.ID, err))
		}
	}
	return errors.Join(errs...)
}

// gone is what to do about a repository that cannot be opened. When its git
// directory is gone, so is all that the tasks could be merged into; but it may
// lie on a disk that is only not mounted, so that the user has to say so.
func (g *collector) gone(rf repositoryFile, err error) error {
	if _, statErr := os.Lstat(rf.CommonDir); !errors.Is(statErr, fs.ErrNotExist) {
		return fmt.Errorf("cannot look after the tasks of %s: %w", Inert(rf.Path), err)
	}
	if !g.all {
		g.env.say("the repository %s is gone; rcc gc --all removes its tasks as well", Inert(rf.Path))
		return nil
	}
	names, err := os.ReadDir(g.store.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n.IsDir() && g.store.task(n.Name()).busy() {
			return fmt.Errorf("cannot remove the tasks of %s: %s runs; rcc stop it first", Inert(rf.Path), n.Name())
		}
	}
	g.env.say("removed the tasks of %s, which is gone", Inert(rf.Path))
	if err := worktree.RemoveAll(g.store.dir); err != nil {
		return err
	}
	return collectCache(g.env, filepath.Base(g.store.dir))
}

// undoable are the tasks of the last merge or discard.
func (g *collector) undoable() map[string]bool {
	keep := map[string]bool{}
	var act action
	if g.all {
		if err := removeFile(g.store.path(undoFile)); err != nil {
			return keep
		}
	}
	if readJSON(g.store.path(undoFile), &act) == nil {
		for id := range act.Before {
			keep[id] = true
		}
	}
	return keep
}

func (g *collector) task(ctx context.Context, rec *Record, keep bool) error {
	t := g.store.task(rec.ID)
	busy, err := t.tryLock()
	if errors.Is(err, errBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer busy.Close()
	// Looked at again: its supervisor may have ended in between.
	if rec, err = t.loadLocked(); err != nil {
		return err
	}
	if rec.State == stateDiscarded && rec.Tip != "" {
		// A discard that was killed before it came to the branch.
		if tip, err := g.repo.Tip(ctx, rec.ID); err != nil {
			return err
		} else if tip == rec.Tip {
			if err := g.repo.DropBranch(ctx, rec.ID, rec.Tip); err != nil {
				return err
			}
		}
	}
	switch {
	case rec.Run:
		g.env.say("removed what an interrupted rcc run left (%s)", rec.ID)
		return removeTask(ctx, g.repo, t, rec)
	case rec.interrupted(), rec.Retry && rec.State == stateFailed:
		return g.resume(ctx, t)
	case keep:
		return nil
	case rec.State == stateMerged, rec.State == stateDiscarded, rec.State == stateEmpty && !rec.LeftOut:
		g.env.say("removed %s (%s)", rec.ID, rec.State)
		return removeTask(ctx, g.repo, t, rec)
	}
	return nil
}

// resume takes over what an interrupted task had done. Before its command
// started there is nothing: its tree was ours alone.
func (g *collector) resume(ctx context.Context, t task) error {
	var rec Record // as written: load has changed the phase
	if err := readJSON(t.path("record.json"), &rec); err != nil {
		return err
	}
	s, err := newSession(g.env, t, &rec)
	if err != nil {
		return err
	}
	s.repo = g.repo
	if rec.Tree != nil {
		if err := rec.Tree.Rest(); err != nil {
			return err
		}
	}
	switch rec.Phase {
	case "command", "harvest", "accept":
		again := rec.Retry
		if err := s.takeOver(ctx); err != nil {
			s.fail(err)
		} else if rec.Retry = false; !again {
			rec.Reason = "rcc was interrupted; the work up to then was taken over"
		}
	default:
		rec.State, rec.Reason = stateFailed, "rcc was interrupted before the command started"
	}
	if !rec.Retry {
		rec.Phase = ""
	}
	if rec.Reason != "" {
		g.env.say("%s: %s", rec.ID, Inert(rec.Reason))
	}
	summarize(g.env, &rec)
	return t.save(&rec)
}

// removeLeftOvers removes folders of tasks that were killed before they had a
// record. The caller holds the repository's lock, under which they are made.
func (g *collector) removeLeftOvers(context.Context) error {
	names, err := os.ReadDir(g.store.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if n.Type().IsRegular() && strings.HasPrefix(n.Name(), ".") && strings.Contains(n.Name(), ".json.") {
			// What writeFile was killed over. Nobody else writes here now.
			errs = append(errs, os.Remove(g.store.path(n.Name())))
		}
		if !n.IsDir() || hidden(n.Name()) {
			continue
		}
		t := g.store.task(n.Name())
		if _, err := os.Lstat(t.path("record.json")); errors.Is(err, fs.ErrNotExist) && !t.busy() {
			errs = append(errs, worktree.RemoveAll(t.dir))
		}
	}
	return errors.Join(errs...)
}

// removeTask removes a task with everything of it: its branch, unless the user
// has that open, and its folder. The record goes last, so that whatever stops
// this leaves a task that is seen and can be removed again.
func removeTask(ctx context.Context, repo *worktree.Repo, t task, rec *Record) error {
	if rec.Tip != "" && rec.State != stateMerged && rec.State != stateDiscarded {
		if err := repo.DropBranch(ctx, rec.ID, rec.Tip); err != nil {
			return err
		}
	}
	if rec.Run {
		return worktree.RemoveAll(t.dir)
	}
	names, err := os.ReadDir(t.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n.Name() == "record.json" || n.Name() == "lock" {
			continue
		}
		if err := worktree.RemoveAll(filepath.Join(t.dir, n.Name())); err != nil {
			return err
		}
	}
	return worktree.RemoveAll(t.dir)
}
