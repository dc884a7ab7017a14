package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"rcc/devshell"
	"rcc/isolate"
	"rcc/worktree"
)

// startFlags are those of task and run.
type startFlags struct {
	Name    string         `help:"Name of the task (default: from the prompt)." placeholder:"ID"`
	Base    string         `help:"Commit to start from (default: HEAD)." placeholder:"REV"`
	Dirty   *bool          `help:"Carry uncommitted and untracked work along." negatable:""`
	Timeout *time.Duration `help:"End the command after this time, such as 30m; its status is then 124." placeholder:"DURATION"`
	Shell   string         `help:"The tools: auto, flake, flake#NAME, flake+host or host." placeholder:"SHELL"`
	Refresh bool           `help:"Evaluate the dev shell again."`
	Tree    string         `help:"Kind of tree: auto, overlay or checkout." enum:"auto,overlay,checkout," default:"" placeholder:"KIND"`
	DryRun  bool           `help:"Print the plan and do nothing."`
	JSON    bool           `name:"json" help:"Print the result as JSON; the command's output goes to standard error."`
	netFlags
}

type taskCmd struct {
	Prompt string `arg:"" optional:"" help:"What is to be done, in words."`
	startFlags
	Agent  string `help:"Agent of the configuration to use." placeholder:"NAME"`
	Detach *bool  `help:"Do not wait: rcc attach comes back to it." negatable:""`
}

func (c *taskCmd) Help() string {
	return `rcc task [flags] PROMPT [-- COMMAND ARG...]

Without COMMAND the configured agent runs; with it, any program does, and finds
the prompt in RCC_PROMPT. The exit status is the command's own.`
}

func (c *taskCmd) Run(env *surroundings, command commandLine) error {
	ctx := context.Background()
	if strings.TrimSpace(c.Prompt) == "" {
		return usage("cannot start a task without a prompt; try: rcc task \"fix tests\"")
	}
	st, err := prepareStart(ctx, env, &c.startFlags, c.Prompt)
	if err != nil {
		return err
	}
	rec := st.record
	if command == nil {
		if err := st.netSource().mayUse(c.Agent); err != nil {
			return err
		}
		if rec.Command, err = st.config.AgentCommand(c.Agent, c.Prompt); err != nil {
			return err
		}
		rec.Env = st.config.Agents[st.config.agentName(c.Agent)].Env
	} else if c.Agent != "" {
		return usage("cannot use both --agent and a command after --; choose one")
	} else if len(command) == 0 {
		return usage("cannot run an empty command; name one after --")
	} else {
		rec.Command = command
	}
	if err := checkText("the command", rec.Command...); err != nil {
		return err
	}
	agent := ""
	if command == nil {
		agent = st.config.agentName(c.Agent)
	}
	if err := st.network(ctx, c.netFlags, agent); err != nil {
		return err
	}
	if c.DryRun {
		return st.dryRun(ctx, &c.startFlags, false)
	}
	if err := st.shell(ctx, c.Shell, c.Refresh); err != nil {
		return err
	}
	defer st.leaveShell()
	if err := st.beforeTask(ctx); err != nil {
		return err
	}
	detach := st.config.Detach.Value
	if c.Detach != nil {
		detach = *c.Detach
	}
	if !detach {
		if err := st.warm(ctx); err != nil {
			return err
		}
	}
	t, lock, size, err := st.begin(ctx, c.JSON)
	if err != nil {
		return err
	}
	defer lock.Close()
	sup, err := startSupervisor(env, orders{Dir: t.dir, Size: size, Client: !detach, Input: !detach, Env: rec.Env, Whole: len(hooksNamed(rec.Hooks, false, hookAfterTask)) > 0}, lock)
	if err != nil {
		rec.State, rec.Reason = stateFailed, oneLine(err)
		return errors.Join(err, t.save(rec))
	}
	lock.Close()
	if detach {
		env.say("%s is running; rcc attach %s shows it", rec.ID, rec.ID)
		if c.JSON {
			return printJSON(env, viewOf(rec))
		}
		fmt.Fprintln(env.stdout, rec.ID)
		return nil
	}
	// When the supervisor ends before we do, its status must not stay behind.
	go sup.Wait()
	return followTask(env, t, size, c.JSON)
}

// followTask is the first client of a task that was just started.
func followTask(env *surroundings, t task, size *isolate.Size, asJSON bool) error {
	conn, err := dial(t)
	if err != nil {
		return err
	}
	cl := &client{
		env: env, f: &frames{rw: conn}, stdout: env.stdout, stderr: env.stderr, detachable: true, signal: signalTo(t, ""),
		hello: hello{Want: "attach", First: true, Input: true, Terminal: size != nil, Size: size},
	}
	if asJSON {
		cl.stdout = env.stderr
	}
	if size != nil {
		env.say("%s: Control-] leaves it running", t.id())
	}
	return afterTask(env, t, cl, asJSON)
}

// afterTask runs a client of a task to its end and tells the result.
func afterTask(env *surroundings, t task, cl *client, asJSON bool) error {
	o, err := cl.run()
	if errors.Is(err, errDetached) {
		fmt.Fprint(env.stderr, "\r\n")
		env.say("left %s running; rcc attach %s comes back to it", t.id(), t.id())
		return nil
	}
	if errors.Is(err, syscall.EPIPE) {
		env.say("left %s running, since nobody reads its output; rcc attach %s comes back to it", t.id(), t.id())
		return err
	}
	if err != nil {
		t.settle()
		return err
	}
	rec, loadErr := t.load()
	if loadErr != nil {
		return loadErr
	}
	if o.Error != "" {
		env.say("%s", Inert(o.Error))
	}
	summarize(env, rec)
	if asJSON {
		if err := printJSON(env, viewOf(rec)); err != nil {
			return err
		}
	}
	if o.Error != "" && o.Exit == 0 {
		o.Exit = exitCannot
	}
	if o.Exit != 0 {
		return &statusError{status: o.Exit}
	}
	return nil
}

// summarize tells in a line what became of a task, and what to do next.
func summarize(env *surroundings, r *Record) {
	switch r.State {
	case stateReview:
		env.say("%s: %s; see rcc diff %s, then rcc merge or rcc discard", r.ID, changes(r), r.ID)
	case stateEmpty:
		env.say("%s: no changes", r.ID)
	}
}

func changes(r *Record) string {
	files := "1 file"
	if r.Files != 1 {
		files = fmt.Sprintf("%d files", r.Files)
	}
	return fmt.Sprintf("%s changed, +%d -%d", files, r.Added, r.Removed)
}

// start is what task and run know before anything is made.
type start struct {
	env    *surroundings
	git    *worktree.Git
	repo   *worktree.Repo
	store  store
	sight  *worktree.Sight
	config *Config
	record *Record
	made   *devshell.Shell // held; nil for the host's tools
	net    *netPlan

	hookEnv []string // of a run that is a hook
}

func (st *start) leaveShell() {
	if st.made != nil {
		st.made.Release()
	}
}

// prepareStart finds the repository, the configuration and the base, and
// writes nothing: what can be refused is refused here.
func prepareStart(ctx context.Context, env *surroundings, f *startFlags, prompt string) (*start, error) {
	st := &start{env: env}
	var err error
	if st.git, err = gitHere(env); err != nil {
		return nil, err
	}
	id := f.Name
	if id == "" {
		id = NewID(prompt, rand.Reader)
	} else if err := CheckID(id); err != nil {
		return nil, err
	}
	base := f.Base
	if base == "" {
		base = "HEAD"
	}
	if st.repo, st.sight, err = st.git.Look(ctx, env.dir, base, id); err != nil {
		return nil, err
	}
	if err := isolate.CheckTarget(st.repo.Path); err != nil {
		return nil, err
	}
	if err := checkText("the folder of the repository", st.repo.Path, st.repo.CommonDir, env.dirs.State); err != nil {
		return nil, err
	}
	if err := checkText("the prompt", prompt); err != nil {
		return nil, err
	}
	commit := st.sight.Commit
	if st.config, err = readConfig(ctx, env, st.repo, st.sight); err != nil {
		return nil, err
	}
	r := &Record{
		ID: id, State: stateRunning, Phase: "start", Branch: "rcc/" + id, Base: commit, Start: commit,
		Prompt: prompt, Created: time.Now().UTC(), Repository: st.repo.Path,
		Dirty: st.config.Dirty.Value, Timeout: st.config.Timeout.Value, Carry: st.config.Carry.Value, Include: st.config.Include.Value,
	}
	if f.Dirty != nil {
		r.Dirty = *f.Dirty
	}
	if f.Timeout != nil {
		if *f.Timeout <= 0 {
			return nil, usage("cannot use --timeout %s: it must be longer than nothing, such as 30m", *f.Timeout)
		}
		r.Timeout = *f.Timeout
	}
	if r.Kind = f.Tree; r.Kind == "" {
		r.Kind = st.config.Tree.Value
	}
	if rules := st.config.shellRules(); len(rules.Watch)+len(rules.Ignore) > 0 {
		r.Rules = &rules
	}
	st.store = env.dirs.store(st.repo.Key())
	if err := taskUser(r, st.repo.Key()); err != nil {
		return nil, err
	}
	st.record = r
	return st, nil
}

func readConfig(ctx context.Context, env *surroundings, repo *worktree.Repo, sight *worktree.Sight) (*Config, error) {
	path, err := UserConfigPath(env.getenv)
	if err != nil {
		return nil, err
	}
	user, err := ReadUserConfig(path)
	if err != nil {
		return nil, err
	}
	var inRepo []byte
	if sight.Has(repoConfigName) {
		if inRepo, _, err = repo.ReadFile(ctx, sight.Commit, repoConfigName); err != nil {
			return nil, err
		}
	}
	return LoadConfig(path, user, repoConfigName, inRepo)
}

// checkText refuses what rcc could not write down and pass on unchanged: records
// and plans are JSON, which is UTF-8 (RFC 8259, 8.1).
func checkText(what string, texts ...string) error {
	for _, t := range texts {
		if !utf8.ValidString(t) {
			return fmt.Errorf("cannot use %s: %q is not UTF-8", what, t)
		}
	}
	return nil
}

// begin makes the task, and decides whether its command has a terminal: where
// rcc is on one, also when it is to be detached, since rcc attach shows it later.
func (st *start) begin(ctx context.Context, asJSON bool) (task, *os.File, *isolate.Size, error) {
	var size *isolate.Size
	if !asJSON {
		size = terminalSize(st.env)
	}
	st.record.Terminal = size != nil
	st.tellNetwork()
	t, lock, err := st.create(ctx)
	return t, lock, size, err
}

// create makes the task: from here on, rcc list shows it.
func (st *start) create(ctx context.Context) (task, *os.File, error) {
	repoLock, err := st.store.lock()
	if err != nil {
		return task{}, nil, err
	}
	defer repoLock.Close()
	if err := st.store.know(repositoryFile{Path: st.repo.Path, CommonDir: st.repo.CommonDir}); err != nil {
		return task{}, nil, err
	}
	if st.record.Run {
		return st.store.create(st.record) // it never has a branch
	}
	if st.sight.Taken {
		return task{}, nil, fmt.Errorf("cannot name a task %s: the branch rcc/%s exists; choose another name with --name", st.record.ID, st.record.ID)
	}
	return st.store.create(st.record)
}

// repositoryFile says, in the state folder, which repository it is for.
type repositoryFile struct {
	Path      string `json:"path"`
	CommonDir string `json:"commonDir"`
}

// know writes down which repository the store is for, once.
func (s store) know(repo repositoryFile) error {
	var known repositoryFile
	if readJSON(s.path("repository.json"), &known) == nil && known == repo {
		return nil
	}
	return writeJSON(s.path("repository.json"), repo, false)
}

func (s store) path(name string) string { return s.dir + "/" + name }

// runCmd is the same without a task: the tree goes when the command ends.
type runCmd struct {
	startFlags
	Keep bool `help:"Turn it into a task at the end."`
}

func (c *runCmd) Help() string { return "rcc run [flags] -- COMMAND ARG..." }

func (c *runCmd) Run(env *surroundings, command commandLine) error {
	ctx := context.Background()
	if len(command) == 0 {
		return usage("cannot run nothing; name a command after --, as in: rcc run -- make test")
	}
	if c.JSON && !c.Keep {
		return usage("cannot print a result as JSON when nothing is kept; add --keep")
	}
	prompt := strings.Join(command, " ")
	st, err := prepareStart(ctx, env, &c.startFlags, prompt)
	if err != nil {
		return err
	}
	rec := st.record
	rec.Command, rec.Run = command, !c.Keep
	if err := checkText("the command", command...); err != nil {
		return err
	}
	if err := st.network(ctx, c.netFlags, ""); err != nil {
		return err
	}
	if c.DryRun {
		return st.dryRun(ctx, &c.startFlags, true)
	}
	if err := st.shell(ctx, c.Shell, c.Refresh); err != nil {
		return err
	}
	defer st.leaveShell()
	st.keepMergeHooks()
	t, lock, size, err := st.begin(ctx, c.JSON)
	if err != nil {
		return err
	}
	defer lock.Close()
	status, err := st.runHere(ctx, t, size, c.JSON)
	if rec.Run {
		if gone := removeTask(ctx, st.repo, t, rec); err == nil {
			err = gone
		}
	} else {
		summarize(env, rec)
		if c.JSON {
			err = errors.Join(err, printJSON(env, viewOf(rec)))
		}
	}
	if err != nil {
		return &statusError{max(status, exitCannot), err}
	}
	if status != 0 {
		return &statusError{status: status}
	}
	return nil
}

// runHere is a session in this process, with this process as its only client.
func (st *start) runHere(ctx context.Context, t task, size *isolate.Size, asJSON bool) (int, error) {
	env := st.env
	s, err := newSession(env, t, st.record)
	if err != nil {
		return exitCannot, err
	}
	s.repo, s.sight, s.progress, s.shell, s.hookEnv = st.repo, st.sight, progressLine(env), st.made, st.hookEnv
	s.hub = newHub(size, s.output)
	cl, served := connectHere(env, s.hub, size)
	if asJSON {
		cl.stdout = env.stderr
	}
	// ^C belongs to the program; before there is one, it ends rcc in good order.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.hub.early = cancel
	result := make(chan error, 1)
	go func() {
		_, err := cl.run()
		result <- err
	}()
	<-served
	status, err := s.run(ctx, true)
	s.hub.finish(over{Exit: status}, true)
	<-result
	return status, err
}

// connectHere joins this process as a client of a hub of its own. The channel
// is closed when the hub knows the client.
func connectHere(env *surroundings, h *hub, size *isolate.Size) (*client, chan struct{}) {
	mine, theirs := net.Pipe()
	cl := &client{
		env: env, f: &frames{rw: mine}, stdout: env.stdout, stderr: env.stderr, signal: h.signal,
		hello: hello{Want: "attach", First: true, Input: true, Terminal: size != nil, Size: size},
	}
	served := make(chan struct{})
	go func() {
		f := &frames{rw: theirs}
		if kind, _, err := f.read(); err != nil || kind != frameHello {
			return
		}
		h.join(f, cl.hello)
		close(served)
		h.serve(f)
		// Nobody reads any more.
		h.signal(syscall.SIGHUP)
		time.AfterFunc(stopGrace, func() { h.signal(syscall.SIGKILL) })
	}()
	return cl, served
}

// quoted shows a command as one could type it.
func quoted(command []string) string {
	out := make([]string, len(command))
	for i, a := range command {
		if a != "" && !strings.ContainsFunc(a, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || slices.Contains([]rune("-_./=:,+@%"), r))
		}) {
			out[i] = a
			continue
		}
		out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(out, " ")
}
