package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"rcc/devshell"
	"rcc/hooks"
	"rcc/worktree"
)

// What --shell can be.
const (
	shellAuto  = "auto"  // the flake's where there is one, else the host's tools
	shellFlake = "flake" // of flake.nix or shell.nix at the base commit
	shellHost  = "host"

	hostBehind = "+host" // the host's tools as well, after the dev shell's

	shellWanted = `"auto", "flake", "flake#NAME", "flake+host", "flake+host#NAME" or "host"`
)

// defaultShellTimeout bounds all that Nix does for one dev shell: it may have to
// build a compiler.
const defaultShellTimeout = time.Hour

// shellChoice is what --shell asks for.
type shellChoice struct {
	mode string
	attr string // which of the flake's, "" for its default
	host bool   // and the host's tools behind it
}

func parseShell(text string) (shellChoice, error) {
	head, attr, named := strings.Cut(text, "#")
	mode, host := strings.CutSuffix(head, hostBehind)
	c := shellChoice{mode: mode, attr: attr, host: host}
	switch {
	case !slices.Contains([]string{shellAuto, shellFlake, shellHost}, mode),
		mode != shellFlake && (named || host),
		named && (strings.HasSuffix(attr, hostBehind) || attr == "" || len(attr) > 256 || strings.ContainsFunc(attr, func(r rune) bool { return r <= ' ' || r == 0x7f })):
		return shellChoice{}, fmt.Errorf("cannot use the shell %s: it is one of %s", shownID(text), shellWanted)
	}
	return c, nil
}

// shellCache is where evaluated dev shells are kept, for all repositories.
func (d dirs) shellCache() string { return filepath.Join(d.Cache, ".shells") }

// trust is what the user allowed of a repository's content.
func (s store) trust() *hooks.Trust { return hooks.OpenTrust(s.path(trustName)) }

// trustName is a name that no task can have.
const trustName = ".allowed"

// shellRecord is a task's dev shell, in its record.
type shellRecord struct {
	Key  string `json:"key"` // of the entry in the cache
	Kind string `json:"kind"`
	Dir  string `json:"dir,omitempty"` // of flake.nix in the tree
	Attr string `json:"attr,omitempty"`
	Host bool   `json:"host,omitempty"` // the host's tools stand behind it
	// Fresh says that it was evaluated for this task.
	Fresh bool `json:"fresh,omitempty"`
}

func (r *shellRecord) String() string {
	if r == nil {
		return shellHost
	}
	text := shellFile(r.Kind, r.Dir)
	if r.Attr != "" {
		text += "#" + r.Attr
	}
	if r.Host {
		text += hostBehind
	}
	return text
}

// shellFinder finds the dev shell of some files of a repository.
type shellFinder struct {
	env    *surroundings
	repo   *worktree.Repo
	store  store
	files  shellFiles
	config *Config

	choice   shellChoice
	start    string // folder of the tree where to begin to look, "" for the top
	refresh  bool
	entering bool // for a shell of the user's, not a task
}

// foundShell is a dev shell that was found, and not evaluated yet.
type foundShell struct {
	nix     *devshell.Nix
	source  devshell.Source
	content *shellContent
	trust   string // what the user has to allow
	files   shellFiles
}

// find tells which dev shell there is; nil for the host's tools, with a note
// where a user might have expected more.
func (f *shellFinder) find(ctx context.Context) (*foundShell, string, error) {
	if f.choice.mode == shellHost {
		return nil, "", nil
	}
	content, err := f.content(ctx)
	if err != nil {
		return nil, "", err
	}
	kind, dir := content.Kind, content.Dir
	if kind == "" {
		if f.choice.mode == shellFlake {
			return nil, "", fmt.Errorf("cannot find a dev shell: git tracks neither flake.nix nor shell.nix here%s", f.orHost("; add one"))
		}
		return nil, "", nil
	}
	nix, err := devshell.Find(pathOutside(f.env.environ, f.repo.Top))
	if errors.Is(err, devshell.ErrAbsent) && f.choice.mode == shellAuto {
		return nil, fmt.Sprintf("%s is not used, since there is no nix on PATH: the task has the host's tools", shellFile(kind, dir)), nil
	}
	if err != nil {
		return nil, "", err
	}
	return &foundShell{
		nix: nix, content: content, trust: content.hash(), files: f.files,
		source: content.source(f.choice.attr),
	}, "", nil
}

// pathOutside is an environment whose PATH has no folder of a checkout: what is
// planted there is not Nix.
func pathOutside(environ []string, top string) []string {
	if top == "" {
		return environ
	}
	out := slices.Clone(environ)
	for i, e := range out {
		if list, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs := slices.DeleteFunc(strings.Split(list, ":"), func(d string) bool { return d == top || strings.HasPrefix(d, top+"/") })
			out[i] = "PATH=" + strings.Join(dirs, ":")
		}
	}
	return out
}

func (f *shellFinder) content(ctx context.Context) (*shellContent, error) {
	return rememberedContent(ctx, f.env.dirs.shellLists(), f.files, f.start, f.config.shellRules())
}

// shellFile names the file that a dev shell is described in.
func shellFile(kind, dir string) string {
	if kind == devshell.KindFile {
		return path.Join(dir, "shell.nix")
	}
	return path.Join(dir, "flake.nix")
}

// allowed tells whether the user has allowed to evaluate it, and asks on a
// terminal.
func (f *shellFinder) allowed(s *foundShell, ask bool) error {
	trust := f.store.trust()
	grant, ok, err := trust.Allowed(hooks.KindFlake, s.trust)
	if err != nil {
		return err
	}
	if ok {
		s.source.ImportFromDerivation = grant.ImportFromDerivation
		return nil
	}
	what := describeTrust(trust, s)
	if !ask || !term.IsTerminal(int(f.env.stdin.Fd())) || !term.IsTerminal(int(f.env.stderr.Fd())) {
		return &untrustedError{what: what, mend: f.orHost("rcc allow")}
	}
	fmt.Fprintf(f.env.stderr, "rcc: %s\nrcc: Nix would evaluate and build it on this machine, as you; rcc hook and direnv also run its shellHook. Allow this content? [y/N] ", Inert(what))
	answer, err := readLine(f.env.stdin, f.env.stderr)
	if err != nil {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errors.New("cannot use the dev shell: its content was not allowed; --shell host goes without")
	}
	return allowShell(trust, s, false)
}

// untrustedError says that a content has to be allowed first.
type untrustedError struct{ what, mend string }

func (e *untrustedError) Error() string {
	return "cannot use the dev shell: " + e.what + "; look at it, then: " + e.mend
}

// orHost adds the other way out, where there is one.
func (f *shellFinder) orHost(mend string) string {
	if f.entering {
		return mend
	}
	return mend + " (or go without: --shell host)"
}

// describeTrust says what of a dev shell was never allowed.
func describeTrust(trust *hooks.Trust, s *foundShell) string {
	file := shellFile(s.source.Kind, s.source.Dir)
	_, last, ok := trust.Last(hooks.KindFlake)
	changes := hooks.Changes(last.Files, hookFiles(s.content.Files))
	if !ok || len(changes) == 0 { // what was allowed is another file's
		if n := len(s.content.Files) - 1; n > 0 {
			return fmt.Sprintf("%s and %s that decide it were never allowed in this repository", file, plural(n, "other file"))
		}
		return file + " was never allowed in this repository"
	}
	const most = 5
	more := ""
	if n := len(changes) - most; n > 0 {
		changes, more = changes[:most], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the code of %s changed since it was allowed: %s%s", file, strings.Join(changes, ", "), more)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func hookFiles(files []worktree.File) []hooks.File {
	out := make([]hooks.File, len(files))
	for i, f := range files {
		out[i] = hooks.File(f)
	}
	return out
}

func allowShell(trust *hooks.Trust, s *foundShell, ifd bool) error {
	s.source.ImportFromDerivation = ifd
	return trust.Allow(hooks.KindFlake, s.trust, hooks.Grant{Files: hookFiles(s.content.Files), ImportFromDerivation: ifd, When: time.Now().UTC()})
}

// readLine reads an answer byte by byte: what follows belongs to the command. asked
// gets the end of line that somebody has not typed.
func readLine(f, asked *os.File) (string, error) {
	var line strings.Builder
	for b := make([]byte, 1); line.Len() < 1000; {
		n, err := f.Read(b)
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(asked)
			break
		}
		if n == 1 && b[0] == '\n' {
			break
		}
		if err != nil {
			return "", fmt.Errorf("cannot read the answer: %w", underlying(err))
		}
		line.WriteByte(b[0])
	}
	return line.String(), nil
}

// make evaluates the dev shell, or finds it in the cache; it is held until it is
// released.
func (f *shellFinder) make(ctx context.Context, s *foundShell) (*devshell.Shell, error) {
	progress, done := shellProgress(f.env)
	defer done()
	return devshell.OpenCache(f.env.dirs.shellCache()).Shell(ctx, s.nix, s.source, devshell.Options{
		Export:   func(ctx context.Context, dir string) error { return s.files.export(ctx, s.content.Files, dir) },
		Progress: progress, Timeout: f.config.ShellTimeout.Value, Refresh: f.refresh,
	})
}

// shellPatience is how long Nix may work before it is told what it is at.
const shellPatience = 500 * time.Millisecond

// shellProgress tells on a terminal what Nix is at, in a line that is written
// again and again, also while nothing new is said. The second function ends it.
func shellProgress(env *surroundings) (func(string), func()) {
	if !term.IsTerminal(int(env.stderr.Fd())) {
		return nil, func() {}
	}
	texts, end := make(chan string, 16), make(chan struct{})
	var drawing sync.WaitGroup
	drawing.Go(func() {
		began, text, drawn := time.Now(), "evaluating", false
		tick := time.NewTicker(shellPatience)
		defer tick.Stop()
		for {
			select {
			case text = <-texts:
				if !drawn {
					continue
				}
			case <-tick.C:
			case <-end:
				if drawn {
					fmt.Fprint(env.stderr, "\r\x1b[K")
				}
				return
			}
			drawn = true
			fmt.Fprintf(env.stderr, "\r\x1b[Krcc: dev shell: %s (%d s)", Inert(firstLine(text, 60)), int(time.Since(began).Seconds()))
		}
	})
	say := func(text string) {
		select {
		case texts <- text:
		default: // the terminal is slower than Nix
		}
	}
	return say, sync.OnceFunc(func() { close(end); drawing.Wait() })
}

// tellShell is the start of a task's events about its dev shell.
func (s *session) tellShell(sh *devshell.Shell) {
	r := s.rec.Shell
	s.events.add(event{Event: "shell", Text: r.String() + " " + r.Key})
	if !r.Fresh || sh.Log == "" {
		return
	}
	log, err := os.Open(sh.Log)
	if err != nil {
		return
	}
	defer log.Close()
	sc := bufio.NewScanner(io.LimitReader(log, 1<<20))
	for lines := 0; lines < 1000 && sc.Scan(); lines++ {
		s.events.add(event{Event: "nix", Text: sc.Text()})
	}
}
