// Command rcc gives a coding agent a throwaway git worktree inside a namespace
// sandbox, and lets a person review, merge or discard what it did.
//
// This package joins the others and holds the command line: one file per
// command, the task's record (state.go), the session that joins tree, sandbox
// and harvest (session.go), and the supervisor with its clients
// (supervisor.go, hub.go, client.go).
//
// How rcc speaks: standard output carries results only; everything else goes
// to standard error, one line each, beginning with "rcc: ". Exit statuses are
// those of exit.go.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"rcc/isolate"
	"rcc/worktree"
)

func main() {
	// First of all: a stage of the sandbox is this executable under another
	// name, and must not do anything of an ordinary start.
	isolate.Main()
	switch filepath.Base(os.Args[0]) {
	case worktree.HarvestName:
		os.Exit(worktree.HarvestMain())
	case worktree.MonitorName:
		os.Exit(worktree.MonitorMain())
	case supervisorName:
		os.Exit(supervise(os.Args, os.Environ()))
	}
	// A reader that has seen enough must not kill rcc in the middle of a step
	// (os/signal, "SIGPIPE"); the write's error tells as much.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	dir, err := os.Getwd()
	env := &surroundings{dir: dir, environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	if err != nil {
		env.say("cannot find the current folder: %v", err)
		os.Exit(exitFor(os.Args[1:], exitFailed))
	}
	os.Exit(run(env, os.Args[1:]))
}

// cli is the command line. Its order is that of --help.
type cli struct {
	Task     taskCmd     `cmd:"" help:"Do a task: a tree of its own, a sandbox, an agent."`
	Run      runCmd      `cmd:"" help:"Run a command in the same sandbox and keep nothing."`
	List     listCmd     `cmd:"" help:"Show tasks, newest first."`
	Diff     diffCmd     `cmd:"" help:"Show what a task changed."`
	Merge    mergeCmd    `cmd:"" help:"Bring a task's result into a branch."`
	Discard  discardCmd  `cmd:"" help:"Forget tasks."`
	Undo     undoCmd     `cmd:"" help:"Take back the last merge or discard."`
	Open     openCmd     `cmd:"" help:"Make a task an ordinary linked worktree and print its path."`
	Shell    shellCmd    `cmd:"" help:"Open a shell in a task's sandbox."`
	Exec     execCmd     `cmd:"" help:"Run a command in a task's sandbox."`
	Log      logCmd      `cmd:"" help:"Show a task's output, or its events."`
	Why      whyCmd      `cmd:"" help:"Tell what a task was denied on the network, and what would allow it."`
	Attach   attachCmd   `cmd:"" help:"Go back to a running task."`
	Stop     stopCmd     `cmd:"" help:"End a running task and keep its work."`
	Init     initCmd     `cmd:"" help:"Write a configuration with every key explained."`
	Allow    allowCmd    `cmd:"" help:"Trust the repository's dev shell, and what its rcc.toml asks for, as they are now."`
	Deny     denyCmd     `cmd:"" help:"Take such trust back."`
	Firewall firewallCmd `cmd:"" help:"Put a second wall around private networks, on the host."`
	Hook     hookCmd     `cmd:"" help:"Let your shell or direnv enter dev shells by themselves."`
	GC       gcCmd       `cmd:"" name:"gc" help:"Remove what is over, and take over what was interrupted."`
	Doctor   doctorCmd   `cmd:"" help:"Tell what this machine can enforce, and how to mend what it cannot."`
	Demo     demoCmd     `cmd:"" help:"Show the whole thing on a scratch repository."`

	Completion completionCmd `cmd:"" help:"Print shell completion."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// takesCommand are the commands whose COMMAND follows "--". Their exit status
// is that command's own, so rcc's failures are 125 there.
var takesCommand = []string{"task", "run", "exec"}

func run(env *surroundings, args []string) int {
	var err error
	if env.dirs, err = findDirs(env.getenv); err != nil {
		env.say("%s", oneLine(err))
		return exitFor(args, exitFailed)
	}
	if first1(args) == exportName {
		return runExport(env, args[1:])
	}
	own, command := splitCommand(args)
	var c cli
	code := -1
	app, err := newApp(&c, env, func(n int) { code = n })
	if err != nil {
		env.say("%s", oneLine(err))
		return exitFailed
	}
	if first1(args) == completeName {
		return complete(env, app, command)
	}
	if first1(args) == environName {
		return printEnviron(env.environ)
	}
	if first1(args) == "--version" {
		own = []string{"version"}
	}
	if len(own) == 0 {
		own = []string{"--help"}
	}
	ctx, err := app.Parse(own)
	if code >= 0 { // --help was printed
		return code
	}
	if err != nil && command == nil && slices.Contains(takesCommand, first1(args)) && strings.HasPrefix(err.Error(), "unexpected argument") {
		err = fmt.Errorf("%w; a command comes after --", err)
	}
	if err != nil {
		env.say("%s; see rcc --help", oneLine(err))
		return exitFor(args, exitUsage)
	}
	return finish(env, args, ctx.Run(env, commandLine(command), app))
}

// commandLine is what follows "--"; nil when there is no "--".
type commandLine []string

func newApp(c *cli, env *surroundings, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("rcc"),
		kong.Description("A throwaway worktree, a sandbox around the agent, and your checkout untouched until you merge."),
		kong.Writers(env.stdout, env.stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	)
}

// splitCommand takes what follows the first "--" off the arguments of the
// commands that run something, so that no flag of it is ever taken for rcc's.
func splitCommand(args []string) (own, command []string) {
	if len(args) == 0 || !slices.Contains(takesCommand, args[0]) && args[0] != completeName {
		return args, nil
	}
	i := slices.Index(args, "--")
	if i < 0 {
		return args, nil
	}
	return args[:i], append([]string{}, args[i+1:]...)
}

// Exit statuses of all commands but task, run and exec.
const (
	exitFailed    = 1
	exitUsage     = 2
	exitNothing   = 3
	exitConflicts = 4
)

// statusError is an error with an exit status of its own. A nil Err prints
// nothing: all was said, or it is the status of a command.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("status %d", e.status)
	}
	return e.err.Error()
}
func (e *statusError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &statusError{exitUsage, fmt.Errorf(format, args...)}
}

func nothing(format string, args ...any) error {
	return &statusError{exitNothing, fmt.Errorf(format, args...)}
}

// exitFor gives the status for a failure of rcc's own.
func exitFor(args []string, status int) int {
	if len(args) > 0 && slices.Contains(takesCommand, args[0]) {
		return exitCannot
	}
	return status
}

// finish says what went wrong and gives the exit status.
func finish(env *surroundings, args []string, err error) int {
	if err == nil {
		return 0
	}
	var se *statusError
	if errors.As(err, &se) && se.err == nil {
		return se.status
	}
	if errors.Is(err, syscall.EPIPE) {
		return exitFor(args, exitFailed) // the reader has seen enough
	}
	env.say("%s", oneLine(err))
	var ce *worktree.ConflictError
	switch {
	case se != nil && slices.Contains(takesCommand, first1(args)):
		if se.status >= 124 && se.status != exitUsage {
			return se.status
		}
		return exitCannot
	case se != nil:
		return se.status
	case errors.As(err, &ce):
		return exitConflicts
	case errors.Is(err, worktree.ErrNothing):
		return exitNothing
	}
	return exitFor(args, exitFailed)
}

func first1(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
