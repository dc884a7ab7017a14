package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// hostHook is one of the user's own, to be run on the host. Nothing limits its
// time but the user.
type hostHook struct {
	hook
	dir     string // the repository
	environ []string
	stdin   *os.File
	out     io.Writer // both of its streams: standard output carries rcc's results
	// group gives it a process group of its own, for divert. Without, it stays
	// in rcc's: the terminal is its own, and so is ^C.
	group bool
}

// run gives the hook's status, and an error unless that is 0. divert, unless it
// is nil, is told where signals for the hook go.
func (h hostHook) run(ctx context.Context, divert func(func(syscall.Signal)) func()) (int, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", h.Run)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = h.dir, h.environ, h.out, h.out
	if h.stdin != nil {
		cmd.Stdin = h.stdin
	}
	send := func(sig syscall.Signal) { cmd.Process.Signal(sig) }
	if h.group {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		send = func(sig syscall.Signal) { syscall.Kill(-cmd.Process.Pid, sig) }
	}
	cmd.Cancel = func() error { send(syscall.SIGTERM); return nil }
	// What it leaves in the background does not hold rcc up.
	cmd.WaitDelay = stopGrace
	if err := cmd.Start(); err != nil {
		return 126, fmt.Errorf("%s cannot be run: %w", h.hook, underlying(err))
	}
	if divert != nil {
		defer divert(send)()
	}
	err := cmd.Wait()
	status := shellStatus(cmd.ProcessState)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return status, fmt.Errorf("%s was interrupted", h.hook)
	case errors.As(err, &exit):
		return status, h.ended(status)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return status, fmt.Errorf("%s cannot be run: %w", h.hook, err)
	}
	return status, nil
}

func (h hook) ended(status int) error { return fmt.Errorf("%s ended with status %d", h, status) }

// shellStatus is how a shell tells a signal.
func shellStatus(p *os.ProcessState) int {
	if ws, ok := p.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.ExitCode()
}

// callersHook runs one of the user's own in this process's own streams.
func callersHook(ctx context.Context, env *surroundings, h hook, r *Record) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	_, err := hostHook{
		hook: h, dir: r.Repository, environ: append(slices.Clip(env.environ), hookEnv(r)...), stdin: env.stdin, out: env.stderr,
	}.run(ctx, nil)
	return err
}

// beforeTask runs the user's own hook while there is nothing yet of the task,
// and writes down those that are for later.
func (st *start) beforeTask(ctx context.Context) error {
	all := st.config.Hooks
	st.record.Hooks = append(hooksNamed(all, false, hookAfterTask), hooksNamed(all, true, hookNames...)...)
	for _, h := range hooksNamed(all, false, hookBeforeTask) {
		if err := callersHook(ctx, st.env, h, st.record); err != nil {
			return fmt.Errorf("cannot start the task: the hook %w", err)
		}
	}
	return nil
}

// afterTask runs the user's own hook when the task is over and all of it is
// written down. Meanwhile the task's lock is not held: the hook may merge it.
// afterTask takes the lock again, and gives nil when somebody else has it.
func (s *session) afterTask(lock *os.File) *os.File {
	hooks := hooksNamed(s.rec.Hooks, false, hookAfterTask)
	if len(hooks) == 0 {
		return lock
	}
	lock.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	for _, h := range hooks {
		began := time.Now()
		status, err := hostHook{
			hook: h, dir: s.rec.Repository, environ: append(slices.Clip(s.env.caller), hookEnv(s.rec)...), out: hookOutput{s.hub}, group: true,
		}.run(ctx, s.hub.divert)
		if err != nil {
			// Not kept in the record, which may be somebody else's by now.
			s.hub.note("the hook " + oneLine(err))
			s.events.add(event{Event: "note", Text: "the hook " + oneLine(err)})
		}
		s.events.add(event{Event: "hook", Text: h.String(), Exit: &status, Millis: millis(began)})
	}
	if again, err := s.task.tryLock(); err == nil {
		return again
	}
	return nil
}
