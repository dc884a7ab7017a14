package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"rcc/devshell"
	"rcc/hooks"
)

type hookCmd struct {
	Shell string `arg:"" enum:"direnv,bash,zsh,fish" help:"direnv, bash, zsh or fish."`
}

func (c *hookCmd) Help() string {
	return `rcc hook direnv                 installs "use rcc" for .envrc files
eval "$(rcc hook bash)"         in ~/.bashrc, for a shell without direnv
eval "$(rcc hook zsh)"          in ~/.zshrc
rcc hook fish | source          in ~/.config/fish/config.fish

An .envrc that says "use rcc" then enters the dev shell of the folder's flake.nix
or shell.nix, once rcc allow has said that it may be evaluated.`
}

func (c *hookCmd) Run(env *surroundings) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find the path of rcc: %w", err)
	}
	if c.Shell != "direnv" {
		text, err := hooks.Script(c.Shell, self)
		if err != nil {
			return err
		}
		_, err = env.stdout.WriteString(text)
		return err
	}
	dir, err := hooks.DirenvConfigDir(env.environ)
	if err != nil {
		return err
	}
	path, changed, err := hooks.InstallDirenv(dir, self)
	if err != nil {
		return err
	}
	what := "is there already"
	if changed {
		what = "is written"
	}
	env.say("%s %s; put \"use rcc\" into an .envrc, then: direnv allow, rcc allow", Inert(path), what)
	return nil
}

// exportName is the hidden command that the hooks call. Its contract is in the
// package comment of hooks. It is read here and not as other commands are: it
// runs before a prompt, and the command line's library takes a millisecond.
const exportName = "export"

func runExport(env *surroundings, args []string) int {
	if len(args) == 0 || len(args) > 2 || !slices.Contains([]string{"direnv", "bash", "zsh", "fish"}, args[0]) {
		env.say("this command is for the hooks of rcc hook direnv|bash|zsh|fish")
		return exitUsage
	}
	c := exportCmd{Shell: args[0]}
	if len(args) == 2 {
		c.Name = args[1]
	}
	return finish(env, []string{exportName}, c.run(env))
}

type exportCmd struct{ Shell, Name string }

func (c *exportCmd) run(env *surroundings) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	text := ""
	if c.Shell == "direnv" {
		text = c.direnv(ctx, env)
	} else {
		var err error
		if text, err = c.prompt(ctx, env); err != nil {
			return err
		}
	}
	_, err := env.stdout.WriteString(text)
	return err
}

func (c *exportCmd) direnv(ctx context.Context, env *surroundings) string {
	d := hooks.Direnv{Environ: env.environ, Since: time.Now()}
	uses, _ := hooks.ParseEnvrc([]byte("use rcc " + c.Name))
	if len(uses) != 1 {
		d.Errors = []string{fmt.Sprintf("cannot use the dev shell %s: that is not a name", shownID(c.Name))}
		return d.Text()
	}
	x := exportShell(ctx, env, env.dir, uses[0], "")
	defer x.release()
	at := x.places()
	d.Watch, d.Outputs, d.Tree = x.watch, at.Outputs, at.Tree
	if x.err != nil {
		d.Errors = []string{oneLine(x.err)}
	}
	switch {
	case x.shell == nil:
	case x.runsHook():
		d.RC = x.shell.RC
	default:
		d.Vars = x.shell.EnvironAt(at)
	}
	if x.leavesHook() {
		env.say("%s", leftHook)
	}
	return d.Text()
}

// stampsName is the folder of what the shells' prompts remember.
const stampsName = ".stamps"

func (c *exportCmd) prompt(ctx context.Context, env *surroundings) (string, error) {
	p := hooks.Prompt{Shell: c.Shell, Dir: env.dir, Environ: env.environ, Stamps: filepath.Join(env.dirs.Cache, stampsName)}
	l, err := p.Look()
	if err == nil && l.Load {
		l, err = enterHere(ctx, env, l)
	}
	if err != nil {
		return "", err
	}
	if l.Notice != "" {
		env.say("%s", Inert(l.Notice))
	}
	return l.Code, nil
}

func enterHere(ctx context.Context, env *surroundings, l hooks.Look) (hooks.Look, error) {
	dir := filepath.Dir(l.Envrc)
	x := exportShell(ctx, env, dir, l.Name, l.Envrc)
	defer x.release()
	if x.shell == nil {
		return l.Refused(x.watch, oneLine(x.err))
	}
	after, err := x.environ(ctx, env, l.Base)
	if err != nil {
		return l.Refused(x.watch, oneLine(err))
	}
	notice := "entered the dev shell of " + dir
	if x.leavesHook() {
		notice += "; " + leftHook
	}
	if x.err != nil {
		notice = oneLine(x.err)
	}
	return l.Entered(after, x.shell.Key, x.watch, notice)
}

// hookPatience is how long a shellHook may take before a prompt goes on without it.
const hookPatience = time.Minute

// environ is an environment with the dev shell on top: its variables, and what its
// shellHook does to them, in its own bash. The user has allowed that code.
func (x *exported) environ(ctx context.Context, env *surroundings, base []string) ([]string, error) {
	sh, at := x.shell, x.places()
	if !x.runsHook() {
		return hooks.Merge(base, sh.EnvironAt(at)), nil
	}
	ctx, cancel := context.WithTimeout(ctx, hookPatience)
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// What the hook leaves running does not keep the pipe open.
	const text = `rcc_path=$PATH; . "$1" 3>&-; builtin exec "$2" ` + environName
	self, err := os.Executable()
	if err != nil {
		w.Close()
		return nil, err
	}
	cmd := exec.CommandContext(ctx, sh.Bash, "--norc", "--noprofile", "-c", "rcc_outputs="+bashQuoted(at.Outputs)+" rcc_tree="+bashQuoted(at.Tree)+"; "+text, "bash", sh.RC, self)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = base, os.Stderr, os.Stderr, []*os.File{w}
	// What a hook that hangs has started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	runtime.LockOSThread() // Pdeathsig is about the thread that forks (prctl(2), PR_SET_PDEATHSIG)
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("cannot start the dev shell's bash: %w", underlying(err))
	}
	w.Close()
	slow := time.AfterFunc(2*time.Second, func() {
		env.say("waiting for the shellHook of the dev shell, %s at most; ^C goes on without it", hookPatience)
	})
	defer slow.Stop()
	out := readUpTo(r, 8<<20)
	if err := cmd.Wait(); err != nil || out == "" {
		return nil, fmt.Errorf("cannot enter the dev shell: its shellHook ended before it was there (%v)", cmd.ProcessState)
	}
	return strings.Split(strings.TrimSuffix(out, "\x00"), "\x00"), nil
}

// environName is the hidden command that writes its environment to descriptor 3.
const environName = "__environ"

func printEnviron(environ []string) int {
	f := os.NewFile(3, "environ")
	if _, err := f.WriteString(strings.Join(environ, "\x00") + "\x00"); err != nil {
		return exitFailed
	}
	return 0
}

// An exported is the dev shell of a folder of the user's, as the hooks enter it.
type exported struct {
	shell *devshell.Shell // held; nil where there is none
	err   error           // why there is none, or why it is the last good one
	watch []string        // absolute paths of what decides
	dir   string
	top   string // of the checkout
	// unmerged says that the checkout has the work of a task, which nobody may
	// have read yet.
	unmerged bool
}

// runsHook tells whether the shellHook runs. What it reads in the folder that it is
// entered in was never allowed: in unmerged work the task has written that.
func (x *exported) runsHook() bool {
	return x.shell.HasHook && x.shell.Bash != "" && !x.unmerged
}

// leavesHook tells whether there is one that does not run for that reason.
func (x *exported) leavesHook() bool {
	return x.shell != nil && x.shell.HasHook && x.unmerged
}

const leftHook = "its shellHook does not run here: this is the unmerged work of a task, and a hook may read files of it"

// places are where its dev shell finds what it names.
func (x *exported) places() devshell.Places {
	return devshell.Places{Outputs: filepath.Join(x.dir, "outputs"), Tree: x.top}
}

func (x *exported) release() {
	if x.shell != nil {
		x.shell.Release()
	}
}

// exportShell finds the dev shell of the checkout that dir is in, as its files are
// now. Where it cannot be had, the last good one of the folder stands in.
func exportShell(ctx context.Context, env *surroundings, dir, attr, envrc string) *exported {
	began := time.Now()
	memo := readExportMemo(env.dirs, dir, attr, envrc)
	if memo != nil {
		if sh, err := devshell.OpenCache(env.dirs.shellCache()).Open(memo.Key); err == nil {
			return &exported{shell: sh, watch: memo.Watch, dir: dir, top: memo.Top, unmerged: memo.Unmerged}
		}
	}
	x := &exported{dir: dir}
	e := &exporter{env: env, dir: dir, attr: attr, envrc: envrc}
	x.shell, x.err = e.find(ctx)
	x.watch = e.watch()
	if e.repo != nil {
		x.top, x.unmerged = e.repo.Top, e.unmerged()
	}
	if x.err == nil {
		writeExportMemo(env.dirs, dir, attr, began, x, e)
		return x
	}
	if ctx.Err() != nil {
		x.err = errors.New("cannot enter the dev shell: interrupted")
	}
	if x.shell = e.lastGood(context.WithoutCancel(ctx)); x.shell != nil {
		x.err = fmt.Errorf("%w; the last good dev shell of this folder stays", x.err)
	}
	return x
}
