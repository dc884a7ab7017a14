package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// snapshot makes a commit of the uncommitted work in the user's checkout, with
// the base as its parent, and sets t.Base to it. The checkout's index, refs and
// object store stay as they are: the work is done on a copy of the index, and
// the objects go to the task's folder (git(1), GIT_OBJECT_DIRECTORY). When
// there is nothing uncommitted, nothing is made.
func (r *Repo) snapshot(ctx context.Context, t *Tree) error {
	if r.Bare {
		return errors.New("cannot carry uncommitted work: a bare repository has none; leave --dirty out")
	}
	head, err := r.Resolve(ctx, "HEAD")
	if err != nil {
		return err
	}
	if head != t.Start {
		return fmt.Errorf("cannot carry uncommitted work to %s: it belongs to HEAD, which is %s; leave --dirty or --base out", short(t.Start), short(head))
	}
	s := &shadow{r: r, index: t.path("dirty-index"), objects: t.path(snapshotName)}
	if err := os.Mkdir(s.objects, 0o755); err != nil {
		return fmt.Errorf("cannot make the snapshot: %w", err)
	}
	defer os.Remove(s.index)
	tree, notes, err := s.tree(ctx)
	if err != nil {
		return fmt.Errorf("cannot carry uncommitted work: %w", err)
	}
	before, err := r.treeOf(ctx, head)
	if err != nil {
		return err
	}
	t.Notes = notes
	if tree == before {
		return os.RemoveAll(s.objects)
	}
	branch, err := r.HeadBranch(ctx)
	if err != nil {
		return err
	}
	if branch == "" {
		branch = "a detached HEAD"
	}
	message := "Uncommitted work of " + branch + ", carried along by rcc --dirty\n"
	id, err := s.git(ctx, []byte(message), "commit-tree", "-p", head, tree)
	if err != nil {
		return fmt.Errorf("cannot carry uncommitted work: %w", err)
	}
	t.Base = strings.TrimSpace(string(id))
	t.Stores = append(t.Stores, Store{Source: s.objects, Target: insideStores + "/" + strconv.Itoa(len(t.Stores)), MapRoot: mapRoot(s.objects)})
	return nil
}

// shadow is the user's checkout with an index and an object store of our own.
type shadow struct {
	r              *Repo
	index, objects string
}

func (s *shadow) git(ctx context.Context, in []byte, args ...string) ([]byte, error) {
	return s.r.git.run(ctx, call{
		dir: s.r.Top, in: bytes.NewReader(in), config: s.r.identConfig(),
		env: []string{
			"GIT_INDEX_FILE=" + s.index,
			"GIT_OBJECT_DIRECTORY=" + s.objects,
			"GIT_ALTERNATE_OBJECT_DIRECTORIES=" + quoteC(filepath.Join(s.r.CommonDir, "objects")),
		},
	}, args...)
}

// tree writes the tree of the checkout as it is: tracked files with their
// changes, and untracked ones that are not ignored.
func (s *shadow) tree(ctx context.Context) (string, []string, error) {
	in, err := os.Open(filepath.Join(s.r.GitDir, "index"))
	if err == nil {
		err = copyKeepingTime(in, s.index)
		in.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, err
	}
	gone, present, err := changedTracked(ctx, s.git, s.r.Top)
	if err != nil {
		return "", nil, err
	}
	others, err := s.git(ctx, nil, "ls-files", "-z", "--others", "--exclude-standard")
	if err != nil {
		return "", nil, err
	}
	var notes []string
	for _, path := range splitNul(others) {
		// A repository inside the checkout is listed as a folder; adding that
		// would record a link to a commit nobody else has.
		if strings.HasSuffix(path, "/") {
			notes = append(notes, "a repository inside the checkout is not carried along: "+quotePath(path))
			continue
		}
		present = append(present, path)
	}
	if err := stage(ctx, s.git, gone, present); err != nil {
		return "", nil, err
	}
	tree, err := s.git(ctx, nil, "write-tree")
	return strings.TrimSpace(string(tree)), notes, err
}
