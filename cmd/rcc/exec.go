package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/term"

	"rcc/isolate"
)

type execCmd struct {
	ID string `arg:"" help:"Task, or the beginning of its name."`
}

func (c *execCmd) Help() string { return "rcc exec ID -- COMMAND ARG..." }

func (c *execCmd) Run(env *surroundings, command commandLine) error {
	if len(command) == 0 {
		return usage("cannot run nothing; name a command after --, as in: rcc exec %s -- git log", c.ID)
	}
	if err := checkText("the command", command...); err != nil {
		return err
	}
	return execTask(env, c.ID, hello{Args: command})
}

type shellCmd struct {
	ID string `arg:"" help:"Task, or the beginning of its name."`
}

func (c *shellCmd) Run(env *surroundings) error {
	if !term.IsTerminal(int(env.stdin.Fd())) {
		return usage("cannot open a shell without a terminal; use rcc exec %s -- COMMAND", c.ID)
	}
	return execTask(env, c.ID, hello{Shell: true})
}

// execTask runs a command in a task's sandbox: the running one, or, when the
// task is over, one of the same kind around the tree that it left; what the
// command changes there is taken over like the task's own work.
func execTask(env *surroundings, id string, hi hello) error {
	ctx := context.Background()
	_, _, s, err := atRepository(ctx, env)
	if err != nil {
		return err
	}
	t, rec, err := s.find(id)
	if err != nil {
		return err
	}
	hi.Want, hi.Env, hi.Input = "exec", passedEnv(env.environ), true
	if size := terminalSize(env); size != nil {
		hi.Terminal, hi.Size = true, size
	}
	var status int
	if rec.State == stateRunning {
		status, err = execRunning(env, t, hi)
	} else {
		status, err = execFinished(ctx, env, t, hi)
	}
	if err != nil {
		return &statusError{max(status, exitCannot), err}
	}
	if status != 0 {
		return &statusError{status: status}
	}
	return nil
}

func execRunning(env *surroundings, t task, hi hello) (int, error) {
	conn, err := dial(t)
	if err != nil {
		return exitCannot, err
	}
	hi.Program = rand.Text()
	cl := &client{env: env, f: &frames{rw: conn}, stdout: env.stdout, stderr: env.stderr, hello: hi, signal: signalTo(t, hi.Program)}
	o, err := cl.run()
	if err == nil && o.Error != "" {
		err = errors.New(o.Error)
	}
	return o.Exit, err
}

func execFinished(ctx context.Context, env *surroundings, t task, hi hello) (int, error) {
	lock, err := t.tryLock()
	if err != nil {
		return exitCannot, taskError(&Record{ID: t.id()}, err)
	}
	defer lock.Close()
	rec, err := t.loadLocked()
	if err != nil {
		return exitCannot, err
	}
	switch {
	case rec.State == stateMerged || rec.State == stateDiscarded:
		return exitCannot, fmt.Errorf("cannot enter %s: it is %s", rec.ID, rec.State)
	case rec.interrupted():
		return exitCannot, fmt.Errorf("cannot enter %s: it was interrupted; rcc gc takes it over", rec.ID)
	case rec.Tree == nil:
		return exitCannot, fmt.Errorf("cannot enter %s: it never had a tree%s", rec.ID, because(rec))
	}
	if !rec.Filled {
		return exitCannot, fmt.Errorf("cannot enter %s: it ended before its tree had all files%s; start it again", rec.ID, because(rec))
	}
	s, err := newSession(env, t, rec)
	if err != nil {
		return exitCannot, err
	}
	s.progress = progressLine(env)
	if s.repo, err = s.git.Open(ctx, rec.Repository); err != nil {
		return exitCannot, err
	}
	if err := followBranchLocked(ctx, s.repo, rec); err != nil {
		return exitCannot, err
	}
	if open, err := s.repo.FindWorktree(ctx, rec.Branch); err != nil || open != "" {
		if err == nil {
			err = fmt.Errorf("cannot enter %s: what is changed there would move its branch, which is open at %s; close that first: git worktree remove %[2]s", rec.ID, open)
		}
		return exitCannot, err
	}
	if err := s.openShell(); err != nil {
		return exitCannot, err
	}
	defer s.leaveShell()
	if err := s.networkAgain(ctx); err != nil {
		return exitCannot, err
	}
	if err := s.standAgain(ctx, true); err != nil {
		return exitCannot, err
	}
	defer s.layers.Release()
	sb, err := s.enter(ctx)
	if err != nil {
		return exitCannot, err
	}
	status, err := execHere(env, s, sb, hi)
	err = errors.Join(err, s.leave(sb), s.rest())
	s.tell(s.denied.notes(rec))
	if err != nil {
		return status, err
	}
	return status, s.takeOverAgain(ctx)
}

// followBranchLocked refuses to go on when the user moved the branch: taking
// over again would lose those commits.
func followBranchLocked(ctx context.Context, repo interface {
	Tip(context.Context, string) (string, error)
}, rec *Record,
) error {
	if rec.State != stateReview {
		return nil
	}
	tip, err := repo.Tip(ctx, rec.ID)
	if err != nil {
		return err
	}
	if tip != rec.Tip {
		return fmt.Errorf("cannot enter %s: its branch %s was moved outside of the sandbox; work in rcc open %s", rec.ID, rec.Branch, rec.ID)
	}
	return nil
}

func execHere(env *surroundings, s *session, sb *isolate.Sandbox, hi hello) (int, error) {
	mine, theirs := net.Pipe()
	h := newHub(execSize(hi), nil)
	cl := &client{env: env, f: &frames{rw: mine}, stdout: env.stdout, stderr: env.stderr, hello: hi, signal: h.signal}
	ended := make(chan error, 1)
	go func() {
		_, err := cl.run()
		ended <- err
	}()
	f := &frames{rw: theirs}
	if kind, _, err := f.read(); err != nil || kind != frameHello {
		return exitCannot, errFrame
	}
	status, err := execIn(sb, h, f, hi, s.further(hi))
	if err != nil {
		f.writeJSON(frameOver, over{Exit: status})
	}
	<-ended
	return status, err
}

// takeOverAgain brings a finished task's result up to date.
func (s *session) takeOverAgain(ctx context.Context) error {
	before := *s.rec
	s.rec.State = stateRunning
	err := s.takeOver(ctx)
	if err != nil {
		s.rec.State, s.rec.Reason = before.State, before.Reason
		err = fmt.Errorf("cannot take over what was changed; the result is still the one from before: %w", err)
	}
	s.rec.Phase, s.rec.Finished, s.rec.Retry = "", time.Now().UTC(), false
	if s.rec.Tip != before.Tip {
		summarize(s.env, s.rec)
	}
	return errors.Join(err, s.task.save(s.rec))
}
