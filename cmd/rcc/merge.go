package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"rcc/worktree"
)

type mergeCmd struct {
	ID     string `arg:"" help:"Task, or the beginning of its name."`
	Squash bool   `help:"As one commit." xor:"mode"`
	Rebase bool   `help:"As its commits, on top of the branch." xor:"mode"`
	FFOnly bool   `name:"ff-only" help:"Only if the branch has not moved." xor:"mode"`
	Into   string `help:"Branch to merge into (default: the checkout's)." placeholder:"BRANCH"`
}

// action is the last thing that rcc undo can take back.
type action struct {
	Kind   string                `json:"kind"` // "merge", "discard" or, in mergingFile, "undo"
	When   time.Time             `json:"when"`
	Intent *worktree.MergeIntent `json:"intent,omitempty"`
	// Before holds, for each task, its state before the action.
	Before map[string]string `json:"before"`
}

const (
	undoFile    = "undo.json"
	mergingFile = "merging.json"
)

func (c *mergeCmd) Run(env *surroundings) error {
	ctx := context.Background()
	m, err := c.hold(ctx, env)
	if err != nil {
		return err
	}
	hooks, err := hooksOfMerge(env, m.rec)
	if err == nil && len(hooks) > 0 {
		m, err = c.beforeMerge(ctx, env, m, hooks)
	}
	if err == nil {
		err = c.merge(ctx, env, m)
	}
	m.release()
	if err != nil {
		return err
	}
	if err := runMergeHooks(ctx, env, hooks, hookAfterMerge, m.rec); err != nil {
		env.say("%s is merged, but %s", m.rec.ID, oneLine(err))
	}
	return nil
}

// held is a task that can be merged, with the locks that keep it so.
type held struct {
	repo  *worktree.Repo
	store store
	rec   *Record
	locks []*os.File
}

func (m *held) release() {
	for _, l := range slices.Backward(m.locks) {
		l.Close()
	}
	m.locks = nil
}

// hold finds the task and takes the locks.
func (c *mergeCmd) hold(ctx context.Context, env *surroundings) (*held, error) {
	repo, s, lock, err := lockRepository(ctx, env)
	if err != nil {
		return nil, err
	}
	m := &held{repo: repo, store: s, locks: []*os.File{lock}}
	t, rec, err := s.find(c.ID)
	if err == nil {
		m.rec = rec
		err = mergeable(ctx, repo, rec)
	}
	if err == nil {
		if lock, err = t.tryLock(); err == nil {
			m.locks = append(m.locks, lock)
			return m, nil
		}
		err = taskError(rec, err)
	}
	m.release()
	return nil, err
}

// beforeMerge runs the hooks that may refuse, with no lock held: they may take
// long, and work on the task themselves. What is merged is what they have seen.
func (c *mergeCmd) beforeMerge(ctx context.Context, env *surroundings, m *held, hooks []hook) (*held, error) {
	if _, err := m.repo.PlanMerge(ctx, c.spec(m.rec)); err != nil {
		return m, err // no test can mend a conflict
	}
	m.release()
	if err := runMergeHooks(ctx, env, hooks, hookBeforeMerge, m.rec); err != nil {
		return m, fmt.Errorf("cannot merge %s: %w", m.rec.ID, err)
	}
	again, err := c.hold(ctx, env)
	if err != nil {
		return m, err
	}
	if again.rec.ID != m.rec.ID || again.rec.Tip != m.rec.Tip {
		return again, fmt.Errorf("cannot merge %s: its result changed while the hooks ran; merge it again", m.rec.ID)
	}
	return again, nil
}

// merge moves the branch and the checkout.
func (c *mergeCmd) merge(ctx context.Context, env *surroundings, m *held) error {
	repo, s, rec := m.repo, m.store, m.rec
	intent, err := repo.PlanMerge(ctx, c.spec(rec))
	if err != nil {
		return err
	}
	act := &action{Kind: "merge", When: time.Now().UTC(), Intent: intent, Before: map[string]string{rec.ID: rec.State}}
	if err := writeJSON(s.path(mergingFile), act, true); err != nil {
		return err
	}
	crashPoint("merge-planned")
	if err := repo.ApplyMerge(ctx, intent); err != nil {
		// Refused or stopped half-way: either way the checkout is brought
		// back to one of its two states before anybody hears of it.
		return errors.Join(err, recoverMerge(ctx, env, repo, s))
	}
	crashPoint("merge-applied")
	if err := mergeDone(ctx, env, repo, s, act); err != nil {
		return fmt.Errorf("merged %s into %s, but: %w", rec.ID, intentTarget(intent), err)
	}
	rec.State = stateMerged
	env.say("merged %s into %s: %s; rcc undo takes it back", rec.ID, intentTarget(intent), changes(rec))
	if slices.ContainsFunc(rec.Evaluated, isNixCode) {
		env.say("it changed the dev shell's code, which is not evaluated before rcc allow says that you have read it")
	}
	return nil
}

func (c *mergeCmd) spec(rec *Record) worktree.MergeSpec {
	spec := worktree.MergeSpec{
		ID: rec.ID, Base: rec.Base, Start: rec.Start, Tip: rec.Tip,
		Into: c.Into, Subject: firstLine(strings.TrimSpace(rec.Prompt), 72),
	}
	switch {
	case c.Squash:
		spec.Mode = worktree.Squash
	case c.Rebase:
		spec.Mode = worktree.Rebase
	case c.FFOnly:
		spec.Mode = worktree.FFOnly
	}
	return spec
}

// mergeable tells whether a task has a result, and the one that was shown.
func mergeable(ctx context.Context, repo *worktree.Repo, rec *Record) error {
	switch rec.State {
	case stateReview:
	case stateEmpty:
		return nothing("%s changed nothing", rec.ID)
	case stateMerged:
		return nothing("%s was merged into %s already", rec.ID, rec.MergedTo)
	case stateDiscarded:
		return fmt.Errorf("cannot merge %s: it was discarded; rcc undo takes back the last discard", rec.ID)
	default:
		return fmt.Errorf("cannot merge %s: it is %s%s", rec.ID, rec.State, because(rec))
	}
	tip, err := repo.Tip(ctx, rec.ID)
	if err != nil {
		return err
	}
	if tip == "" {
		return fmt.Errorf("cannot merge %s: its branch %s is gone; rcc discard %s forgets the task", rec.ID, rec.Branch, rec.ID)
	}
	if tip != rec.Tip {
		return fmt.Errorf("cannot merge %s: %s has moved since it was shown; look at it again with rcc diff %s", rec.ID, rec.Branch, rec.ID)
	}
	return nil
}

// mergeDone writes down that a merge is in place.
func mergeDone(ctx context.Context, env *surroundings, repo *worktree.Repo, s store, act *action) error {
	if err := writeJSON(s.path(undoFile), act, true); err != nil {
		return err
	}
	for id := range act.Before {
		t := s.task(id)
		rec, err := t.load()
		if err != nil {
			return err
		}
		rec.State, rec.MergedTo = stateMerged, intentTarget(act.Intent)
		if err := t.save(rec); err != nil {
			return err
		}
		// Its commits are in the target, and in the task's folder for undo.
		// A worktree that was opened on the branch keeps it.
		open, err := repo.FindWorktree(ctx, rec.Branch)
		if err != nil {
			return err
		}
		if open != "" {
			env.say("%s is still open at %s; when you are done: git worktree remove %s && git branch -d %s", rec.Branch, open, open, rec.Branch)
		} else if err := repo.DropBranch(ctx, id, rec.Tip); err != nil {
			return err
		}
	}
	return removeFile(s.path(mergingFile))
}

// lockRepository finds the repository and takes its lock, for commands that
// move branches. What an interrupted one of them left is put right first.
func lockRepository(ctx context.Context, env *surroundings) (*worktree.Repo, store, *os.File, error) {
	_, repo, s, err := atRepository(ctx, env)
	if err != nil {
		return nil, store{}, nil, err
	}
	lock, err := s.lock()
	if err != nil {
		return nil, store{}, nil, err
	}
	if err := recoverMerge(ctx, env, repo, s); err != nil {
		lock.Close()
		return nil, store{}, nil, err
	}
	return repo, s, lock, nil
}

// recoverMerge finishes or undoes a merge that was killed. The caller holds
// the repository's lock.
func recoverMerge(ctx context.Context, env *surroundings, repo *worktree.Repo, s store) error {
	var act action
	err := readJSON(s.path(mergingFile), &act)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || act.Intent == nil {
		return fmt.Errorf("cannot read what became of the last merge: look at the checkout, then remove %s", s.path(mergingFile))
	}
	done, err := repo.RecoverMerge(ctx, act.Intent)
	if err != nil {
		return err
	}
	if !done {
		return removeFile(s.path(mergingFile))
	}
	if act.Kind == "undo" {
		env.say("an undo that was interrupted is complete now")
		return undone(ctx, env, repo, s, &act)
	}
	env.say("a merge that was interrupted is complete now")
	return mergeDone(ctx, env, repo, s, &act)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func intentTarget(in *worktree.MergeIntent) string {
	return strings.TrimPrefix(in.Ref, "refs/heads/")
}
