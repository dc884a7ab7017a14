package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"rcc/devshell"
	"rcc/isolate"
)

// Where the sandbox shows the text that makes a dev shell of a bash, and the files
// of a derivation with __structuredAttrs.
const (
	shellRC    = "/rcc/shell/rc.bash"
	shellAttrs = "/rcc/shell/attrs"
)

// shell finds the task's dev shell, asks whether it may be evaluated, and
// evaluates it, before anything of the task is made. ^C ends what Nix does.
func (st *start) shell(ctx context.Context, wish string, refresh bool) error {
	f, found, err := st.findShell(ctx, wish)
	if err != nil || found == nil {
		return err
	}
	f.refresh = refresh
	if err := f.allowed(found, true); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	st.made, err = f.make(ctx, found)
	if err != nil && ctx.Err() != nil {
		return errors.New("cannot go on: interrupted while Nix worked on the dev shell")
	}
	if err != nil {
		return err
	}
	s := found.source
	st.record.Shell = &shellRecord{Key: st.made.Key, Kind: s.Kind, Dir: s.Dir, Attr: s.Attr, Host: f.choice.host, Fresh: st.made.Fresh}
	return nil
}

// findShell decides by the flag, or else the configuration.
func (st *start) findShell(ctx context.Context, wish string) (*shellFinder, *foundShell, error) {
	if wish == "" {
		wish = st.config.Shell.Value
	}
	choice, err := parseShell(wish)
	if err != nil {
		return nil, nil, usage("%w", err)
	}
	if choice.mode == shellHost {
		return nil, nil, nil
	}
	f := &shellFinder{env: st.env, repo: st.repo, store: st.store, config: st.config, choice: choice}
	f.start, _ = st.repo.InCheckout(st.env.dir)
	f.files = &commitFiles{repo: st.repo, tree: st.sight.Tree}
	if st.record.Dirty && st.repo.Top != "" {
		f.files = &checkoutFiles{repo: st.repo, untracked: true}
	} else if f.start == "" && !st.sight.Has("flake.nix") && !st.sight.Has("shell.nix") && choice.mode == shellAuto {
		if file := filepath.Join(st.repo.Top, "flake.nix"); st.repo.Top != "" && isFile(file) {
			st.note("flake.nix is in the checkout and not in the base commit: the task has the host's tools")
		}
		return nil, nil, nil
	}
	found, note, err := f.find(ctx)
	if note != "" {
		st.note(note)
	}
	return f, found, err
}

// note says something about a task that is not there yet, and keeps it.
func (st *start) note(text string) {
	st.record.Notes = append(st.record.Notes, text)
	st.env.say("%s", Inert(text))
}

// openShell takes the dev shell that the task was started with.
func (s *session) openShell() error {
	r := s.rec.Shell
	if r == nil || s.shell != nil {
		return nil
	}
	sh, err := devshell.OpenCache(s.env.dirs.shellCache()).Open(r.Key)
	if err != nil {
		return err
	}
	s.shell = sh
	return nil
}

func (s *session) leaveShell() {
	if s.shell != nil {
		s.shell.Release()
	}
}

// dress gives a sandbox the task's dev shell in place of the host's programs, or
// before them.
func (s *session) dress(j *isolate.Job) {
	sh := s.shell
	if sh == nil {
		return
	}
	j.Tools, j.Store = isolate.ToolsStore, sh.Paths
	j.Path = shellPath(sh)
	j.Shell = sh.Bash
	if s.rec.Shell.Host {
		j.Tools = isolate.ToolsBoth
	} else {
		// What scripts begin with, as on NixOS: these two and no other.
		if sh.Bash != "" {
			j.Links = append(j.Links, isolate.HostPath{Path: "/bin/sh", Link: sh.Bash})
		}
		if env := sh.Look("env"); env != "" {
			j.Links = append(j.Links, isolate.HostPath{Path: "/usr/bin/env", Link: env})
		}
	}
	if sh.Bash == "" {
		return
	}
	if sh.Attrs != "" {
		j.Binds = append(j.Binds, isolate.Bind{Source: sh.Attrs, Target: shellAttrs})
	}
	for _, f := range [][2]string{{rcName, shellRC}, {interactiveName, interactiveRC}} {
		if file := s.task.path(f[0]); isFile(file) {
			j.Binds = append(j.Binds, isolate.Bind{Source: file, Target: f[1]})
		}
	}
}

// shellPath is the dev shell's PATH without what is not in the store.
func shellPath(sh *devshell.Shell) (list []string) {
	for _, e := range sh.Environ("") {
		v, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, d := range strings.Split(v, ":") {
			if strings.HasPrefix(d, isolate.StoreDir+"/") && path.Clean(d) == d {
				list = append(list, d)
			}
		}
	}
	return list
}

// places are where the dev shell finds what it names: results of a build by hand in
// "outputs" in the tree, as nix develop has it.
func (s *session) places() devshell.Places {
	return devshell.Places{Outputs: path.Join(s.repo.Path, "outputs"), Tree: s.repo.Path, Attrs: shellAttrs}
}

// program is a command as the task's shell starts it, with the variables of the
// dev shell and, where that has a shellHook, by its bash.
func (s *session) program(args, env []string) isolate.Program {
	if s.rec.Envrc {
		args = append([]string{s.direnv(), "exec", s.repo.Path}, args...)
	}
	sh := s.shell
	if sh == nil {
		return isolate.Program{Args: args, Env: env}
	}
	vars := sh.EnvironAt(s.places())
	if s.rec.Shell.Host {
		vars = append(vars, "PATH="+strings.Join(append(shellPath(sh), s.hostPath()...), ":"))
	}
	p := isolate.Program{Args: args, Env: append(vars, env...)}
	if sh.HasHook && sh.Bash != "" {
		p.Args = append([]string{sh.Bash, "-c", s.enterText(), path.Base(sh.Bash)}, args...)
	}
	return p
}

// enterText makes a dev shell of the bash that reads it, and a command of that.
// A shellHook may define functions of any name, so builtins are called by that;
// and one that ends the bash says so.
func (s *session) enterText() string {
	text := s.rcVariables() +
		"trap " + bashQuoted("builtin printf 'rcc: the shellHook of the dev shell ended before the command was started\\n' >&2") + " EXIT\n" +
		". " + shellRC + "\nbuiltin trap - EXIT\n"
	if !s.rec.Shell.Host {
		text += `case $1 in */*) ;; *) builtin type -P -- "$1" >/dev/null || { builtin printf 'rcc: cannot run %s: %s\n' "$1" ` + bashQuoted(onlyShell) + " >&2; builtin exit 127; } ;; esac\n"
	}
	return text + `builtin exec "$@"`
}

// rcVariables are what the text at shellRC wants to know.
func (s *session) rcVariables() string {
	at := s.places()
	text := "rcc_outputs=" + bashQuoted(at.Outputs) + " rcc_tree=" + bashQuoted(at.Tree) + " rcc_attrs=" + bashQuoted(at.Attrs) + "\n"
	if s.rec.Shell.Host {
		text += "rcc_path=" + bashQuoted(strings.Join(s.hostPath(), ":")) + "\n"
	}
	return text
}

// hostPath is the PATH that a task has without a dev shell.
func (s *session) hostPath() []string {
	plan, err := isolate.NewPlan(isolate.Policy{Net: "none"}, s.job("", nil), isolate.LookHost(s.env.environ))
	if err != nil {
		return nil
	}
	for _, e := range plan.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			return strings.Split(v, ":")
		}
	}
	return nil
}

func bashQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// interactive is the command for a shell in the task's sandbox.
func (s *session) interactive(env []string) isolate.Program {
	sh := s.shell
	if sh == nil {
		return s.program([]string{insideShell(), "-i"}, env)
	}
	bash := sh.Interactive
	if bash == "" {
		bash = sh.Bash
	}
	if bash == "" {
		return s.program([]string{"sh", "-i"}, env)
	}
	vars := sh.EnvironAt(s.places())
	args := []string{bash, "--rcfile", interactiveRC, "-i"}
	if s.rec.Envrc {
		args = append([]string{s.direnv(), "exec", s.repo.Path}, args...)
	}
	return isolate.Program{Args: args, Env: append(vars, env...)}
}

// The files in a task's folder that make a dev shell of a bash, and an interactive
// one, and where the sandbox shows the latter.
const (
	rcName          = "rc.bash"
	interactiveName = "shell.bash"
	interactiveRC   = "/rcc/shell/interactive.bash"
)

// writeShell makes those files. The first is a copy: a task of an ordinary user may
// take a lease on a file that it sees (F_SETLEASE in fcntl(2)), and so hold up
// whoever reads the cache's.
func (s *session) writeShell() error {
	sh := s.shell
	if sh == nil || sh.Bash == "" {
		return nil
	}
	rc, err := os.ReadFile(sh.RC)
	if err == nil {
		err = os.WriteFile(s.task.path(rcName), rc, 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot write to the task's folder: %w", underlying(err))
	}
	if s.rec.Run {
		return nil
	}
	text := s.rcVariables() + ". " + shellRC + "\n" +
		"PS1=" + bashQuoted(s.rec.ID+` \w \$ `) + "\n"
	if sh.Interactive == "" {
		text += "echo " + bashQuoted("rcc: the bash of this dev shell has no line editing; bashInteractive in the dev shell has") + " >&2\n"
	} else if file := completionIn(sh.Paths); file != "" {
		text += ". " + bashQuoted(file) + "\n"
	}
	if err := os.WriteFile(s.task.path(interactiveName), []byte(text), 0o644); err != nil {
		return fmt.Errorf("cannot write to the task's folder: %w", underlying(err))
	}
	return nil
}

// completionIn is bash-completion's file in a closure.
func completionIn(paths []string) string {
	for _, p := range paths {
		if strings.Contains(p, "-bash-completion-") {
			if file := p + "/share/bash-completion/bash_completion"; isFile(file) {
				return file
			}
		}
	}
	return ""
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

// notInShell explains why a command cannot be started, where it is the dev shell.
func (s *session) notInShell(err error) error {
	var ee *isolate.ExecError
	if s.shell == nil || s.rec.Shell.Host || !errors.As(err, &ee) || !errors.Is(err, syscall.ENOENT) || strings.Contains(s.rec.Command[0], "/") {
		return err
	}
	return fmt.Errorf("%w; %s", err, onlyShell)
}

// onlyShell is the mend for a program that a task lacks.
const onlyShell = "the dev shell is all that the task sees: add the program there, or use --shell flake+host"
