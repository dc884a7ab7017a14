package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rcc/devshell"
	"rcc/hooks"
	"rcc/worktree"
)

// cacheKeys are the repositories that have something in the cache.
func (d dirs) cacheKeys() ([]string, error) {
	keys, err := subfolders(d.Cache)
	if err != nil {
		return nil, fmt.Errorf("cannot read the cache folder: %w", err)
	}
	return keys, nil
}

// A cache whose repository has no tasks in this state folder may be that of
// another state folder. It goes when it was not used for this long.
const strangerAge = 30 * 24 * time.Hour

// collectCaches removes from the cache what no task stands on.
func collectCaches(env *surroundings) error {
	keys, err := env.dirs.cacheKeys()
	if err != nil {
		return err
	}
	errs := []error{removeTries(env.dirs.Cache), removeTries(env.dirs.State)}
	for _, key := range keys {
		s := env.dirs.store(key)
		if _, err := os.Lstat(s.path("repository.json")); err == nil || usedBefore(env.dirs.cache(key), time.Now().Add(-strangerAge)) {
			errs = append(errs, collectCache(env, key))
		}
		errs = append(errs, removeTries(filepath.Join(env.dirs.Cache, key)), removeTries(s.dir))
	}
	return errors.Join(errs...)
}

func collectCache(env *surroundings, key string) error {
	removed, bytes, err := env.dirs.cache(key).Collect(env.dirs.store(key).layersInUse)
	if len(removed) > 0 {
		env.say("removed %d unused parts of the cache of %s, %s", len(removed), key, sizeText(bytes))
	}
	return err
}

// A dev shell that no task names goes when it was not used for this long: a
// checkout may have it by direnv, of which rcc keeps no list.
const shellAge = 30 * 24 * time.Hour

// collectShells removes dev shells that are not used, and with them what keeps
// Nix from collecting their store paths.
func collectShells(env *surroundings, all bool) error {
	dir := env.dirs.shellCache()
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	stores, err := env.dirs.stores()
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, s := range stores {
		tasks, err := s.tasks()
		if err != nil {
			return err
		}
		for _, r := range tasks {
			if r.Shell != nil {
				used[r.Shell.Key] = true
			}
		}
		good, err := hooks.OpenGood(s.path(goodName)).Keys()
		if err != nil {
			return err
		}
		for _, line := range good {
			// The shell, what was allowed, and the folder that has it.
			if f := strings.SplitN(line, " ", 3); len(f) == 3 && isFolder(f[2]) {
				used[f[0]] = true
			}
		}
	}
	age := shellAge
	if all {
		age = 0
	}
	removed, err := devshell.OpenCache(dir).Collect(func(key string) bool { return used[key] }, age)
	if len(removed) > 0 {
		env.say("removed %s from the cache; nix-collect-garbage frees what only they used", plural(len(removed), "unused dev shell"))
	}
	for _, name := range []string{listsName, exportsName, stampsName, knownName} {
		err = errors.Join(err, removeOld(filepath.Join(env.dirs.Cache, name), age))
	}
	return err
}

func isFolder(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// removeOld removes the files of a folder that are older than age.
func removeOld(dir string, age time.Duration) error {
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, n := range names {
		if fi, err := n.Info(); err == nil && time.Since(fi.ModTime()) > age {
			errs = append(errs, os.Remove(filepath.Join(dir, n.Name())))
		}
	}
	return errors.Join(errs...)
}

// usedBefore tells whether nothing of a cache was used since.
func usedBefore(c *worktree.Cache, since time.Time) bool {
	entries, err := c.Entries()
	return err == nil && !slices.ContainsFunc(entries, func(e worktree.Entry) bool { return e.Used.After(since) })
}

// removeTries removes what a killed tryOverlay left. One that is younger than
// an hour may be at work.
func removeTries(dir string) error {
	left, err := filepath.Glob(filepath.Join(globQuoted(dir), tryPrefix+"*"))
	if err != nil {
		return nil
	}
	var errs []error
	for _, path := range left {
		if fi, err := os.Lstat(path); err == nil && time.Since(fi.ModTime()) > time.Hour {
			errs = append(errs, worktree.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

func globQuoted(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// cacheView is a part of the cache as rcc shows it in JSON.
type cacheView struct {
	Repository string     `json:"repository"` // the repository's folder in the cache
	Kind       string     `json:"kind"`       // base, git or carry
	Key        string     `json:"key"`
	Commit     string     `json:"commit,omitempty"`
	Files      int        `json:"files,omitempty"`
	Bytes      int64      `json:"bytes,omitempty"` // on disk, without the layers below
	Layers     int        `json:"layers"`          // its own and those below
	Made       *time.Time `json:"made,omitempty"`
	Used       *time.Time `json:"used,omitempty"`
	Damaged    string     `json:"damaged,omitempty"`
}

func cacheViews(d dirs) ([]cacheView, error) {
	keys, err := d.cacheKeys()
	if err != nil {
		return nil, err
	}
	views := []cacheView{}
	for _, key := range keys {
		entries, err := d.cache(key).Entries()
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			v := cacheView{Repository: key, Kind: e.Kind, Key: e.Key, Commit: e.Commit, Files: e.Files, Bytes: e.Bytes, Layers: e.Layers, Damaged: e.Damaged}
			if !e.Made.IsZero() {
				v.Made = &e.Made
			}
			if !e.Used.IsZero() {
				v.Used = &e.Used
			}
			views = append(views, v)
		}
	}
	return views, nil
}

// sizeText is a number of bytes for people.
func sizeText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
}
