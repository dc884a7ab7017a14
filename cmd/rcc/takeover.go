package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"rcc/isolate"
	"rcc/worktree"
)

// takeOver brings the result out of the tree into the repository.
func (s *session) takeOver(ctx context.Context) error {
	if err := s.phase("harvest"); err != nil {
		return err
	}
	began := time.Now()
	if err := s.standStill(ctx); err != nil {
		return err
	}
	s.tellChanges()
	h, err := s.rec.Tree.Harvest(ctx, s.repo, s.confine, worktree.HarvestOptions{Message: harvestMessage(s.rec), Time: time.Now()})
	if err != nil {
		return err
	}
	s.events.add(event{Event: "harvested", Tip: h.Tip, Millis: millis(began)})
	s.tell(h.Notes)
	s.rec.LeftOut = len(h.Notes) > 0
	if h.Tip == s.rec.Base {
		return s.nothingChanged(ctx)
	}
	if err := s.phase("accept"); err != nil {
		return err
	}
	var st worktree.Stat
	var statErr error
	var counted sync.WaitGroup
	counted.Go(func() { st, statErr = s.rec.Tree.Stat(ctx, s.repo, h.Tip) })
	err = s.rec.Tree.Accept(ctx, s.repo, h.Tip)
	counted.Wait()
	if err := errors.Join(err, statErr); err != nil {
		return err
	}
	if s.rec.Evaluated, err = evaluatedPaths(ctx, s.env, s.repo, s.rec, st.Paths); err != nil {
		return err
	}
	s.tell(append(pathNotes(s.rec.Tree, st.Paths), evaluatedNotes(s.rec)...))
	crashPoint("accepted")
	s.rec.Tip = h.Tip
	s.rec.Files, s.rec.Added, s.rec.Removed = st.Files, st.Added, st.Removed
	s.rec.State, s.rec.Reason = stateReview, ""
	return nil
}

// pathNotes says what of a result's paths has to do with ignored files.
func pathNotes(tree *worktree.Tree, paths []string) (notes []string) {
	if slices.Contains(paths, worktree.IncludeName) {
		notes = append(notes, "the result changes "+worktree.IncludeName+", which decides what ignored files of the checkout later tasks are shown")
	}
	const most = 5
	for _, p := range paths {
		if tree.WasCarried(p) && len(notes) <= most {
			notes = append(notes, "the result has a file that was carried along, which the task added by force: "+p)
		}
	}
	return notes
}

// evaluatedPaths are those that a dev shell or direnv would read on the host once
// they are in a checkout. Which these are beside Nix code follows from what the
// task started from.
func evaluatedPaths(ctx context.Context, env *surroundings, repo *worktree.Repo, r *Record, paths []string) (list []string, err error) {
	rules, start := shellRules{}, ""
	if r.Rules != nil {
		rules = *r.Rules
	}
	if r.Shell != nil {
		start = r.Shell.Dir
	}
	tree := r.Start
	if r.Tree != nil && r.Tree.LowerTree != "" {
		tree = r.Tree.LowerTree // by which it was looked for at the start
	}
	before, err := rememberedContent(ctx, env.dirs.shellLists(), &commitFiles{repo: repo, tree: tree}, start, rules)
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		if isNixCode(p) || path.Base(p) == envrcName || before.Kind != "" && before.decides(p, rules) {
			list = append(list, p)
		}
	}
	return list, nil
}

const envrcName = ".envrc"

// evaluatedNotes says what became of the trust in such files.
func evaluatedNotes(r *Record) []string {
	if len(r.Evaluated) == 0 {
		return nil
	}
	const most = 5
	shown := strings.Join(r.Evaluated[:min(len(r.Evaluated), most)], ", ")
	if more := len(r.Evaluated) - most; more > 0 {
		shown += fmt.Sprintf(" and %d more", more)
	}
	return []string{"the result changes " + shown + ": nothing of it was evaluated on this machine; read it well, since after a merge its dev shell is yours to allow"}
}

// nothingChanged is the end of a task whose tree is as it was at the start.
func (s *session) nothingChanged(ctx context.Context) error {
	if s.rec.Tip != "" { // an earlier harvest had something
		if err := s.repo.DropBranch(ctx, s.rec.ID, s.rec.Tip); err != nil {
			return err
		}
		s.rec.Tip = ""
	}
	s.rec.Evaluated = nil
	s.rec.Files, s.rec.Added, s.rec.Removed = 0, 0, 0
	s.rec.State, s.rec.Reason = stateEmpty, ""
	if s.rec.Exit != nil && *s.rec.Exit != 0 {
		s.rec.State, s.rec.Reason = stateFailed, fmt.Sprintf("the command ended with status %d and changed nothing", *s.rec.Exit)
	}
	return nil
}

// harvestMessage is the message of the commit for what was left uncommitted.
func harvestMessage(r *Record) string {
	subject := firstLine(strings.TrimSpace(r.Prompt), 72)
	if subject == "" {
		subject = "Work of " + r.ID
	}
	return fmt.Sprintf("%s\n\nUncommitted work at the end of the rcc task %s.\n", subject, r.ID)
}

// confinedData is how much memory of its own a process may have that reads what
// an agent left, in bytes: a tree of trees that name each other ten times over
// would fill any machine. An index of a million files takes a quarter of it.
const confinedData = 1 << 30

// confine runs one of the worktree package's jobs in a sandbox of its own.
func (s *session) confine(ctx context.Context, j worktree.Job) (func() (int, error), error) {
	job := s.job("", j.Mounts)
	if j.Dir != "" {
		job.Dir = j.Dir
	}
	job.Data = confinedData
	plan, err := isolate.NewPlan(isolate.Policy{Net: "none"}, job, isolate.LookHost(s.env.environ))
	if err != nil {
		return nil, err
	}
	cancel := context.CancelFunc(func() {})
	if j.Limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, j.Limit)
	}
	sb, err := isolate.Start(ctx, plan)
	if err != nil {
		cancel()
		return nil, err
	}
	p, err := sb.Spawn(isolate.Program{Args: j.Args, Env: j.Env, Files: j.Files, Self: len(j.Args) > 0 && j.Args[0] == worktree.HarvestName})
	if err != nil {
		cancel()
		return nil, errors.Join(err, sb.Close())
	}
	stop := context.AfterFunc(ctx, func() { p.Signal(syscall.SIGKILL) })
	return func() (int, error) {
		defer cancel()
		status, err := p.Wait()
		stop()
		err = errors.Join(err, sb.Close())
		if ctx.Err() != nil {
			err = fmt.Errorf("cannot finish the %s in time: %w", j.Name, ctx.Err())
		}
		return status, err
	}, nil
}
