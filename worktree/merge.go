package worktree

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// MergeMode says how a result comes into a branch.
type MergeMode string

const (
	Merge  MergeMode = ""        // fast-forward when possible, else a merge commit
	Squash MergeMode = "squash"  // one commit
	Rebase MergeMode = "rebase"  // the task's commits, one by one
	FFOnly MergeMode = "ff-only" // or not at all
)

// MergeSpec says what to merge where.
type MergeSpec struct {
	ID      string
	Base    string // what the agent started from
	Start   string // the commit that was asked for
	Tip     string // what was reviewed
	Mode    MergeMode
	Into    string // a branch; "": what this checkout stands on
	Subject string // first line of a merge's or squash's message; a plain one by default
}

// MergeIntent is a merge that was computed and not yet applied. It is plain
// data: whoever records it before ApplyMerge can call RecoverMerge after a
// crash, and UndoMerge later.
type MergeIntent struct {
	ID        string
	Worktree  string // top folder of the checkout that moves along; "" when there is none
	GitDir    string // of that checkout
	Ref       string // refs/heads/…, or HEAD when it is detached
	Old, New  string // commits of Ref, before and after
	NoFilters bool   // the result changes .gitattributes: no filter driver is run
	Reverse   bool   // this takes a merge back
}

// ErrNothing is returned when the target has the result already.
var ErrNothing = errors.New("there is nothing to merge: the branch has it already")

// ConflictError is a merge that cannot be done now. Nothing was moved.
type ConflictError struct {
	Conflicts []string // paths that both sides changed
	Local     []string // paths with local changes, or untracked files, in the way
	Undo      bool     // a merge was to be taken back
	Commit    string   // the task's commit that conflicts, when rebasing
}

func (e *ConflictError) Error() string {
	switch {
	case e.Undo:
		return "cannot undo the merge: local changes are in the way, commit, stash or remove them: " + some(e.Local)
	case len(e.Local) > 0:
		return "cannot merge: local changes are in the way, commit, stash or remove them: " + some(e.Local)
	case e.Commit != "":
		return "cannot merge: commit " + short(e.Commit) + " conflicts in " + some(e.Conflicts) + "; merge the branch by hand, or try another mode"
	}
	return "cannot merge: conflicts in " + some(e.Conflicts) + "; merge the branch by hand, or ask for another task on top of the branch"
}

// PlanMerge computes the commit that a merge would make. It writes objects and
// moves nothing.
func (r *Repo) PlanMerge(ctx context.Context, spec MergeSpec) (*MergeIntent, error) {
	to, err := r.target(ctx, spec.Into)
	if err != nil {
		return nil, err
	}
	if to.Ref == branchPrefix+spec.ID {
		return nil, fmt.Errorf("cannot merge rcc/%s into itself; change to another checkout, or use --into", spec.ID)
	}
	to.ID = spec.ID
	m := merger{r: r, ctx: ctx, spec: spec, onto: to.Old}
	if to.New, err = m.compute(); err != nil {
		return nil, err
	}
	if to.NoFilters, err = r.changesAttributes(ctx, [][2]string{{spec.Base, spec.Tip}, {to.Old, to.New}}); err != nil {
		return nil, err
	}
	if to.Worktree == "" {
		return to, nil
	}
	if err := checkIdle(to.GitDir); err != nil {
		return nil, err
	}
	local, err := r.inTheWay(ctx, to)
	if err != nil {
		return nil, err
	}
	if len(local) > 0 {
		return nil, &ConflictError{Local: local}
	}
	return to, nil
}

// changesAttributes says whether any of the pairs of commits differ in a file
// of attributes. Those select filter drivers (gitattributes(5)), which are
// programs of the user's configuration: the result must not choose them.
func (r *Repo) changesAttributes(ctx context.Context, pairs [][2]string) (bool, error) {
	for _, p := range pairs {
		list, err := r.changes(ctx, p[0], p[1])
		if err != nil {
			return false, err
		}
		for _, c := range list {
			if strings.EqualFold(c.path[strings.LastIndexByte(c.path, '/')+1:], ".gitattributes") {
				return true, nil
			}
		}
	}
	return false, nil
}

// merger computes one merge.
type merger struct {
	r    *Repo
	ctx  context.Context
	spec MergeSpec
	onto string // commit of the target
	// carried: the snapshot of uncommitted work (--dirty) is in the result's
	// history. It is nobody's commit, so it never enters the target's.
	carried bool
}

func (m *merger) compute() (string, error) {
	s := m.spec
	var err error
	if s.Base != s.Start {
		if m.carried, err = m.r.isAncestor(m.ctx, s.Base, s.Tip); err != nil {
			return "", err
		}
	}
	if s.Tip == s.Base {
		return "", ErrNothing
	}
	if done, err := m.r.isAncestor(m.ctx, s.Tip, m.onto); err != nil || done {
		return "", errors.Join(err, nothingIf(done))
	}
	if m.carried && s.Mode == Merge {
		s.Mode, m.spec.Mode = Rebase, Rebase
	}
	switch s.Mode {
	case Merge, FFOnly:
		return m.merge()
	case Squash:
		return m.squash()
	case Rebase:
		return m.rebase()
	}
	return "", fmt.Errorf("cannot merge: the mode %q is not known", s.Mode)
}

func nothingIf(done bool) error {
	if done {
		return ErrNothing
	}
	return nil
}

func (m *merger) merge() (string, error) {
	forward := false
	if !m.carried {
		var err error
		if forward, err = m.r.isAncestor(m.ctx, m.onto, m.spec.Tip); err != nil {
			return "", err
		}
	}
	switch {
	case forward:
		return m.spec.Tip, nil
	case m.carried:
		return "", errors.New("cannot fast-forward: the task started from uncommitted work (--dirty); use --rebase or --squash")
	case m.spec.Mode == FFOnly:
		return "", errors.New("cannot fast-forward: the branch has commits that the task did not start from; leave --ff-only out")
	}
	tree, err := m.mergeTrees(m.onto, m.spec.Tip)
	if err != nil {
		return "", err
	}
	return m.commit(tree, m.subject("Merge task "+m.spec.ID)+"\n", m.onto, m.spec.Tip)
}

// squash makes one commit of all that the task changed.
func (m *merger) squash() (string, error) {
	ours := m.onto
	if m.carried {
		// The target's tree, as a child of the snapshot: that is then the merge
		// base, and what the snapshot itself changed stays out.
		var err error
		if ours, err = m.pretend(m.onto, m.spec.Base); err != nil {
			return "", err
		}
	}
	tree, err := m.mergeTrees(ours, m.spec.Tip)
	if err != nil {
		return "", err
	}
	before, err := m.r.treeOf(m.ctx, m.onto)
	if err != nil {
		return "", err
	}
	if tree == before {
		return "", ErrNothing
	}
	message, err := m.squashMessage()
	if err != nil {
		return "", err
	}
	return m.commit(tree, message, m.onto)
}

func (m *merger) squashMessage() (string, error) {
	out, err := m.r.run(m.ctx, "log", "--reverse", "--format=%s", m.spec.Tip, "--not", m.spec.Base, m.onto)
	if err != nil {
		return "", fmt.Errorf("cannot list the task's commits: %w", err)
	}
	message := m.subject("Squashed task "+m.spec.ID) + "\n"
	for i, subject := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		if i == 0 {
			message += "\n"
		}
		message += "* " + inert(subject) + "\n"
	}
	return message, nil
}

func (m *merger) subject(plain string) string {
	if s := strings.TrimSpace(inert(m.spec.Subject)); s != "" {
		return s
	}
	return plain
}

// mergeTrees merges two commits and returns the tree (git-merge-tree(1)). It
// touches no index and no file. Merge drivers are chosen by the attributes of
// the user's own checkout; those of the result are not looked at.
func (m *merger) mergeTrees(ours, theirs string) (string, error) {
	out, err := m.r.run(m.ctx, "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", "--end-of-options", ours, theirs)
	f := splitNul(out)
	switch {
	case err == nil && len(f) == 1 && isID(f[0], m.r.Format):
		return f[0], nil
	case status(err) == 1 && len(f) > 0:
		return "", &ConflictError{Conflicts: unique(f[1:])}
	case strings.Contains(stderrOf(err), "unrelated histories"):
		return "", errors.New("cannot merge: the result shares no history with the branch; use --squash of a task that keeps its history")
	case err == nil:
		err = errors.New("git merge-tree: its output cannot be read")
	}
	return "", fmt.Errorf("cannot merge: %w", err)
}

func unique(list []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range list {
		if s != "" && !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// commit makes a commit of the user's, signed when the configuration asks for
// it (commit.gpgSign in git-config(1), which commit-tree does not read).
func (m *merger) commit(tree, message string, parents ...string) (string, error) {
	return m.commitAs(call{config: m.r.identConfig()}, tree, message, parents...)
}

func (m *merger) commitAs(c call, tree, message string, parents ...string) (string, error) {
	args := []string{"commit-tree"}
	if m.r.config.bool("commit.gpgsign") {
		args = append(args, "-S")
	}
	return m.commitTree(c, args, tree, message, parents...)
}

func (m *merger) commitTree(c call, args []string, tree, message string, parents ...string) (string, error) {
	for _, p := range parents {
		args = append(args, "-p", p)
	}
	c.dir, c.in = m.r.dir(), strings.NewReader(message)
	out, err := m.r.git.run(m.ctx, c, append(args, tree)...)
	if err != nil {
		return "", fmt.Errorf("cannot make the commit: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
