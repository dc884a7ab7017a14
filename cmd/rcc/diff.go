package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/term"

	"rcc/worktree"
)

type diffCmd struct {
	ID   string `arg:"" help:"Task, or the beginning of its name."`
	Stat bool   `help:"Only which files, and how much."`
}

func (c *diffCmd) Run(env *surroundings) error {
	ctx := context.Background()
	_, repo, s, err := atRepository(ctx, env)
	if err != nil {
		return err
	}
	t, rec, err := s.find(c.ID)
	if err != nil {
		return err
	}
	if rec.State == stateRunning {
		return fmt.Errorf("cannot show what %s changed while it runs; rcc stop %s ends it, rcc attach %s shows it", rec.ID, rec.ID, rec.ID)
	}
	if rec.interrupted() {
		return fmt.Errorf("cannot show what %s changed: it was interrupted; rcc gc takes over what it had done", rec.ID)
	}
	if err := followBranch(ctx, env, repo, t, rec); err != nil {
		return err
	}
	if rec.Tip == "" {
		return nothing("%s changed nothing%s", rec.ID, because(rec))
	}
	sayEvaluated(env, rec)
	onTerminal := term.IsTerminal(int(env.stdout.Fd()))
	opt := worktree.DiffOptions{Stat: c.Stat, Brief: onTerminal}
	if !onTerminal {
		return repo.Diff(ctx, rec.Base, rec.Tip, opt, env.stdout)
	}
	return paged(env, func(w io.Writer) error {
		out := io.WriteCloser(nopWriteCloser{w})
		if !c.Stat && env.getenv("NO_COLOR") == "" {
			out = &patchColours{w: w}
		}
		inert := InertWriter(out, false)
		if err := repo.Diff(ctx, rec.Base, rec.Tip, opt, inert); err != nil {
			return err
		}
		return errors.Join(inert.Close(), out.Close())
	})
}

// sayEvaluated comes ahead of a review: what the change has to do with code that
// the host would run.
func sayEvaluated(env *surroundings, rec *Record) {
	for _, n := range evaluatedNotes(rec) {
		env.say("%s: %s", rec.ID, Inert(n))
	}
}

func because(r *Record) string {
	if r.Reason == "" {
		return ""
	}
	return ": " + Inert(r.Reason)
}

// followBranch takes a branch that the user moved (by commits in an opened
// worktree, say) as the task's result from now on: what is shown is what will
// be merged.
func followBranch(ctx context.Context, env *surroundings, repo *worktree.Repo, t task, rec *Record) error {
	if rec.State != stateReview {
		return nil
	}
	tip, err := repo.Tip(ctx, rec.ID)
	if err != nil || tip == "" || tip == rec.Tip {
		return err
	}
	lock, err := t.tryLock()
	if err != nil {
		return taskError(rec, err)
	}
	defer lock.Close()
	st, err := repo.Stat(ctx, rec.Base, tip)
	if err != nil {
		return err
	}
	rec.Tip, rec.Files, rec.Added, rec.Removed = tip, st.Files, st.Added, st.Removed
	if rec.Evaluated, err = evaluatedPaths(ctx, env, repo, rec, st.Paths); err != nil {
		return err
	}
	return t.save(rec)
}

// taskError names the task in errBusy.
func taskError(rec *Record, err error) error {
	if err == errBusy {
		return fmt.Errorf("cannot do that now: another rcc works on %s; wait for it, or rcc stop %s", rec.ID, rec.ID)
	}
	return err
}

// paged shows what f writes in the user's pager.
func paged(env *surroundings, f func(io.Writer) error) error {
	pager := env.getenv("GIT_PAGER")
	if pager == "" {
		pager = env.getenv("PAGER")
	}
	if pager == "" {
		pager = "less"
	}
	if _, err := exec.LookPath(strings.Fields(pager + " x")[0]); pager == "cat" || err != nil {
		return f(env.stdout)
	}
	// By a shell, as git does: PAGER is the user's own text and may hold options.
	c := exec.Command("/bin/sh", "-c", pager)
	c.Env = env.environ
	if env.getenv("LESS") == "" {
		c.Env = append(c.Env[:len(c.Env):len(c.Env)], "LESS=FRX")
	}
	c.Stdout, c.Stderr = env.stdout, env.stderr
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	c.Stdin = r
	if err := c.Start(); err != nil {
		r.Close()
		w.Close()
		return f(env.stdout)
	}
	r.Close()
	err = f(w)
	w.Close()
	if waitErr := c.Wait(); err == nil {
		err = waitErr
	}
	return err
}
