package worktree

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// gitFunc runs git with some index and work tree, and in as its input.
type gitFunc func(ctx context.Context, in []byte, args ...string) ([]byte, error)

// changedTracked lists the tracked files below top that differ from the index,
// by their stat data: those that are gone (or have become something that git
// cannot record), and those that are there. Submodules are not looked into.
func changedTracked(ctx context.Context, git gitFunc, top string) (gone, present []string, err error) {
	out, err := git(ctx, nil, "diff-files", "-z", "--name-status", "--no-renames", "--ignore-submodules=all")
	if err != nil {
		return nil, nil, err
	}
	f := splitNul(out)
	if len(f)%2 != 0 {
		return nil, nil, fmt.Errorf("cannot read the output of git diff-files")
	}
	seen := map[string]bool{}
	for i := 0; i < len(f); i += 2 {
		state, path := f[i], f[i+1]
		if seen[path] { // an unmerged path is listed twice
			continue
		}
		seen[path] = true
		fi, err := os.Lstat(filepath.Join(top, path))
		recordable := err == nil && (fi.Mode().IsRegular() || fi.Mode().Type() == os.ModeSymlink)
		if state == "D" || !recordable {
			gone = append(gone, path)
		} else {
			present = append(present, path)
		}
	}
	return gone, present, nil
}

// stage records files in the index by their full paths. Unlike git-add(1),
// git-update-index(1) with the path of a file never makes a gitlink and never
// asks a repository below the tree for anything. Removals come first and by
// force: a path below what is now a symbolic link is an error otherwise.
func stage(ctx context.Context, git gitFunc, gone, present []string) error {
	if len(gone) > 0 {
		if _, err := git(ctx, joinNul(gone), "update-index", "-z", "--force-remove", "--stdin"); err != nil {
			return err
		}
	}
	if len(present) > 0 {
		if _, err := git(ctx, joinNul(present), "update-index", "-z", "--add", "--replace", "--stdin"); err != nil {
			return err
		}
	}
	return nil
}

func joinNul(list []string) []byte {
	var b bytes.Buffer
	for _, s := range list {
		b.WriteString(s)
		b.WriteByte(0)
	}
	return b.Bytes()
}
