package worktree

import (
	"context"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// trackedPaths is what git keeps at, below and above the roots.
type trackedPaths struct {
	files   map[string]bool // of the commit and of the index; links and submodules too
	folders map[string]bool // with any of these below
}

// trackedAt asks git for the paths. Where there are many roots it is asked for
// all there are: they would not fit a command line.
func (r *Repo) trackedAt(ctx context.Context, tree string, roots []string) (*trackedPaths, error) {
	t := &trackedPaths{files: map[string]bool{}, folders: map[string]bool{}}
	above := map[string]bool{}
	for _, root := range roots {
		for d := path.Dir(root); d != "." && !above[d]; d = path.Dir(d) {
			above[d] = true
		}
	}
	parents := make([]string, 0, len(above))
	for d := range above {
		parents = append(parents, d)
	}
	if size := len(strings.Join(roots, " ")) + len(strings.Join(parents, " ")); size > 64<<10 {
		roots, parents = nil, nil
	}
	done := make(chan error, 1)
	go func() {
		if tree == "" {
			done <- nil
			return
		}
		done <- r.trackedIn(ctx, t, tree, roots, parents)
	}()
	index, err := r.git.run(ctx, call{dir: r.Top}, append([]string{"--literal-pathspecs", "ls-files", "-z", "--cached", "--"}, roots...)...)
	if terr := <-done; terr != nil {
		return nil, terr
	}
	if err != nil {
		return nil, err
	}
	for _, p := range splitNul(index) {
		p = strings.TrimSuffix(p, "/") // it marks a folder of a sparse index
		t.files[p] = true
		for d := path.Dir(p); d != "." && !t.folders[d]; d = path.Dir(d) {
			t.folders[d] = true
		}
	}
	return t, nil
}

func (r *Repo) trackedIn(ctx context.Context, t *trackedPaths, tree string, roots, parents []string) error {
	list := func(recurse string, paths []string) error {
		out, err := r.git.run(ctx, call{dir: r.Top}, append([]string{"--literal-pathspecs", "ls-tree", "-z", "-t", "--full-tree", recurse, tree, "--"}, paths...)...)
		for _, entry := range splitNul(out) {
			meta, p, _ := strings.Cut(entry, "\t")
			if strings.HasPrefix(meta, "040000 ") {
				t.folders[p] = true
			} else {
				t.files[p] = true
			}
		}
		return err
	}
	if err := list("-r", roots); err != nil || len(parents) == 0 {
		return err
	}
	slices.Sort(parents)
	return list("-t", parents)
}

// untracked takes what is tracked, or would cover such, out of the roots.
func (f *carryFinder) untracked(tops []carriedTop, t *trackedPaths) []carriedTop {
	if len(t.files) == 0 && len(t.folders) == 0 {
		return tops
	}
	var kept []carriedTop
	for _, top := range tops {
		over := ""
		for d := top.path; d != "." && over == ""; d = path.Dir(d) {
			if t.files[d] {
				over = d
			}
		}
		switch {
		case over != "" && (over != top.path || top.dir != nil):
			f.note("not carried along, %s is tracked as a file: %s", quotePath(over), quotePath(top.path))
			continue
		case over != "":
			continue // tracked itself, so the task has it
		case top.dir == nil && t.folders[top.path]:
			f.note("not carried along, there is a folder with tracked files in its place: %s", quotePath(top.path))
			continue
		case top.dir != nil && t.folders[top.path]:
			kept = f.split(kept, top.dir, t)
		default:
			kept = append(kept, top)
		}
	}
	return kept
}

// split adds what is not tracked in a folder that has tracked files in it, so
// that of each path that is carried all that is below it is.
func (f *carryFinder) split(kept []carriedTop, d *carriedDir, t *trackedPaths) []carriedTop {
	add := func(top carriedTop) {
		if utf8.ValidString(top.path) {
			kept = append(kept, top)
		} else {
			f.note("not carried along, its path is not UTF-8: %s", quotePath(top.path))
		}
	}
	for _, e := range d.files {
		if at := path.Join(d.path, e.name); !t.files[at] && !t.folders[at] {
			add(carriedTop{path: at, file: e})
		}
	}
	for _, sub := range d.dirs {
		switch {
		case t.files[sub.path]:
		case t.folders[sub.path]:
			kept = f.split(kept, sub, t)
		default:
			add(carriedTop{path: sub.path, dir: sub})
		}
	}
	return kept
}
