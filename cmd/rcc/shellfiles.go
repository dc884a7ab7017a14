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
	"unicode/utf8"

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
	// export writes files of a list into an empty folder.
	export(ctx context.Context, files []worktree.File, dir string) error
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

func (c *commitFiles) export(ctx context.Context, files []worktree.File, dir string) error {
	return c.repo.Export(ctx, files, dir)
}

// checkoutFiles are the user's own files as they are on the disk.
type checkoutFiles struct {
	repo      *worktree.Repo
	untracked bool
}

func (c *checkoutFiles) name() string { return "" }

func (c *checkoutFiles) having(ctx context.Context, paths []string) (map[string]bool, error) {
	files, err := c.choose(ctx, func(p string) bool { return slices.Contains(paths, p) })
	found := map[string]bool{}
	for _, f := range files {
		found[f.Path] = true
	}
	return found, err
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

func (c *checkoutFiles) export(ctx context.Context, files []worktree.File, dir string) error {
	return c.repo.ExportPresent(ctx, files, dir)
}

// shellContent is where a dev shell is described, and all that decides it: Nix
// code and locks, the files and folders that the code names, and what the
// configuration adds. Nix is given these files and no others, so that nothing else
// can be evaluated, built or run by a hook without being allowed, and the result
// follows from what is allowed alone.
type shellContent struct {
	Kind  string          `json:"kind"` // "" where there is none
	Dir   string          `json:"dir"`  // of flake.nix or shell.nix in the tree
	Files []worktree.File `json:"files"`
	// Named are the files and folders that the code names: what is new in one of
	// these belongs to it too.
	Named []string `json:"named,omitempty"`
}

// shellRules are the configuration's part in it.
type shellRules struct {
	Watch  []string `json:"watch,omitempty"`  // further files that decide, as patterns
	Ignore []string `json:"ignore,omitempty"` // files that do not, though Nix code names them
}

// placeOf looks upwards from a folder of the tree for a flake.nix, as nix develop
// does, and where there is none for a shell.nix.
func placeOf(ctx context.Context, files shellFiles, start string) (kind, dir string, err error) {
	var flakes, shells []string
	for d := start; ; d = path.Dir(d) {
		if d == "." {
			d = ""
		}
		flakes, shells = append(flakes, path.Join(d, "flake.nix")), append(shells, path.Join(d, "shell.nix"))
		if d == "" {
			break
		}
	}
	found, err := files.having(ctx, append(slices.Clone(flakes), shells...))
	if err != nil {
		return "", "", err
	}
	for _, p := range append(flakes, shells...) {
		if !found[p] {
			continue
		}
		kind, dir = devshell.KindFlake, strings.TrimSuffix(path.Dir(p), ".")
		if path.Base(p) == "shell.nix" {
			kind = devshell.KindFile
		}
		return kind, dir, nil
	}
	return "", "", nil
}

func contentOf(ctx context.Context, files shellFiles, start string, rules shellRules) (*shellContent, error) {
	kind, dir, err := placeOf(ctx, files, start)
	if err != nil || kind == "" {
		return &shellContent{}, err
	}
	c := &shellContent{Kind: kind, Dir: dir}
	code, err := files.choose(ctx, func(p string) bool { return isNixCode(p) && !matches(p, rules.Ignore) })
	if err != nil {
		return nil, err
	}
	readable := slices.DeleteFunc(slices.Clone(code), func(f worktree.File) bool {
		return !strings.HasPrefix(f.Mode, "100") || !strings.HasSuffix(f.Path, ".nix")
	})
	if err := files.read(ctx, readable, func(f worktree.File, content []byte) {
		c.Named = append(c.Named, devshell.Named(f.Path, content)...)
	}); err != nil {
		return nil, err
	}
	slices.Sort(c.Named)
	c.Named = slices.Compact(c.Named)
	c.Files, err = files.choose(ctx, func(p string) bool { return c.decides(p, rules) })
	return c, err
}

// decides tells whether a path of the tree is, or would be, one of the files.
func (c *shellContent) decides(p string, rules shellRules) bool {
	if matches(p, rules.Ignore) && p != shellFile(c.Kind, c.Dir) {
		return false
	}
	if isNixCode(p) || matches(p, rules.Watch) {
		return true
	}
	for at := p; at != "."; at = path.Dir(at) {
		if _, ok := slices.BinarySearch(c.Named, at); ok {
			return true
		}
	}
	return false
}

// shellFiles are the same files for devshell.
func (c *shellContent) shellFiles() []devshell.File {
	list := make([]devshell.File, len(c.Files))
	for i, f := range c.Files {
		list[i] = devshell.File(f)
	}
	return list
}

// source is the dev shell of a name, "" for the default.
func (c *shellContent) source(attr string) devshell.Source {
	return devshell.Source{Kind: c.Kind, Dir: c.Dir, Attr: attr, Files: c.shellFiles()}
}

// hash names what a user allows.
func (c *shellContent) hash() string { return c.source("").Content() }

func isNixCode(p string) bool {
	return strings.HasSuffix(p, ".nix") || path.Base(p) == "flake.lock"
}

// matches tells whether one of the patterns is p, a folder above it ("." is above
// all), or matches it (path.Match).
func matches(p string, patterns []string) bool {
	for _, w := range patterns {
		w = path.Clean(w)
		if ok, err := path.Match(w, p); ok && err == nil || p == w || w == "." || strings.HasPrefix(p, w+"/") {
			return true
		}
	}
	return false
}

// rememberedContent is contentOf, which for a commit is looked for once: a large
// repository has many files.
func rememberedContent(ctx context.Context, cache string, files shellFiles, start string, rules shellRules) (*shellContent, error) {
	name := files.name()
	if name == "" {
		return contentOf(ctx, files, start, rules)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %q %q %q %q", listVersion, name, start, rules.Watch, rules.Ignore))
	key := hex.EncodeToString(sum[:])
	file := filepath.Join(cache, key)
	var memo contentMemo
	if readJSON(file, &memo) == nil && memo.Key == key && memo.Content != nil {
		return memo.Content, nil
	}
	found, err := contentOf(ctx, files, start, rules)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(found.Files, func(f worktree.File) bool { return !utf8.ValidString(f.Path) }) {
		return found, nil // JSON would change such a name
	}
	// What cannot be kept is found again next time.
	if os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = writeJSON(file, contentMemo{key, found}, false)
	}
	return found, nil
}

// A contentMemo is such a list in the cache. What was damaged has another key.
type contentMemo struct {
	Key     string        `json:"key"`
	Content *shellContent `json:"content"`
}

const listVersion = 1

// listsName is the folder of these lists in the cache.
const listsName = ".lists"

func (d dirs) shellLists() string { return filepath.Join(d.Cache, listsName) }
