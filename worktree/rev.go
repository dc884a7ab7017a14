package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// branchPrefix is where results live. Nothing else in refs/ is rcc's.
const branchPrefix = "refs/heads/rcc/"

// errUnborn is what every command that needs a commit says without one.
var errUnborn = errors.New("the repository has no commit yet; make one first: git commit --allow-empty -m start")

// Resolve finds the commit that rev names. rev is what somebody typed: it is
// never taken for an option.
func (r *Repo) Resolve(ctx context.Context, rev string) (string, error) {
	if rev == "" || strings.ContainsAny(rev, "\x00\n") {
		return "", fmt.Errorf("cannot find the revision %q", inert(rev))
	}
	id, err := r.line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if err == nil && isID(id, r.Format) {
		return id, nil
	}
	// ":/text" takes everything after it as text, "^{commit}" too.
	if id, err = r.line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", rev); err == nil && isID(id, r.Format) {
		if id, err = r.line(ctx, "rev-parse", "--verify", "--quiet", id+"^{commit}"); err == nil && isID(id, r.Format) {
			return id, nil
		}
		return "", fmt.Errorf("cannot use the revision %s: it is not a commit", quotePath(rev))
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if rev == "HEAD" || rev == "@" {
		if _, err := r.run(ctx, "symbolic-ref", "--quiet", "HEAD"); err == nil {
			return "", errUnborn
		}
	}
	return "", fmt.Errorf("cannot find the revision %s: git log --all --oneline shows what there is", quotePath(rev))
}

// maxFile bounds what ReadFile returns.
const maxFile = 1 << 20

// ReadFile returns the content of a regular file at a commit, at most 1 MiB.
// The second result is false when there is no such file.
func (r *Repo) ReadFile(ctx context.Context, commit, path string) ([]byte, bool, error) {
	out, err := r.run(ctx, "--literal-pathspecs", "ls-tree", "-z", "-l", "--full-tree", commit, "--", path)
	if err != nil {
		return nil, false, fmt.Errorf("cannot read %s at %s: %w", quotePath(path), short(commit), err)
	}
	for _, entry := range splitNul(out) {
		meta, name, _ := strings.Cut(entry, "\t")
		f := strings.Fields(meta) // mode type id size
		if name != path || len(f) != 4 {
			continue
		}
		if f[0] != "100644" && f[0] != "100755" {
			return nil, false, fmt.Errorf("cannot read %s at %s: it is not a regular file", quotePath(path), short(commit))
		}
		if size, err := strconv.ParseInt(f[3], 10, 64); err != nil || size > maxFile {
			return nil, false, fmt.Errorf("cannot read %s at %s: it is larger than %d KiB", quotePath(path), short(commit), maxFile>>10)
		}
		data, err := r.run(ctx, "cat-file", "blob", f[2])
		if err != nil {
			return nil, false, fmt.Errorf("cannot read %s at %s: %w", quotePath(path), short(commit), err)
		}
		return data, true, nil
	}
	return nil, false, nil
}

// Notes says in plain sentences what a task's tree at commit will lack, or
// have more of, than the user's checkout.
func (r *Repo) Notes(ctx context.Context, s *Sight) ([]string, error) {
	commit := s.Commit
	var notes []string
	if r.Sparse {
		notes = append(notes, "the checkout is sparse; the task has the whole tree")
	}
	if r.PartialClone {
		notes = append(notes, "the repository is a partial clone; objects that were not fetched are missing in the task")
	}
	for _, file := range []string{".gitmodules", ".gitattributes"} {
		if !s.Has(file) {
			continue
		}
		data, ok, err := r.ReadFile(ctx, commit, file)
		if err != nil || !ok {
			continue // a strange one is the checkout's own matter
		}
		if file == ".gitattributes" {
			if bytes.Contains(data, []byte("filter=lfs")) {
				notes = append(notes, "files kept by Git LFS are pointers in the task: their content is not fetched")
			}
			continue
		}
		out, err := r.run(ctx, "config", "-z", "--blob", commit+":.gitmodules", "--get-regexp", `^submodule\..*\.path$`)
		if err != nil && status(err) != 1 {
			return notes, fmt.Errorf("cannot read .gitmodules: %w", err)
		}
		var paths []string
		for _, entry := range splitNul(out) {
			_, path, _ := strings.Cut(entry, "\n")
			paths = append(paths, path)
		}
		if len(paths) > 0 {
			notes = append(notes, "submodules are empty folders in the task: "+some(paths))
		}
	}
	return notes, nil
}

// HeadBranch is the short name of the current branch, "" when HEAD is detached.
func (r *Repo) HeadBranch(ctx context.Context) (string, error) {
	ref, err := r.line(ctx, "symbolic-ref", "--quiet", "HEAD")
	if status(err) == 1 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read HEAD: %w", err)
	}
	return strings.TrimPrefix(ref, "refs/heads/"), nil
}

// Tip is the commit of refs/heads/rcc/<id>, "" when there is no such branch.
func (r *Repo) Tip(ctx context.Context, id string) (string, error) {
	return r.refValue(ctx, branchPrefix+id)
}

// Branches are the tips of all results, by task id, from one process.
func (r *Repo) Branches(ctx context.Context) (map[string]string, error) {
	out, err := r.run(ctx, "for-each-ref", "--format=%(objectname) %(refname)", branchPrefix)
	if err != nil {
		return nil, fmt.Errorf("cannot list the branches of rcc: %w", err)
	}
	tips := map[string]string{}
	for line := range strings.Lines(string(out)) {
		id, ref, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		tips[strings.TrimPrefix(ref, branchPrefix)] = id
	}
	return tips, nil
}

// refValue is the object that a full ref name stands for, "" when it is absent.
func (r *Repo) refValue(ctx context.Context, ref string) (string, error) {
	id, err := r.line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", ref)
	if status(err) == 1 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", ref, err)
	}
	return id, nil
}

// isAncestor says whether a is b or lies in b's history.
func (r *Repo) isAncestor(ctx context.Context, a, b string) (bool, error) {
	_, err := r.run(ctx, "merge-base", "--is-ancestor", a, b)
	switch status(err) {
	case 0:
		return true, nil
	case 1:
		return false, nil
	}
	return false, fmt.Errorf("cannot compare %s with %s: %w", short(a), short(b), err)
}

// treeOf is the id of a commit's tree.
func (r *Repo) treeOf(ctx context.Context, commit string) (string, error) {
	return r.line(ctx, "rev-parse", "--verify", "--quiet", commit+"^{tree}")
}

// short is an id as it appears in messages.
func short(id string) string {
	if len(id) > 10 {
		return id[:10]
	}
	return id
}

// checkTaskID guards the paths and refs that are made from a task's id. The
// rules for what a user may choose are the caller's and stricter.
func checkTaskID(id string) error {
	bad := id == "" || len(id) > 200 || id[0] == '.' || id[0] == '-' ||
		strings.Contains(id, "..") || strings.HasSuffix(id, ".") || strings.HasSuffix(id, ".lock")
	for i := range len(id) {
		c := id[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
		bad = bad || !ok
	}
	if bad {
		return fmt.Errorf("cannot use %q as a task id", inert(id))
	}
	return nil
}
