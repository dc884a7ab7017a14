package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rcc/hooks"
	"rcc/worktree"
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
			if err := forgetOpened(ctx, env, repo, rec, path); err != nil {
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
		if err := allowOpened(ctx, env, repo, rec, path); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(env.stdout, path)
	return err
}

// allowOpened lets direnv enter an opened worktree by itself where its .envrc is
// the one that the user allowed in the checkout, and says why where not.
func allowOpened(ctx context.Context, env *surroundings, repo *worktree.Repo, rec *Record, path string) error {
	o := hooks.Opened{Envrc: filepath.Join(path, envrcName), Checkout: filepath.Join(repo.Top, envrcName)}
	var err error
	if o.Content, err = readPlain(o.Envrc); err != nil || o.Content == nil || repo.Top == "" {
		return err
	}
	if o.CheckoutContent, err = readPlain(o.Checkout); err != nil {
		return err
	}
	if base, ok, err := repo.ReadFile(ctx, rec.Base, envrcName); err == nil && ok {
		o.Base = base
	}
	if o.Direnv, err = hooks.DirenvDataDir(env.environ); err != nil {
		return err
	}
	_, notice, err := hooks.AllowOpened(o)
	if notice != "" {
		env.say("%s", Inert(notice))
	}
	return err
}

// forgetOpened takes back what allowOpened told direnv.
func forgetOpened(ctx context.Context, env *surroundings, repo *worktree.Repo, rec *Record, path string) error {
	base, ok, err := repo.ReadFile(ctx, rec.Base, envrcName)
	if err != nil || !ok {
		return nil // then it told nothing
	}
	data, err := hooks.DirenvDataDir(env.environ)
	if err != nil {
		return err
	}
	return hooks.ForgetOpened(hooks.Opened{Envrc: filepath.Join(path, envrcName), Content: base, Direnv: data})
}

// readPlain reads an ordinary file, at most 1 MiB of it; nil where there is none.
func readPlain(path string) ([]byte, error) { return readPlainUpTo(path, 1<<20) }

// readPlainUpTo does it for most bytes at most.
func readPlainUpTo(path string, most int64) ([]byte, error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.Mode().IsRegular() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// openedName is a name that no task can have.
const openedName = ".open"

// openedPath stands beside the tasks' folders, so that forgetting a task never
// removes what a person did.
func openedPath(s store, id string) string { return filepath.Join(s.dir, openedName, id) }
