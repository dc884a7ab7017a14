package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"rcc/devshell"
	"rcc/worktree"
)

// shellFiles is what a dev shell is evaluated from: the files of a commit, or
// those of the checkout as they are now.
type shellFiles interface {
	// having are those of the paths that there are.
	having(ctx context.Context, paths []string) (map[string]bool, error)
	// choose lists the files that want chooses, sorted by path.
	choose(ctx context.Context, want func(path string) bool) ([]worktree.File, error)
	// read calls each with the content of every regular file of the list.
	read(ctx context.Context, files []worktree.File, each func(f worktree.File, content []byte)) error
	// export writes all files into an empty folder.
	export(ctx context.Context, dir string) error
	// name identifies what can never change, such as a tree; "" if it can.
	name() string
}

// commitFiles are those of a commit.
type commitFiles struct {
	repo *worktree.Repo
	tree string // id of the tree
	list []worktree.File
}

func (c *commitFiles) name() string { return c.tree }

func (c *commitFiles) having(ctx context.Context, paths []string) (map[string]bool, error) {
	return c.repo.Existing(ctx, c.tree, paths)
}

func (c *commitFiles) choose(ctx context.Context, want func(string) bool) (chosen []worktree.File, err error) {
	if c.list == nil {
		if c.list, err = c.repo.Files(ctx, c.tree); err != nil {
			return nil, err
		}
	}
	for _, f := range c.list {
		if want(f.Path) {
			chosen = append(chosen, f)
		}
	}
	return chosen, nil
}

func (c *commitFiles) read(ctx context.Context, files []worktree.File, each func(worktree.File, []byte)) error {
	var ids []string
	for _, f := range files {
		ids = append(ids, f.ID)
	}
	return c.repo.Blobs(ctx, ids, func(i int, content []byte) error {
		each(files[i], content)
		return nil
	})
}

func (c *commitFiles) export(ctx context.Context, dir string) error {
	return c.repo.Export(ctx, c.tree, dir)
}

// checkoutFiles are the user's own files as they are on the disk.
type checkoutFiles struct {
	repo      *worktree.Repo
	untracked bool
}

func (c *checkoutFiles) name() string { return "" }

func (c *checkoutFiles) having(_ context.Context, paths []string) (map[string]bool, error) {
	found := map[string]bool{}
	for _, p := range paths {
		if fi, err := os.Lstat(filepath.Join(c.repo.Top, filepath.FromSlash(p))); err == nil && fi.Mode().IsRegular() {
			found[p] = true
		}
	}
	return found, nil
}

func (c *checkoutFiles) choose(ctx context.Context, want func(string) bool) ([]worktree.File, error) {
	return c.repo.PresentFiles(ctx, worktree.Present{Untracked: c.untracked, Only: want})
}

func (c *checkoutFiles) read(ctx context.Context, files []worktree.File, each func(worktree.File, []byte)) error {
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(c.repo.Top, filepath.FromSlash(f.Path)))
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", Inert(f.Path), underlying(err))
		}
		each(f, content)
	}
	return ctx.Err()
}

func (c *checkoutFiles) export(ctx context.Context, dir string) error {
	return c.repo.ExportPresent(ctx, worktree.Present{Untracked: c.untracked}, dir)
}

// shellContent is where a dev shell is described, and what decides it: all files
// that may, and those whose change a user has to allow. Nix code is both. A folder that Nix code names (its
// sources, say) may change the result, yet holds data: it is not asked about.
type shellContent struct {
	Kind  string          `json:"kind"` // "" where there is none
	Dir   string          `json:"dir"`  // of flake.nix or shell.nix in the tree
	All   []devshell.File `json:"all"`
	Asked []devshell.File `json:"asked"`
}

// placeOf looks upwards from a folder of the tree for the file that describes the
// dev shell, as nix develop does for flake.nix.
func placeOf(ctx context.Context, files shellFiles, start string) (kind, dir string, err error) {
	var paths []string
	for d := start; ; d = path.Dir(d) {
		if d == "." {
			d = ""
		}
		paths = append(paths, path.Join(d, "flake.nix"), path.Join(d, "shell.nix"))
		if d == "" {
			break
		}
	}
	found, err := files.having(ctx, paths)
	if err != nil {
		return "", "", err
	}
	for _, p := range paths {
		if found[p] {
			kind, dir = devshell.KindFlake, strings.TrimSuffix(path.Dir(p), ".")
			if path.Base(p) == "shell.nix" {
				kind = devshell.KindFile
			}
			return kind, dir, nil
		}
	}
	return "", "", nil
}

// contentOf finds them: Nix code and locks, the files and folders that it names,
// and what the configuration says is to be watched.
func contentOf(ctx context.Context, files shellFiles, start string, watch []string) (*shellContent, error) {
	kind, dir, err := placeOf(ctx, files, start)
	if err != nil || kind == "" {
		return &shellContent{}, err
	}
	code, err := files.choose(ctx, isNixCode)
	if err != nil {
		return nil, err
	}
	regular := slices.DeleteFunc(slices.Clone(code), func(f worktree.File) bool {
		return !strings.HasPrefix(f.Mode, "100") || !strings.HasSuffix(f.Path, ".nix")
	})
	named := map[string]bool{}
	if err := files.read(ctx, regular, func(f worktree.File, content []byte) {
		for _, n := range devshell.Named(f.Path, content) {
			named[n] = true
		}
	}); err != nil {
		return nil, err
	}
	below := func(p string) bool {
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			if named[d] {
				return true
			}
		}
		return false
	}
	all, err := files.choose(ctx, func(p string) bool {
		return isNixCode(p) || named[p] || watched(p, watch) || below(p)
	})
	if err != nil {
		return nil, err
	}
	c := &shellContent{Kind: kind, Dir: dir}
	for _, f := range all {
		g := devshell.File{Path: f.Path, Mode: f.Mode, ID: f.ID}
		c.All = append(c.All, g)
		if isNixCode(f.Path) || named[f.Path] || watched(f.Path, watch) {
			c.Asked = append(c.Asked, g)
		}
	}
	return c, nil
}

func isNixCode(p string) bool {
	return strings.HasSuffix(p, ".nix") || path.Base(p) == "flake.lock"
}

// watched tells whether one of the patterns is p, a folder above it, or matches
// it (path.Match).
func watched(p string, patterns []string) bool {
	for _, w := range patterns {
		w = path.Clean(w)
		if ok, err := path.Match(w, p); ok && err == nil || p == w || strings.HasPrefix(p, w+"/") {
			return true
		}
	}
	return false
}

// rememberedContent is contentOf, which for a commit is looked for once: a large
// repository has many files.
func rememberedContent(ctx context.Context, cache string, files shellFiles, start string, watch []string) (*shellContent, error) {
	name := files.name()
	if name == "" {
		return contentOf(ctx, files, start, watch)
	}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{"2", name, start}, watch...), "\x00")))
	file := filepath.Join(cache, hex.EncodeToString(sum[:]))
	var c shellContent
	if readJSON(file, &c) == nil {
		return &c, nil
	}
	found, err := contentOf(ctx, files, start, watch)
	if err != nil {
		return nil, err
	}
	// What cannot be kept is found again next time.
	if os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = writeJSON(file, found, false)
	}
	return found, nil
}

// listsName is the folder of these lists in the cache.
const listsName = ".lists"

func (d dirs) shellLists() string { return filepath.Join(d.Cache, listsName) }
