package worktree

import (
	"bytes"
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// plainRefs reads HEAD, the branches and the stash of the agent's git directory
// as plain files (gitrepository-layout(5)). It says false when anything is not
// as git itself leaves it: then git is asked, which costs some processes and
// may cost the time limit.
func (h *harvester) plainRefs(a *agent) bool {
	git, err := h.openGit()
	if err != nil {
		return false
	}
	defer unix.Close(git)
	for _, name := range []string{"commondir", "reftable"} {
		var st unix.Stat_t
		if unix.Fstatat(git, name, &st, unix.AT_SYMLINK_NOFOLLOW) != unix.ENOENT { //nolint:errorlint // a bare errno
			return false
		}
	}
	if fd, err := openWithin(git, "objects", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return false
	} else {
		unix.Close(fd)
	}
	refs := map[string]string{}
	if data, err := readBeneath(git, "packed-refs", 64<<20); err == nil {
		h.parsePacked(data, refs)
	} else if err != unix.ENOENT { //nolint:errorlint // a bare errno
		return false
	}
	left := 10000
	if !h.looseRefs(git, "refs/heads", refs, &left) {
		return false
	}
	if data, err := readBeneath(git, "refs/stash", 4096); err == nil {
		id := strings.TrimSuffix(string(data), "\n")
		if !isID(id, h.p.Format) {
			return false
		}
		refs["refs/stash"] = id
	} else if err != unix.ENOENT { //nolint:errorlint // a bare errno
		return false
	}
	data, err := readBeneath(git, "HEAD", 4096)
	if err != nil {
		return false
	}
	head := strings.TrimSuffix(string(data), "\n")
	if ref, ok := strings.CutPrefix(head, "ref: "); ok {
		head = refs[ref]
	}
	if !isID(head, h.p.Format) {
		return false
	}
	a.refs, a.head, a.branch = refs, head, refs[h.p.Branch]
	return true
}

// openGit opens the agent's git directory if it is a folder.
func (h *harvester) openGit() (int, error) {
	tree, err := unix.Open(h.p.Tree, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(tree)
	return openWithin(tree, ".git", unix.O_RDONLY|unix.O_DIRECTORY)
}

// readGitFile reads a plain file in it.
func (h *harvester) readGitFile(name string, max int64) ([]byte, error) {
	git, err := h.openGit()
	if err != nil {
		return nil, errors.New("no plain git directory")
	}
	defer unix.Close(git)
	return readBeneath(git, name, max)
}

// untouched says whether a file of the agent's git directory is the one that
// it was given: the overlay's upper layer has none in its place. In a checkout
// that cannot be seen.
func (h *harvester) untouched(name string) bool {
	if h.p.Upper == "" {
		return false
	}
	upper, err := unix.Open(h.p.Upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(upper)
	git, err := openWithin(upper, ".git", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err == unix.ENOENT //nolint:errorlint // a bare errno
	}
	defer unix.Close(git)
	var st unix.Stat_t
	return !isOpaque(git) && unix.Fstatat(git, name, &st, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT //nolint:errorlint // a bare errno
}

// parsePacked reads the lines "id ref" of the refs that are wanted.
func (h *harvester) parsePacked(data []byte, refs map[string]string) {
	for line := range bytes.Lines(data) {
		id, ref, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		if isID(id, h.p.Format) && (strings.HasPrefix(ref, "refs/heads/") || ref == "refs/stash") {
			refs[ref] = id
		}
	}
}

// looseRefs adds the refs below a folder; they come before packed ones.
func (h *harvester) looseRefs(git int, dir string, refs map[string]string, left *int) bool {
	entries, err := listBeneath(git, dir)
	if err != nil || strings.Count(dir, "/") > 50 {
		return false
	}
	for _, e := range entries {
		if *left--; *left < 0 {
			return false
		}
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			if !h.looseRefs(git, name, refs, left) {
				return false
			}
		case strings.HasSuffix(name, ".lock"): // of a git that was killed
		default:
			data, err := readBeneath(git, name, 4096)
			id := strings.TrimSuffix(string(data), "\n")
			if err != nil || !isID(id, h.p.Format) {
				return false
			}
			refs[name] = id
		}
	}
	return true
}
