package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A merge is applied under git's own lock, index.lock (gitrepository-layout(5)
// and Documentation/technical/api-lockfile of git), which is made and removed
// here: git itself works on a copy of the index. The steps, and what a SIGKILL
// between them leaves:
//
//	locked   index.lock with our text                nothing else has changed
//	copied   + GitDir/rcc-index, the index's copy
//	tried    (read-tree -n)
//	written  the checkout's files, in part or whole  index and ref are old
//	indexed  the copy renamed to index               files and index are new
//	moved    the ref                                 all is new
//	         index.lock removed
//
// RecoverMerge undoes before "indexed" and finishes after it.

// ourIndex is the copy of the index that a merge works on.
const ourIndex = "rcc-index"

// lockText is what our index.lock says; git's own hold an index or nothing.
const lockText = "rcc merge "

// errHalted ends a merge as a SIGKILL would, in tests.
var errHalted = errors.New("halted")

// step tells tests how far a merge came.
func (r *Repo) step(name string) error {
	if r.halt != nil && r.halt(name) {
		return errHalted
	}
	return nil
}

// ApplyMerge moves the ref, and its checkout when it has one. Either all of it
// happens or, with an error, nothing. Hooks are not run.
func (r *Repo) ApplyMerge(ctx context.Context, in *MergeIntent) error {
	ctx = context.WithoutCancel(ctx) // it takes a moment, and half of it is worse than all
	if in.Worktree == "" {
		return r.moveRef(ctx, in)
	}
	lock, err := lockDir(in.GitDir, 10*time.Second)
	if err != nil {
		return err
	}
	defer lock.unlock()
	if err := checkIdle(in.GitDir); err != nil {
		return err
	}
	if err := r.checkStands(ctx, in); err != nil {
		return err
	}
	if err := lockIndex(in); err != nil {
		return err
	}
	begun, err := r.applyLocked(ctx, in, lock)
	switch {
	case errors.Is(err, errHalted):
		return err
	case err != nil && begun:
		// Out of space, or a file that appeared in this moment: as after a crash.
		return errors.Join(err, r.takeBack(ctx, in))
	}
	return errors.Join(err, unlockIndex(in.GitDir))
}

// checkStands makes sure that the checkout is still what the plan was made for.
func (r *Repo) checkStands(ctx context.Context, in *MergeIntent) error {
	now, err := r.git.headOf(ctx, in.Worktree)
	if err != nil {
		return err
	}
	value, err := r.refIn(ctx, in)
	if err != nil {
		return err
	}
	if now != in.Ref || value != in.Old {
		branch := inert(strings.TrimPrefix(in.Ref, "refs/heads/"))
		if in.Reverse {
			return fmt.Errorf("cannot undo the merge of %s: %s has moved on since; take it back by hand, with git revert", in.ID, branch)
		}
		return fmt.Errorf("cannot merge: %s has moved since; try again", branch)
	}
	local, err := r.inTheWay(ctx, in)
	if err == nil && len(local) > 0 {
		err = &ConflictError{Local: local, Undo: in.Reverse}
	}
	return err
}

// headOf is the full name of the branch that a checkout stands on, HEAD when
// it stands on none.
func (g *Git) headOf(ctx context.Context, top string) (string, error) {
	out, err := g.run(ctx, call{dir: top}, "symbolic-ref", "--quiet", "HEAD")
	if status(err) == 1 {
		return "HEAD", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read HEAD: %w", err)
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// refIn is the value of the merge's ref, read in its own checkout: HEAD differs
// from one to the other.
func (r *Repo) refIn(ctx context.Context, in *MergeIntent) (string, error) {
	there := *r
	if in.Worktree != "" {
		there.Path = in.Worktree
	}
	return there.refValue(ctx, in.Ref)
}

// applyLocked does the work under the lock. begun says that files may have
// changed when it fails.
func (r *Repo) applyLocked(ctx context.Context, in *MergeIntent, lock *dirLock) (begun bool, err error) {
	if err := r.step("locked"); err != nil {
		return false, err
	}
	if err := copyIndex(in.GitDir); err != nil {
		return false, fmt.Errorf("cannot copy the index: %w", err)
	}
	if err := r.step("copied"); err != nil {
		return false, err
	}
	c, err := r.onCheckout(ctx, in)
	if err != nil {
		return false, err
	}
	c.files = []*os.File{lock.f}
	if err := r.refresh(ctx, in, c); err != nil {
		return false, err
	}
	// git-read-tree(1), "Two Tree Merge": files that are the same in both trees
	// may have local changes, files that differ must have none. -n only tries.
	readTree := func(n ...string) error {
		args := append(append([]string{"read-tree"}, n...), "-m", "-u", "--no-recurse-submodules", in.Old, in.New)
		_, err := r.git.run(ctx, c, args...)
		if err != nil {
			err = fmt.Errorf("cannot merge: %w", err)
		}
		return err
	}
	if err := errors.Join(readTree("-n"), r.step("tried")); err != nil {
		return false, err
	}
	if err := readTree(); err != nil {
		return true, err
	}
	if err := r.step("written"); err != nil {
		return true, err
	}
	if err := os.Rename(filepath.Join(in.GitDir, ourIndex), filepath.Join(in.GitDir, "index")); err != nil {
		return true, fmt.Errorf("cannot replace the index: %w", err)
	}
	if err := r.step("indexed"); err != nil {
		return true, err
	}
	if err := r.moveRef(ctx, in); err != nil {
		return true, err
	}
	return true, r.step("moved")
}

// refresh brings the times in the copy of the index up to date. read-tree goes
// by them alone, and a file that was only touched, or written again with what it
// had, would be refused as changed. Before a merge the checkout has the user's
// own attributes, and the user's filters apply; before one is taken back it has
// the result's.
func (r *Repo) refresh(ctx context.Context, in *MergeIntent, c call) error {
	if !in.Reverse {
		c.env = []string{"GIT_INDEX_FILE=" + filepath.Join(in.GitDir, ourIndex)}
	}
	_, err := r.git.run(ctx, c, "update-index", "-q", "--refresh")
	if status(err) == 1 { // some files are changed; whether they matter is read-tree's to say
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look for local changes: %w", err)
	}
	return nil
}

// onCheckout is a call of git on the merge's checkout with the copy of its
// index. When the result chooses attributes, no filter driver runs: smudge,
// clean and process are empty, which is as if they were not there
// (convert.c, apply_filter).
func (r *Repo) onCheckout(ctx context.Context, in *MergeIntent) (call, error) {
	c := call{dir: in.Worktree, apart: true, env: []string{"GIT_INDEX_FILE=" + filepath.Join(in.GitDir, ourIndex)}}
	if !in.NoFilters {
		return c, nil
	}
	env, err := r.git.noFilters(ctx, in.Worktree)
	c.env = append(c.env, env...)
	return c, err
}

// noFilters is the environment that neutralises every filter driver that the
// configuration names. Variables can carry any name; -c cannot hold one with
// an equals sign (git(1), GIT_CONFIG_COUNT).
func (g *Git) noFilters(ctx context.Context, dir string) ([]string, error) {
	conf, err := g.readConfig(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the git configuration: %w", err)
	}
	var env []string
	n := 0
	for _, name := range conf.filterDrivers() {
		for _, kv := range [][2]string{{"smudge", ""}, {"clean", ""}, {"process", ""}, {"required", "false"}} {
			env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=filter.%s.%s", n, name, kv[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", n, kv[1]))
			n++
		}
	}
	return append(env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", n)), nil
}

// moveRef moves the ref by compare-and-swap. With a checkout it is done there,
// so that HEAD's log has it too.
func (r *Repo) moveRef(ctx context.Context, in *MergeIntent) error {
	there := *r
	if in.Worktree != "" {
		there.Path, there.GitDir = in.Worktree, in.GitDir
	}
	why := "rcc merge " + in.ID
	if in.Reverse {
		why = "rcc undo merge " + in.ID
	}
	return there.setRef(ctx, in.Ref, in.New, in.Old, why)
}

func copyIndex(gitDir string) error {
	copied := filepath.Join(gitDir, ourIndex)
	if err := os.Remove(copied); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	in, err := os.Open(filepath.Join(gitDir, "index"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // as git has it when nothing was ever checked out
	}
	if err != nil {
		return err
	}
	defer in.Close()
	return copyKeepingTime(in, copied)
}

// lockIndex takes git's lock on the index. The text is written under another
// name first, so that the lock is never seen without it.
func lockIndex(in *MergeIntent) error {
	tmp := filepath.Join(in.GitDir, "rcc-lock")
	defer os.Remove(tmp)
	if err := os.WriteFile(tmp, []byte(lockText+in.ID+"\n"), 0o644); err != nil {
		return fmt.Errorf("cannot lock the index: %w", err)
	}
	err := os.Link(tmp, filepath.Join(in.GitDir, "index.lock"))
	if errors.Is(err, fs.ErrExist) {
		return checkIdle(in.GitDir)
	}
	if err != nil {
		return fmt.Errorf("cannot lock the index: %w", err)
	}
	return nil
}

// readMergeLock is the id of the task whose merge holds the index, "" when it
// is not locked by a merge of ours.
func readMergeLock(gitDir string) string {
	path := filepath.Join(gitDir, "index.lock")
	if fi, err := os.Lstat(path); err != nil || !fi.Mode().IsRegular() || fi.Size() > 400 {
		return ""
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	id, ok := strings.CutPrefix(strings.TrimSuffix(string(data), "\n"), lockText)
	if !ok {
		return ""
	}
	return id
}

// unlockIndex ends a merge: what is left of it in the git directory goes, the
// lock last.
func unlockIndex(gitDir string) error {
	for _, name := range []string{ourIndex + ".lock", ourIndex, "rcc-lock", "index.lock"} {
		if err := os.Remove(filepath.Join(gitDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot clean up after the merge: %w", err)
		}
	}
	return nil
}
