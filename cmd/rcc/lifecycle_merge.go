package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"rcc/worktree"
)

// hooksOfMerge are those that merging this task has: the user's as they are
// now, the repository's as they were when the task began.
func hooksOfMerge(env *surroundings, r *Record) ([]hook, error) {
	path, err := UserConfigPath(env.getenv)
	if err != nil {
		return nil, err
	}
	user, err := ReadUserConfig(path)
	if err != nil {
		return nil, err
	}
	c, err := LoadConfig(path, user, "", nil)
	if err != nil {
		return nil, err
	}
	return append(hooksNamed(c.Hooks, false, hookBeforeMerge, hookAfterMerge), hooksNamed(r.Hooks, true, hookBeforeMerge, hookAfterMerge)...), nil
}

// runMergeHooks runs those of one name, the user's first, until one fails.
func runMergeHooks(ctx context.Context, env *surroundings, all []hook, name string, r *Record) error {
	for _, h := range hooksNamed(all, false, name) {
		if err := callersHook(ctx, env, h, r); err != nil {
			return fmt.Errorf("the hook %w", err)
		}
	}
	for _, h := range hooksNamed(all, true, name) {
		status, err := throwaway(ctx, env, h, r)
		if err == nil && status != 0 {
			err = h.ended(status)
		}
		if err != nil {
			return fmt.Errorf("the repository's hook %w", err)
		}
	}
	return nil
}

// throwaway runs one of the repository's hooks in a sandbox of its own, on a tree
// of the task's result that is gone afterwards. Nothing of that tree decides how:
// the settings are those of the task.
func throwaway(ctx context.Context, env *surroundings, h hook, r *Record) (status int, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return exitCannot, err
	}
	defer null.Close()
	quiet := *env
	quiet.stdin = null
	id := NewID(h.Name+" "+r.ID, rand.Reader)
	st := &start{env: &quiet, hookEnv: hookEnv(r)}
	if st.git, err = worktree.NewGit(env.environ); err != nil {
		return exitCannot, err
	}
	if st.repo, st.sight, err = st.git.Look(ctx, env.dir, r.Tip, id); err != nil {
		return exitCannot, err
	}
	st.record = &Record{
		ID: id, State: stateRunning, Phase: "start", Branch: "rcc/" + id, Base: r.Tip, Start: r.Tip,
		Prompt: r.Prompt, Command: []string{"/bin/sh", "-c", h.Run}, Created: time.Now().UTC(), Repository: st.repo.Path,
		Kind: r.Kind, Carry: r.Carry, Include: r.Include, Timeout: r.Timeout, Shell: r.Shell, Run: true,
	}
	// What counts is what the user and the system say now. The ports of the task
	// and its agent's own hosts are not the hook's.
	plan, err := networkNow(ctx, env, st.git, r, netFlags{Net: r.NetFlags.Net, Allow: r.NetFlags.Allow}, "")
	if err != nil {
		return exitCannot, err
	}
	st.record.takeNetwork(plan)
	st.record.Publish = nil
	st.store = env.dirs.store(st.repo.Key())
	if err := taskUser(st.record, st.repo.Key()); err != nil {
		return exitCannot, err
	}
	t, lock, size, err := st.begin(ctx, true)
	if err != nil {
		return exitCannot, err
	}
	defer lock.Close()
	status, err = st.runHere(ctx, t, size, true)
	return status, errors.Join(err, removeTask(ctx, st.repo, t, st.record))
}
