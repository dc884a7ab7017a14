package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// roots are the paths that the lines select, each with all that is below it.
func (f *carryFinder) roots(lines []string) ([]string, error) {
	// With core.ignoreCase git compares names in its own way.
	if p, ok := plain(lines); ok && !f.r.config.bool("core.ignorecase") {
		roots, err := f.plainRoots(p)
		// check-ignore gives up over a path in a submodule, ls-files does not.
		if status(err) != 128 {
			return roots, err
		}
	}
	var ignored, matching []string
	var err error
	done := make(chan error, 1)
	go func() {
		var err error
		ignored, err = f.others(f.ctx, nil, nil, "--exclude-standard")
		done <- err
	}()
	matching, err = f.matching(lines)
	if err = errors.Join(err, <-done); err != nil {
		return nil, err
	}
	return f.ignoredIn(common(ignored, matching))
}

// ignoredIn are those of the paths that git ignores, and what it ignores in the
// others: git lists a folder that has only ignored files as one entry, also when
// the next file in it would not be ignored (dir.c, treat_directory). What a task
// makes there must not be taken for carried.
func (f *carryFinder) ignoredIn(paths []string) ([]string, error) {
	var roots []string
	for depth := 0; len(paths) > 0 && depth < deepest; depth++ {
		in := strings.NewReader(strings.Join(paths, "\x00") + "\x00")
		out, err := f.r.git.run(f.ctx, call{dir: f.r.Top, in: in}, "check-ignore", "--no-index", "--stdin", "-z")
		if err != nil && status(err) != 1 { // 1: none
			return nil, err
		}
		is := map[string]bool{}
		for _, root := range splitNul(out) {
			is[root] = true
			roots = append(roots, root)
		}
		var below []string
		for _, p := range paths {
			if !is[p] {
				below = append(below, f.entriesOf(p)...)
			}
		}
		paths = below
	}
	return roots, nil
}

// entriesOf are the paths in a folder; none if it is no folder, or a repository.
func (f *carryFinder) entriesOf(dir string) (paths []string) {
	fd, err := openBeneath(f.root, dir)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	entries, err := readFolder(fd)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.name == ".git" {
			return nil
		}
		paths = append(paths, path.Join(dir, e.name))
	}
	return paths
}

// others lists the untracked files that the given option excludes. A folder
// with nothing else in it is one entry (git-ls-files(1), --directory). git
// enters no repository inside the checkout.
func (f *carryFinder) others(ctx context.Context, files []*os.File, only []string, exclude string) ([]string, error) {
	args := append([]string{"--literal-pathspecs", "ls-files", "-z", "--others", "--ignored", "--directory", exclude, "--"}, only...)
	out, err := f.r.git.run(ctx, call{dir: f.r.Top, files: files}, args...)
	return splitNul(out), err
}

// matching lists the untracked files that the lines match. They are given to
// git in a file of memory: it reads no pipe (dir.c, add_patterns, goes by the
// size of the file).
func (f *carryFinder) matching(lines []string) ([]string, error) {
	fd, err := unix.MemfdCreate("patterns", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "patterns")
	defer file.Close()
	if _, err := file.WriteString(strings.Join(lines, "\n") + "\n"); err != nil {
		return nil, err
	}
	return f.others(f.ctx, []*os.File{file}, nil, "--exclude-from=/proc/self/fd/3")
}

// common are the paths that are in, or below an entry of, both lists. Entries
// that end with a slash are folders.
func common(a, b []string) []string {
	var both []string
	for _, lists := range [2][2][]string{{a, b}, {b, a}} {
		in := map[string]bool{}
		for _, p := range lists[1] {
			in[p] = true
		}
		for _, p := range lists[0] {
			if in[p] || underAny(p, in) {
				both = append(both, strings.TrimSuffix(p, "/"))
			}
		}
	}
	return both
}

// underAny says whether a folder of p is in the set, with its slash.
func underAny(p string, folders map[string]bool) bool {
	for i := range len(p) - 1 {
		if p[i] == '/' && folders[p[:i+1]] {
			return true
		}
	}
	return false
}

// plainRoots looks for the names and asks git which of them it ignores: some
// thousand folders are read in a tenth of the time that git needs for it.
func (f *carryFinder) plainRoots(p plainPatterns) ([]string, error) {
	found, err := f.lookFor(p)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	slices.Sort(found)
	// --no-index saves reading the index; what is tracked is taken out later.
	in := strings.NewReader(strings.Join(found, "\x00") + "\x00")
	out, err := f.r.git.run(f.ctx, call{dir: f.r.Top, in: in}, "check-ignore", "--no-index", "--stdin", "-z")
	if err != nil && status(err) != 1 { // 1: none
		return nil, err
	}
	roots := splitNul(out)
	is := map[string]bool{}
	for _, root := range roots {
		is[root] = true
	}
	// In a folder that is not ignored itself there may be files that are.
	var rest []string
	for _, path := range found {
		if !is[path] {
			rest = append(rest, path)
		}
	}
	for batch := range slices.Chunk(rest, 1000) {
		more, err := f.others(f.ctx, nil, batch, "--exclude-standard")
		if err != nil {
			return nil, err
		}
		for i := range more {
			more[i] = strings.TrimSuffix(more[i], "/")
		}
		if more, err = f.ignoredIn(more); err != nil {
			return nil, err
		}
		roots = append(roots, more...)
	}
	return roots, nil
}

// lookFor finds the files and folders of these names in the checkout. What is
// below one that was found, and repositories inside, are not searched.
func (f *carryFinder) lookFor(p plainPatterns) ([]string, error) {
	var found []string
	for at, folder := range p.paths {
		if f.stands(at, folder) {
			found = append(found, at)
		}
	}
	if len(p.names) == 0 {
		return found, nil
	}
	err := workOff(f.ctx, []string{""}, func(dir string, add func(...string)) error {
		fd, err := openBeneath(f.root, dir)
		if err != nil {
			return nil // gone, or not for us to read: git passes over it too
		}
		defer unix.Close(fd)
		entries, err := readFolder(fd)
		if err != nil {
			return nil
		}
		var here, next []string
		for _, e := range entries {
			if e.name == ".git" {
				if dir != "" {
					return nil
				}
				continue
			}
			only, named := p.names[e.name]
			isFolder := e.isFolder(fd)
			switch {
			case named && (isFolder || !only):
				here = append(here, path.Join(dir, e.name))
			case isFolder:
				next = append(next, path.Join(dir, e.name))
			}
		}
		add(next...)
		if len(here) > 0 {
			f.mu.Lock()
			found = append(found, here...)
			f.mu.Unlock()
		}
		return nil
	})
	return found, err
}

// stands says whether there is something at the path, with no link and no
// other repository on the way.
func (f *carryFinder) stands(at string, folder bool) bool {
	dir := path.Dir(at)
	fd, err := openBeneath(f.root, dir)
	if err != nil {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			f.note("not carried along, a symbolic link or a file leads to it: %s", quotePath(at))
		}
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	for d := dir; d != "."; d = path.Dir(d) {
		if unix.Fstatat(f.root, d+"/.git", &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			f.note("not carried along, it lies in a repository of its own: %s", quotePath(at))
			return false
		}
	}
	if unix.Fstatat(fd, path.Base(at), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	return !folder || st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// fit brings the roots in order: sorted, each once, none below another, and
// only such as can be kept in JSON.
func (f *carryFinder) fit(roots []string) []string {
	slices.SortFunc(roots, func(a, b string) int {
		// "/" before all, so that what is below a folder follows it at once.
		return bytes.Compare(
			bytes.ReplaceAll([]byte(a), []byte("/"), []byte{0}), bytes.ReplaceAll([]byte(b), []byte("/"), []byte{0}))
	})
	var kept []string
	for _, root := range roots {
		if n := len(kept); n > 0 && (kept[n-1] == root || strings.HasPrefix(root, kept[n-1]+"/")) {
			continue
		}
		switch {
		case !utf8.ValidString(root):
			f.note("not carried along, its path is not UTF-8: %s", quotePath(root))
		case root == "" || isDotGit(path.Base(root)):
		default:
			kept = append(kept, root)
		}
	}
	return kept
}
