package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"rcc/isolate"
)

// Lifecycle hooks are command lines that run at four points of a task's life.
//
// Who wrote one decides where it runs. Those of the user's config.toml run on
// the host. Those of the repository's rcc.toml, at the commit that the task
// started from, run inside a sandbox only: before_task and after_task in the
// task's own, around its command; before_merge and after_merge in a throwaway
// one, on a tree of the result. What an agent writes into rcc.toml is never
// read. The user's come first, but for after_task: the repository's belongs to
// the sandbox, which has ended when the user's runs.
const (
	hookBeforeTask  = "before_task"
	hookAfterTask   = "after_task"
	hookBeforeMerge = "before_merge"
	hookAfterMerge  = "after_merge"
)

// hookNames are the keys of [hooks].
var hookNames = []string{hookBeforeTask, hookAfterTask, hookBeforeMerge, hookAfterMerge}

// A hook is one of them.
type hook struct {
	Name   string `json:"name"`
	Run    string `json:"run"`  // for /bin/sh -c
	From   string `json:"from"` // "FILE:LINE"
	Inside bool   `json:"inside"`
}

// maxHook bounds a hook's text, in bytes: a program's argument holds 128 KiB
// (MAX_ARG_STRLEN, execve(2)).
const maxHook = 64 << 10

func (h hook) String() string { return h.Name + " (" + h.From + ")" }

func (h hook) where() string {
	if h.Inside {
		return "in the sandbox"
	}
	return "on the host"
}

// hooksNamed picks from a list, whose order is the one they run in.
func hooksNamed(all []hook, inside bool, names ...string) (out []hook) {
	for _, h := range all {
		if h.Inside == inside && slices.Contains(names, h.Name) {
			out = append(out, h)
		}
	}
	return out
}

// hookEnv is what a hook knows of the task; what is not known yet is empty.
func hookEnv(r *Record) []string {
	state, exit := r.State, ""
	if state == stateRunning {
		state = ""
	}
	if r.Exit != nil {
		exit = strconv.Itoa(*r.Exit)
	}
	return []string{
		"RCC_TASK=" + r.ID, "RCC_PROMPT=" + r.Prompt, "RCC_REPOSITORY=" + r.Repository, "RCC_BRANCH=" + r.Branch,
		"RCC_BASE=" + r.Base, "RCC_TIP=" + r.Tip, "RCC_STATE=" + state, "RCC_EXIT=" + exit,
	}
}

// keepMergeHooks is for rcc run --keep, which has no hooks itself: its result
// is merged as any other.
func (st *start) keepMergeHooks() {
	st.record.Hooks = hooksNamed(st.config.Hooks, true, hookBeforeMerge, hookAfterMerge)
}

// commandWithHooks runs the command between the repository's hooks.
func (s *session) commandWithHooks(ctx context.Context, sb *isolate.Sandbox, input bool) (int, error) {
	for _, h := range hooksNamed(s.rec.Hooks, true, hookBeforeTask) {
		if err := s.phase(hookBeforeTask); err != nil {
			return exitCannot, err
		}
		err := s.insideHook(ctx, sb, h)
		if ctx.Err() != nil {
			return exitCannot, ctx.Err()
		}
		if err != nil {
			return exitCannot, fmt.Errorf("cannot start the command: the repository's hook %w", err)
		}
	}
	status, err := s.command(ctx, sb, input)
	if err != nil {
		return status, err
	}
	for _, h := range hooksNamed(s.rec.Hooks, true, hookAfterTask) {
		s.rec.Exit = &status
		if err := s.insideHook(ctx, sb, h); err != nil {
			s.tell([]string{"the repository's hook " + oneLine(err)})
		}
	}
	return status, nil
}

// insideHook runs one of the repository's in the task's sandbox. It counts
// against the task's time.
func (s *session) insideHook(ctx context.Context, sb *isolate.Sandbox, h hook) error {
	began := time.Now()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	prog := s.program([]string{"/bin/sh", "-c", h.Run}, append(s.programEnv(), hookEnv(s.rec)...))
	prog.Files = []*os.File{null, w, w}
	p, err := sb.Spawn(prog)
	w.Close()
	if err != nil {
		r.Close()
		return fmt.Errorf("%s cannot be run: %v", h, err) // not ErrGone: the command has not been killed
	}
	s.hub.outputs.Add(1)
	shown := make(chan struct{})
	go func() {
		defer s.hub.outputs.Done()
		defer close(shown)
		defer r.Close()
		io.Copy(hookOutput{s.hub}, r)
	}()
	defer s.hub.divert(func(sig syscall.Signal) { p.Signal(sig) })()
	status, err := s.wait(ctx, p)
	select {
	case <-shown:
	case <-time.After(500 * time.Millisecond): // something that it left holds the pipe
	}
	s.events.add(event{Event: "hook", Text: h.String(), Exit: &status, Millis: millis(began)})
	if err != nil {
		return fmt.Errorf("%s was not finished: %v", h, err)
	}
	if status != 0 {
		return h.ended(status)
	}
	return nil
}

// leastTime is what after_task has when the task's time is over.
const leastTime = time.Minute

// timeLeft is how long the program that is about to be waited for may take, of
// the time that the task has in all.
func (s *session) timeLeft() time.Duration {
	if s.deadline.IsZero() {
		s.deadline = time.Now().Add(s.rec.Timeout)
		return s.rec.Timeout
	}
	if left := time.Until(s.deadline); s.rec.Exit == nil || left > leastTime {
		return left
	}
	return leastTime
}

// hookOutput shows what a hook writes as the task's own, in its log as well.
type hookOutput struct{ h *hub }

func (o hookOutput) Write(p []byte) (int, error) {
	if o.h.size == nil {
		o.h.show(frameError, p)
		return len(p), nil
	}
	// The clients' terminals are raw: a line's end does not bring the cursor back.
	out := make([]byte, 0, len(p)+16)
	for _, b := range p {
		if b == '\n' {
			out = append(out, '\r')
		}
		out = append(out, b)
	}
	o.h.show(frameOutput, out)
	return len(p), nil
}
