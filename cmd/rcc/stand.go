package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"rcc/isolate"
	"rcc/worktree"
)

// job is the sandbox's job for the task's own tree.
func (s *session) job(home string, mounts []worktree.Mount) isolate.Job {
	j := isolate.Job{
		Dir: s.repo.Path, Home: home,
		UID: s.rec.UID, GID: s.rec.GID, HostUID: s.rec.HostUID, HostGID: s.rec.HostGID,
		User: userName(s.env), Shell: insideShell(),
	}
	for _, m := range mounts {
		b := isolate.Bind{Source: m.Source, Target: m.Target, Writable: m.Writable, MapOwner: m.MapOwner, Empty: m.Empty, Upper: m.Upper}
		for _, l := range m.Lower {
			b.Lower = append(b.Lower, isolate.Layer{Source: l.Dir, MapOwner: l.MapOwner})
		}
		j.Binds = append(j.Binds, b)
	}
	return j
}

// plan is the sandbox of the command.
func (s *session) plan() (*isolate.Plan, error) {
	job := s.job(s.task.path("home"), s.rec.Tree.Mounts())
	if !s.undressed {
		s.dress(&job)
	}
	return isolate.NewPlan(s.network(), job, isolate.LookHost(s.env.environ))
}

// start makes the sandbox and fills the tree in it.
func (s *session) start(ctx context.Context) (*isolate.Sandbox, error) {
	if err := s.phase("sandbox"); err != nil {
		return nil, err
	}
	notes := s.findNotes(ctx)
	s.undressed = s.shell != nil && len(s.rec.Tree.Populate()) > 0
	sb, err := s.stand(ctx)
	if err != nil {
		return nil, errors.Join(err, notes())
	}
	if err := errors.Join(s.populate(ctx, sb), notes()); err != nil {
		s.leave(sb)
		return nil, err
	}
	if !s.undressed {
		return sb, nil
	}
	// The dev shell need not have git: the tree was filled with the host's, and
	// the command gets a sandbox without.
	s.undressed = false
	if err := errors.Join(s.leave(sb), s.rec.Tree.Again()); err != nil {
		return nil, err
	}
	return s.enter(ctx)
}

// stand makes the sandbox around the tree, and another tree where that cannot
// be shown or stands on something damaged. Whether it does is found out beside
// the making of tree and sandbox.
func (s *session) stand(ctx context.Context) (*isolate.Sandbox, error) {
	sb, err := s.enter(ctx)
	if err != nil && s.rec.Tree.Kind == worktree.KindOverlay && (!s.rec.Tree.Stands() || s.damaged()) {
		if err = s.standBetter(ctx); err == nil {
			sb, err = s.enter(ctx)
		}
	}
	if reason, auto := s.instead(err); auto {
		if err = s.fallBack(ctx, s.spec, reason); err == nil {
			sb, err = s.enter(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	err = s.layers.Ready()
	var damaged *worktree.DamagedError
	if err == nil {
		return sb, nil
	}
	if closeErr := s.leave(sb); closeErr != nil || !errors.As(err, &damaged) {
		return nil, errors.Join(err, closeErr)
	}
	if err := s.standBetter(ctx); err != nil {
		return nil, err
	}
	return s.enter(ctx)
}

func (s *session) enter(ctx context.Context) (*isolate.Sandbox, error) {
	plan, err := s.plan()
	if err != nil {
		return nil, err
	}
	sb, err := isolate.Start(ctx, plan)
	if path, ok := isolate.MissingStorePath(err); ok {
		return nil, fmt.Errorf("cannot enter the dev shell: %s was removed from the store in this moment; start again", path)
	}
	if err != nil {
		return nil, err
	}
	if err := s.openWay(sb); err != nil {
		return nil, errors.Join(err, sb.Close())
	}
	return sb, nil
}

func (s *session) populate(ctx context.Context, sb *isolate.Sandbox) error {
	if err := s.phase("populate"); err != nil {
		return err
	}
	for _, args := range s.rec.Tree.Populate() {
		if err := runQuietly(ctx, sb, args); err != nil {
			return fmt.Errorf("cannot fill the tree: %w", err)
		}
	}
	s.rec.Filled = true
	if s.rec.Run {
		return nil // there will be no harvest
	}
	return s.rec.Tree.Populated(ctx)
}

// runQuietly runs a command of ours in the sandbox; what it prints is only for
// the error.
func runQuietly(ctx context.Context, sb *isolate.Sandbox, args []string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := sb.Spawn(isolate.Program{Args: args, Files: []*os.File{null, null, w}})
	w.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { p.Signal(syscall.SIGKILL) })
	defer stop()
	said := readUpTo(r, 4<<10)
	status, err := p.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && status != 0 {
		err = fmt.Errorf("%s: status %d: %s", args[0], status, Inert(strings.TrimSpace(firstLine(said, 300))))
	}
	return err
}
