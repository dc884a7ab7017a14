package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

type openCmd struct {
	ID string `arg:"" help:"Task, or the beginning of its name."`
}

func (c *openCmd) Run(env *surroundings) error {
	ctx := context.Background()
	repo, s, lock, err := lockRepository(ctx, env)
	if err != nil {
		return err
	}
	defer lock.Close()
	_, rec, err := s.find(c.ID)
	if err != nil {
		return err
	}
	path, err := repo.FindWorktree(ctx, rec.Branch)
	if err != nil {
		return err
	}
	if path != "" {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			// Somebody removed the folder; git still has it in its list.
			if err := repo.CloseWorktree(ctx, rec.ID, rec.Base, path); err != nil {
				return err
			}
			path = ""
		}
	}
	if path == "" {
		if err := mergeable(ctx, repo, rec); err != nil {
			return err
		}
		// Never the folder that the agent wrote in: a worktree of the branch,
		// made from objects that were checked.
		path = openedPath(s, rec.ID)
		if err := repo.OpenWorktree(ctx, rec.ID, rec.Base, path); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(env.stdout, path)
	return err
}

// openedName is a name that no task can have.
const openedName = ".open"

// openedPath stands beside the tasks' folders, so that forgetting a task never
// removes what a person did.
func openedPath(s store, id string) string { return filepath.Join(s.dir, openedName, id) }
