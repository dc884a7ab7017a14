package worktree

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Stat is how much a change set is.
type Stat struct {
	Files   int
	Added   int      // lines; binary files count none
	Removed int      // lines
	Paths   []string // every path that it touches, both names of a rename
}

// Stat counts what changed from base to tip. Renames are found as git diff
// finds them.
func (r *Repo) Stat(ctx context.Context, base, tip string) (Stat, error) {
	return r.stat(ctx, call{dir: r.dir()}, base, tip)
}

// Stat counts what a harvested result changes, before it is accepted.
func (t *Tree) Stat(ctx context.Context, r *Repo, tip string) (Stat, error) {
	return r.stat(ctx, t.onIncoming(call{}), t.Base, tip)
}

func (r *Repo) stat(ctx context.Context, c call, base, tip string) (Stat, error) {
	out, err := r.git.run(ctx, c, diffArgs("--numstat", "-z", base, tip)...)
	if err != nil {
		return Stat{}, fmt.Errorf("cannot compare %s with %s: %w", short(base), short(tip), err)
	}
	return parseNumstat(splitNul(out))
}

// parseNumstat reads git-diff-tree(1), --numstat -z: "added TAB removed TAB
// path", or, for a rename, an empty path and then both names.
func parseNumstat(fields []string) (Stat, error) {
	var s Stat
	for i := 0; i < len(fields); i++ {
		part := strings.SplitN(fields[i], "\t", 3)
		if len(part) != 3 {
			return Stat{}, fmt.Errorf("cannot read the output of git diff-tree")
		}
		added, _ := strconv.Atoi(part[0]) // "-" for a binary file
		removed, _ := strconv.Atoi(part[1])
		s.Files++
		s.Added += added
		s.Removed += removed
		if part[2] != "" {
			s.Paths = append(s.Paths, part[2])
			continue
		}
		if i+2 >= len(fields) {
			return Stat{}, fmt.Errorf("cannot read the output of git diff-tree")
		}
		s.Paths = append(s.Paths, fields[i+1], fields[i+2])
		i += 2
	}
	return s, nil
}

// DiffOptions say how a diff is written.
type DiffOptions struct {
	Stat  bool // a summary instead of the patch
	Brief bool // for people: binary files are only named
}

// Diff writes what changed from base to tip: unless it is brief, a patch that git
// apply takes, binary files included. It has no colours: those of git could not
// be told from those that stand in the files. It runs no program: no external diff
// and no textconv, whatever attributes and configuration say.
func (r *Repo) Diff(ctx context.Context, base, tip string, opt DiffOptions, out io.Writer) error {
	format := []string{"--patch"}
	switch {
	case opt.Stat:
		format = []string{"--stat"}
	case !opt.Brief:
		format = append(format, "--binary")
	}
	_, err := r.git.run(ctx, call{dir: r.dir(), out: out}, diffArgs(append(format, "--color=never", base, tip)...)...)
	if err != nil {
		return fmt.Errorf("cannot compare %s with %s: %w", short(base), short(tip), err)
	}
	return nil
}

// diffArgs uses diff-tree rather than diff: what git-config(1) lists under
// diff.* for people (prefixes, relative paths, word diffs) does not apply to it,
// so the patch is the same everywhere.
func diffArgs(args ...string) []string {
	return append([]string{
		"diff-tree", "-r", "--find-renames", "--no-ext-diff", "--no-textconv", "--submodule=short", "--ignore-submodules=none",
		"--src-prefix=a/", "--dst-prefix=b/", "--no-relative",
	}, args...)
}

// change is one path that differs between two commits, without renames.
type change struct {
	path             string
	oldMode, newMode string // "000000" where it does not exist
	oldID, newID     string
}

func (c change) added() bool   { return c.oldMode == "000000" }
func (c change) deleted() bool { return c.newMode == "000000" }

// changes lists the paths that differ between two commits.
func (r *Repo) changes(ctx context.Context, old, new string) ([]change, error) {
	out, err := r.run(ctx, "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--ignore-submodules=none", "--end-of-options", old, new)
	if err != nil {
		return nil, fmt.Errorf("cannot compare %s with %s: %w", short(old), short(new), err)
	}
	f := splitNul(out)
	if len(f)%2 != 0 {
		return nil, fmt.Errorf("cannot read the output of git diff-tree")
	}
	var list []change
	for i := 0; i < len(f); i += 2 {
		m := strings.Fields(strings.TrimPrefix(f[i], ":"))
		if len(m) != 5 {
			return nil, fmt.Errorf("cannot read the output of git diff-tree")
		}
		list = append(list, change{path: f[i+1], oldMode: m[0], newMode: m[1], oldID: m[2], newID: m[3]})
	}
	return list, nil
}
