package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// checkout is one entry of git-worktree(1), list --porcelain.
type checkout struct {
	path   string
	branch string // full ref; "" when detached
	bare   bool
}

func (r *Repo) checkouts(ctx context.Context) ([]checkout, error) {
	out, err := r.run(ctx, "worktree", "list", "--porcelain", "-z")
	if err != nil {
		return nil, fmt.Errorf("cannot list the worktrees: %w", err)
	}
	var list []checkout
	for _, line := range splitNul(out) {
		key, value, _ := strings.Cut(line, " ")
		switch {
		case key == "worktree":
			list = append(list, checkout{path: value})
		case len(list) == 0:
		case key == "branch":
			list[len(list)-1].branch = value
		case key == "bare":
			list[len(list)-1].bare = true
		}
	}
	return list, nil
}

// FindWorktree is the top folder of the checkout that stands on a branch
// (short name), "" when none does.
func (r *Repo) FindWorktree(ctx context.Context, branch string) (string, error) {
	list, err := r.checkouts(ctx)
	if err != nil {
		return "", err
	}
	for _, c := range list {
		if c.branch == "refs/heads/"+branch && !c.bare {
			return c.path, nil
		}
	}
	return "", nil
}

// target finds what a merge moves: the ref, and the checkout that stands on it.
func (r *Repo) target(ctx context.Context, into string) (*MergeIntent, error) {
	in := &MergeIntent{}
	var err error
	switch {
	case into != "":
		err = r.targetBranch(ctx, in, into)
	case r.Bare:
		// Its HEAD names a branch, which a linked worktree may stand on.
		var ref string
		if ref, err = r.line(ctx, "symbolic-ref", "--quiet", "HEAD"); err == nil {
			err = r.targetBranch(ctx, in, strings.TrimPrefix(ref, "refs/heads/"))
		}
	default:
		in.Worktree, in.GitDir = r.Top, r.GitDir
		in.Ref, err = r.line(ctx, "symbolic-ref", "--quiet", "HEAD")
		if status(err) == 1 {
			in.Ref, err = "HEAD", nil
		}
	}
	if err != nil {
		return nil, err
	}
	if in.Old, err = r.refValue(ctx, in.Ref); err != nil {
		return nil, err
	}
	if in.Old == "" {
		return nil, fmt.Errorf("cannot merge into %s: it has no commit yet", inert(strings.TrimPrefix(in.Ref, "refs/heads/")))
	}
	return in, nil
}

func (r *Repo) targetBranch(ctx context.Context, in *MergeIntent, branch string) error {
	in.Ref = "refs/heads/" + branch
	if _, err := r.run(ctx, "check-ref-format", in.Ref); err != nil {
		return fmt.Errorf("cannot merge into %s: that is no name for a branch", quotePath(branch))
	}
	if id, err := r.refValue(ctx, in.Ref); err != nil || id == "" {
		return errors.Join(err, fmt.Errorf("cannot merge into %s: there is no such branch; make it: git branch %s", quotePath(branch), quotePath(branch)))
	}
	path, err := r.FindWorktree(ctx, branch)
	if err != nil || path == "" {
		return err
	}
	in.Worktree = path
	in.GitDir, err = r.git.gitDirOf(ctx, path)
	return err
}

func (g *Git) gitDirOf(ctx context.Context, top string) (string, error) {
	if _, err := os.Stat(top); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot merge: the branch is checked out at %s, which is gone: git worktree prune", quotePath(top))
	}
	out, err := g.run(ctx, call{dir: top}, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return "", fmt.Errorf("cannot use the checkout at %s: %w", quotePath(top), err)
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// checkIdle refuses a checkout in which git is at work, or in the middle of
// something (gitrepository-layout(5); wt-status.c, wt_status_get_state).
func checkIdle(gitDir string) error {
	for name, what := range map[string]string{
		"MERGE_HEAD": "a merge", "CHERRY_PICK_HEAD": "a cherry-pick", "REVERT_HEAD": "a revert",
		"rebase-merge": "a rebase", "rebase-apply": "a rebase", "sequencer": "a cherry-pick or revert",
	} {
		if _, err := os.Lstat(filepath.Join(gitDir, name)); err == nil {
			return fmt.Errorf("cannot merge: %s is in progress in that checkout; finish or abort it first", what)
		}
	}
	lock := filepath.Join(gitDir, "index.lock")
	if _, err := os.Lstat(lock); err == nil {
		if readMergeLock(gitDir) != "" {
			return errors.New("cannot merge: an earlier merge was cut off; run rcc gc first")
		}
		return fmt.Errorf("cannot merge: another git process is at work in that checkout; if none is, remove %s", quotePath(lock))
	}
	return nil
}

// inTheWay lists the local changes that a merge would overwrite: changed or
// staged files among those that it changes, and untracked ones, ignored or
// not, where it puts something.
func (r *Repo) inTheWay(ctx context.Context, in *MergeIntent) ([]string, error) {
	list, err := r.changes(ctx, in.Old, in.New)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	w := &obstacles{top: in.Worktree, changed: map[string]change{}, parents: map[string]bool{}, seen: map[string]bool{}}
	for _, c := range list {
		w.changed[c.path] = c
		for d := filepath.Dir(c.path); d != "." && !w.parents[d]; d = filepath.Dir(d) {
			w.parents[d] = true
		}
	}
	c := call{dir: in.Worktree}
	if in.Reverse && in.NoFilters {
		// The checkout has the result's attributes, and status reads files.
		if c.env, err = r.git.noFilters(ctx, in.Worktree); err != nil {
			return nil, err
		}
	}
	out, err := r.git.run(ctx, c, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=all")
	if err != nil {
		return nil, fmt.Errorf("cannot look for local changes: %w", err)
	}
	for _, line := range splitNul(out) {
		if len(line) > 3 {
			w.tracked(line[3:])
		}
	}
	for _, c := range list {
		if c.added() {
			w.untracked(c.path)
		}
	}
	return w.found, nil
}

type obstacles struct {
	top     string
	changed map[string]change
	parents map[string]bool // folders above changed paths
	seen    map[string]bool
	found   []string
}

func (w *obstacles) add(path string) {
	if !w.seen[path] {
		w.seen[path] = true
		w.found = append(w.found, path)
	}
}

// tracked takes a path with local changes: in the way when the merge changes
// it, something above it, or something below it.
func (w *obstacles) tracked(path string) {
	if _, ok := w.changed[path]; ok || w.parents[path] {
		w.add(path)
		return
	}
	for d := filepath.Dir(path); d != "."; d = filepath.Dir(d) {
		if _, ok := w.changed[d]; ok {
			w.add(path)
			return
		}
	}
}

// untracked takes a path that the merge adds. Whatever stands there, or in the
// place of a folder above it, is in the way, unless the merge itself takes it
// away.
func (w *obstacles) untracked(path string) {
	for d := filepath.Dir(path); d != "."; d = filepath.Dir(d) {
		fi, err := os.Lstat(filepath.Join(w.top, d))
		if err == nil && !fi.IsDir() && !w.goes(d) {
			w.add(d)
			return
		}
	}
	fi, err := os.Lstat(filepath.Join(w.top, path))
	if err != nil {
		return
	}
	if !fi.IsDir() {
		w.add(path)
		return
	}
	_ = filepath.WalkDir(filepath.Join(w.top, path), func(p string, d fs.DirEntry, err error) error {
		rel, rerr := filepath.Rel(w.top, p)
		if err != nil || rerr != nil {
			w.add(path)
			return filepath.SkipAll
		}
		if !d.IsDir() && !w.goes(rel) {
			w.add(rel)
		}
		return nil
	})
}

// goes says whether the merge deletes a tracked file.
func (w *obstacles) goes(path string) bool {
	c, ok := w.changed[path]
	return ok && c.deleted()
}
