package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"rcc/worktree"
)

// warm makes the base of a task that has none yet, before the task is begun: a
// supervisor has nobody to show its progress to.
func (st *start) warm(ctx context.Context) error {
	rec := st.record
	if rec.Kind == worktree.KindCheckout || st.env.dirs.refused() != "" ||
		st.env.dirs.cache(st.repo.Key()).Has(st.repo, worktree.BaseSpec{Tree: st.sight.Tree, MapOwner: rec.HostUID != os.Geteuid()}) {
		return nil
	}
	// ^C and the like must not leave half a base.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	s := &session{env: st.env, task: st.store.task(rec.ID), rec: rec, git: st.git, repo: st.repo, sight: st.sight, progress: progressLine(st.env)}
	layers, err := s.standOn(ctx, rec.Base, false)
	layers.Release()
	if ctx.Err() != nil {
		return errInterrupted
	}
	if _, auto := s.instead(err); auto {
		return nil // the session comes to the same, and tells of it
	}
	return err
}

// progressPatience is how long the making of a base may take before it is told
// of; less in tests.
var progressPatience = time.Second

// progressLine tells how far the making of a base has come: on a terminal in a
// line that it writes again and again, elsewhere once. 0 of 0 is the end of one
// that has failed.
func progressLine(env *surroundings) func(done, total int) {
	onTerminal := term.IsTerminal(int(env.stderr.Fd()))
	began, told := time.Time{}, false
	return func(done, total int) {
		if began.IsZero() {
			began = time.Now()
		}
		switch {
		case !told && time.Since(began) < progressPatience:
		case onTerminal:
			drawProgress(env.stderr, done, total)
			told = true
		case !told && done < total:
			env.say("writing the %d files that the trees of this repository stand on; the next task finds them there", total)
			told = true
		}
	}
}

func drawProgress(w *os.File, done, total int) {
	if done >= total {
		fmt.Fprint(w, "\r\x1b[K")
		return
	}
	fmt.Fprintf(w, "\rrcc: writing the %d files that trees of this repository stand on: %d %%", total, 100*done/max(total, 1))
}
