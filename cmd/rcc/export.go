package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rcc/devshell"
	"rcc/hooks"
	"rcc/worktree"
)

// exporter finds the dev shell of a folder of the user's.
type exporter struct {
	env  *surroundings
	dir  string
	attr string
	// envrc is the file that asked, where nobody else has seen to it that the
	// user allowed it (direnv does).
	envrc string

	repo  *worktree.Repo
	store store
	found *foundShell
}

func (e *exporter) find(ctx context.Context) (*devshell.Shell, error) {
	here := *e.env
	here.dir = e.dir
	git, err := gitHere(&here)
	if err != nil {
		return nil, err
	}
	var sight *worktree.Sight
	if e.repo, sight, err = git.Look(ctx, e.dir, "HEAD", "export"); err != nil {
		if e.repo, err = git.Open(ctx, e.dir); err != nil { // no commit yet
			return nil, err
		}
		sight = &worktree.Sight{}
	}
	e.store = e.env.dirs.store(e.repo.Key())
	if e.repo.Top == "" {
		return nil, errors.New("cannot enter a dev shell here: the repository is bare")
	}
	if err := e.mayEnter(); err != nil {
		return nil, err
	}
	config, err := readConfig(ctx, e.env, e.repo, sight)
	if err != nil {
		return nil, err
	}
	f := &shellFinder{
		env: e.env, repo: e.repo, store: e.store, config: config, files: &checkoutFiles{repo: e.repo},
		choice: shellChoice{mode: shellFlake, attr: e.attr}, entering: true,
	}
	f.start, _ = e.repo.InCheckout(e.dir)
	if e.found, _, err = f.find(ctx); err != nil {
		return nil, err
	}
	if err := f.allowed(e.found, false); err != nil {
		return nil, err
	}
	sh, err := f.make(ctx, e.found)
	if err != nil {
		return nil, err
	}
	// What cannot be remembered is missed only when something breaks later.
	_ = e.good().Put(e.dir, e.attr, sh.Key+" "+e.found.trust+" "+e.dir)
	return sh, nil
}

// mayEnter refuses an .envrc whose content the user has not allowed: an agent may
// have written it, and chosen among the dev shells.
func (e *exporter) mayEnter() error {
	if e.envrc == "" {
		return nil
	}
	content, err := readPlain(e.envrc)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", e.envrc, underlying(err))
	}
	_, ok, err := e.store.trust().Allowed(hooks.KindEnvrc, envrcHash(content))
	if err == nil && !ok {
		err = fmt.Errorf("cannot enter the dev shell: %s was never allowed in this repository; look at it, then: rcc allow", e.envrc)
	}
	return err
}

// unmerged tells whether the checkout is a worktree of rcc open, or stands on a
// task's branch. What cannot be read is taken for that.
func (e *exporter) unmerged() bool {
	opened, err := filepath.EvalSymlinks(e.store.path(openedName))
	if err == nil && strings.HasPrefix(e.repo.Top, opened+"/") {
		return true
	}
	head, err := os.ReadFile(filepath.Join(e.repo.GitDir, "HEAD"))
	return err != nil || strings.HasPrefix(string(head), "ref: refs/heads/rcc/")
}

// goodName is a name that no task can have.
const goodName = ".good"

func (e *exporter) good() *hooks.Good { return hooks.OpenGood(e.store.path(goodName)) }

// lastGood is the shell that was entered here last, if what it came from is still
// allowed.
func (e *exporter) lastGood(ctx context.Context) *devshell.Shell {
	if e.repo == nil {
		return nil
	}
	line, ok := e.good().Get(e.dir, e.attr)
	key, rest, _ := strings.Cut(line, " ")
	trust, _, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 {
		return nil
	}
	if _, allowed, err := e.store.trust().Allowed(hooks.KindFlake, trust); err != nil || !allowed {
		return nil
	}
	sh, err := devshell.OpenCache(e.env.dirs.shellCache()).Open(key)
	if err != nil {
		return nil
	}
	return sh
}

// watch are the files whose change may make another shell of it, also those that
// are not there.
func (e *exporter) watch() []string {
	if e.repo == nil {
		return nil
	}
	var list []string
	add := func(p string) { list = append(list, filepath.Join(e.repo.Top, filepath.FromSlash(p))) }
	if e.found == nil {
		list = e.trusted()
		for _, name := range []string{"flake.nix", "shell.nix"} {
			list = append(list, filepath.Join(e.dir, name))
		}
		return list
	}
	for _, f := range e.found.content.Files {
		add(f.Path)
	}
	if s := e.found.source; s.Kind == devshell.KindFlake {
		add(filepath.Join(s.Dir, "flake.lock"))
	}
	return append(list, e.trusted()...)
}

// trusted are the files whose being there means that something is allowed.
func (e *exporter) trusted() (list []string) {
	if e.found != nil {
		list = append(list, e.store.trust().Path(hooks.KindFlake, e.found.trust))
	}
	if e.envrc != "" {
		if content, err := readPlain(e.envrc); err == nil {
			list = append(list, e.envrc, e.store.trust().Path(hooks.KindEnvrc, envrcHash(content)))
		}
	}
	return list
}

// exportMemo says which dev shell a folder had and by which files that was known,
// so that a folder is entered without asking git or Nix while these are as they
// were.
type exportMemo struct {
	Version int
	Key     string
	Watch   []string
	Top     string
	Marks   []fileMark

	Unmerged bool
}

const exportMemoVersion = 2

// fileMark tells a file from what it is after any change: the kernel sets the time
// of the last status change with each (inode(7)).
type fileMark struct {
	Path  string
	There bool
	Inode uint64
	Size  int64
	Mtime int64 // nanoseconds
	Ctime int64
}

func markOf(path string) fileMark {
	m := fileMark{Path: path}
	fi, err := os.Stat(path)
	if err != nil {
		return m
	}
	st := fi.Sys().(*syscall.Stat_t)
	m.There, m.Inode, m.Size, m.Mtime, m.Ctime = true, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()
	return m
}

func exportMemoPath(d dirs, dir, attr, envrc string) string {
	sum := sha256.Sum256([]byte(dir + "\x00" + attr + "\x00" + envrc))
	return filepath.Join(d.Cache, exportsName, hex.EncodeToString(sum[:16]))
}

// exportsName is the folder of the memos in the cache.
const exportsName = ".exports"

func readExportMemo(d dirs, dir, attr, envrc string) *exportMemo {
	var m exportMemo
	if readJSON(exportMemoPath(d, dir, attr, envrc), &m) != nil || m.Version != exportMemoVersion || m.Key == "" {
		return nil
	}
	for _, mark := range m.Marks {
		if markOf(mark.Path) != mark {
			return nil
		}
	}
	return &m
}

// clockGrain is more than the step in which the kernel counts file times.
const clockGrain = 20 * time.Millisecond

// writeExportMemo remembers what was found. A file that changed while it was
// looked for, or in the clock's step before, may change again without a trace: then
// nothing is remembered.
func writeExportMemo(d dirs, dir, attr string, began time.Time, x *exported, e *exporter) {
	m := exportMemo{Version: exportMemoVersion, Key: x.shell.Key, Watch: x.watch, Top: x.top, Unmerged: x.unmerged}
	paths := append([]string{
		filepath.Join(e.repo.GitDir, "index"), filepath.Join(e.repo.GitDir, "HEAD"), filepath.Join(e.repo.GitDir, "logs/HEAD"),
		filepath.Join(e.repo.Top, ".git"), filepath.Join(d.Config, "config.toml"), e.found.nix.Path(),
	}, x.watch...)
	// A flake or shell.nix that is nearer to the folder would count.
	for at := dir; len(at) > len(e.repo.Top); at = filepath.Dir(at) {
		paths = append(paths, filepath.Join(at, "flake.nix"), filepath.Join(at, "shell.nix"), filepath.Join(at, ".git"))
	}
	for _, p := range paths {
		mark := markOf(p)
		if mark.There && mark.Ctime > began.Add(-clockGrain).UnixNano() {
			return
		}
		m.Marks = append(m.Marks, mark)
	}
	file := exportMemoPath(d, dir, attr, e.envrc)
	if os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = writeJSON(file, m, false) // without it, all is looked for again
	}
}
