package worktree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// checkoutTree returns the tree of what the agent left in a checkout; before is
// the tree of parent.
func (h *harvester) checkoutTree(ctx context.Context, parent, before string, a *agent) (string, error) {
	if err := h.readIndex(ctx, parent); err != nil {
		return "", err
	}
	gone, present, err := h.changes(ctx, a)
	if err != nil || len(gone)+len(present) == 0 {
		return before, err
	}
	if err := h.stageAll(ctx, func() error { return nil }, gone, present); err != nil {
		return "", err
	}
	return h.line(ctx, "write-tree")
}

// readIndex brings H's index to a commit. The index that the tree started with
// knows the stat data of every file that was not touched since; read-tree -m
// keeps it for entries that are the same in the commit (git-read-tree(1),
// "Single Tree Merge"; -i: the files are not its business).
//
// When git writes an index, it compares files as young as the index with their
// entries, reading .gitattributes for it, and a pipe in its place would block
// it (the walk, which sees to those, comes later). So there are no files: it
// works in an empty folder, and the index gets its time back, by which the same
// entries are looked at later (Documentation/technical/racy-git.txt).
func (h *harvester) readIndex(ctx context.Context, commit string) error {
	index, empty := filepath.Join(h.p.Home, "index"), filepath.Join(h.p.Home, "empty")
	fi, err := os.Stat(index)
	if err != nil {
		return fmt.Errorf("cannot find the tree's index: %w", err)
	}
	if err := os.Mkdir(empty, 0o755); err != nil {
		return fmt.Errorf("cannot write to the harvest's folder: %w", err)
	}
	c := h.onH(call{})
	c.dir = empty
	c.env = append(c.env, "GIT_WORK_TREE="+empty)
	if _, err := h.git.run(ctx, c, "read-tree", "-m", "-i", commit); err != nil {
		return err
	}
	return os.Chtimes(index, fi.ModTime(), fi.ModTime())
}

// stageAll puts the changes into H's index, which prepare makes. An attribute
// that cannot be honoured (working-tree-encoding of a file that is not in it)
// fails the whole list; then all files are taken as they are: info/attributes
// comes before those in the tree (gitattributes(5)).
func (h *harvester) stageAll(ctx context.Context, prepare func() error, gone, present []string) error {
	if err := prepare(); err != nil {
		return err
	}
	err := stage(ctx, h.h, gone, present)
	if err == nil {
		return nil
	}
	plain := []byte("* -text -eol -ident -working-tree-encoding -filter\n")
	if werr := os.WriteFile(filepath.Join(h.p.Home, "info", "attributes"), plain, 0o644); werr != nil {
		return err
	}
	if again := errors.Join(prepare(), stage(ctx, h.h, gone, present)); again != nil {
		return again
	}
	h.note("uncommitted files are taken byte for byte, without the attributes of the tree: %s", lastLine(stderrOf(err)))
	return nil
}
