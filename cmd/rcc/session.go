package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"rcc/devshell"
	"rcc/isolate"
	"rcc/worktree"
)

// session joins the parts for one task: tree, sandbox, program, harvest. It is
// what a supervisor runs; rcc run and rcc exec run it in their own process.
type session struct {
	env    *surroundings
	task   task
	rec    *Record
	events events
	hub    *hub
	output *keptFile

	ledger ledger // of the network, in logs of their own
	flows  events
	denied denied
	way    *way // of the sandbox that stands

	git  *worktree.Git
	repo *worktree.Repo

	sight    *worktree.Sight // of the commit that the task starts from
	spec     worktree.TreeSpec
	layers   *worktree.Layers // what the tree stands on, held
	progress func(done, total int)

	shell     *devshell.Shell // the task's, held; nil for the host's tools
	undressed bool            // the tree is being filled, by the host's git

	stop chan syscall.Signal // asks the program to end

	hookEnv  []string  // of a run that is a hook
	deadline time.Time // when the task's time is over, once it has begun

	mu sync.Mutex
	sb *isolate.Sandbox // while the command runs
}

// sandbox is the running one, or nil.
func (s *session) sandbox() *isolate.Sandbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sb
}

func (s *session) setSandbox(sb *isolate.Sandbox) {
	s.mu.Lock()
	s.sb = sb
	s.mu.Unlock()
}

// stopGrace is how long a program has between being asked to end and being
// killed.
const stopGrace = 10 * time.Second

// exit statuses of rcc's own, as in env(1), timeout(1) and docker run.
const (
	exitTimedOut = 124
	exitCannot   = 125
)

var errInterrupted = errors.New("cannot go on: interrupted before the command started")

func newSession(env *surroundings, t task, r *Record) (*session, error) {
	s := &session{env: env, task: t, rec: r, stop: make(chan syscall.Signal, 1)}
	var err error
	if !r.Run { // of which nothing is kept
		ev, err := openKept(t.path("events.jsonl"), eventLimit)
		if err == nil {
			s.events = events{ev}
			s.output, err = openKept(t.path("output.log"), outputLimit)
		}
		if err == nil {
			err = s.keepNet(t)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot write to the state folder: %w", underlying(err))
		}
	}
	if s.git, err = worktree.NewGit(env.environ); err != nil {
		return nil, err
	}
	return s, nil
}

// phase says, in the record and the log, what the session is about to do, so
// that after a crash it is known how far it came.
func (s *session) phase(name string) error {
	s.rec.Phase = name
	s.events.add(event{Event: "phase", Text: name})
	if !s.rec.Run { // what is left of a run is removed, whatever it was at
		if err := s.task.save(s.rec); err != nil {
			return err
		}
	}
	crashPoint(name)
	return nil
}

// run is the life of a task, from its folder to its state at the end. The
// exit status is the command's own, or one of rcc's with an error.
func (s *session) run(ctx context.Context, input bool) (int, error) {
	began := time.Now()
	defer s.leaveLayers()
	defer s.leaveShell()
	status, err := s.work(ctx, input)
	if errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if err != nil {
		// What was there to take over is kept by the folder; the record says
		// why nothing was.
		s.fail(err)
		if s.rec.Exit == nil {
			s.rec.Exit = &status
		}
	}
	if s.rec.Run {
		return status, err
	}
	if s.rec.Finished = time.Now().UTC(); !s.rec.Retry {
		s.rec.Phase = ""
	}
	if saveErr := s.task.save(s.rec); err == nil && saveErr != nil {
		status, err = exitCannot, saveErr
	}
	s.events.add(event{Event: "end", Text: s.rec.State, Exit: s.rec.Exit, Tip: s.rec.Tip, Millis: millis(began)})
	return status, err
}

// fail writes down why there is no result. Work that was done is in the task's
// folder, and another try may take it over.
func (s *session) fail(err error) {
	s.rec.State, s.rec.Reason, s.rec.Retry = stateFailed, oneLine(err), false
	var refused *worktree.RefusedError
	switch {
	case s.rec.Phase != "harvest" && s.rec.Phase != "accept":
	case errors.As(err, &refused):
		s.rec.Reason += "; its files are kept: rcc exec " + s.rec.ID + " -- COMMAND can put them right"
	default:
		s.rec.Retry = true
		s.rec.Reason += "; its files are kept, and rcc gc tries again"
	}
}

func millis(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

func (s *session) work(ctx context.Context, input bool) (int, error) {
	if err := s.makeTree(ctx); err != nil {
		return exitCannot, err
	}
	sb, err := s.start(ctx)
	if err != nil {
		return exitCannot, err
	}
	s.setSandbox(sb)
	status, err := s.commandWithHooks(ctx, sb, input)
	s.setSandbox(nil)
	// Whatever the command left running ends here, before anything of its
	// work is read; while it might go on, nothing is.
	if closeErr := s.leave(sb); closeErr != nil {
		return exitCannot, closeErr
	}
	s.tell(s.denied.notes(s.rec))
	if restErr := s.rest(); restErr != nil {
		return exitCannot, restErr
	}
	if checkErr := s.tellDamage(); checkErr != nil {
		return exitCannot, checkErr
	}
	if errors.Is(err, isolate.ErrGone) && !s.rec.Run {
		// Something killed the sandbox. Its work is there, and nobody is left
		// who could change it.
		status = 128 + int(syscall.SIGKILL)
		s.rec.Exit = &status
		s.tell([]string{"the sandbox was killed while the command ran; the work up to then was taken over"})
		return status, s.takeOver(context.WithoutCancel(ctx))
	}
	if err != nil {
		var ee *isolate.ExecError
		if errors.As(err, &ee) {
			return ee.Status, err
		}
		return exitCannot, err
	}
	s.rec.Exit = &status
	if s.rec.Run {
		return status, nil
	}
	if err := s.takeOver(context.WithoutCancel(ctx)); err != nil {
		return status, err
	}
	return status, nil
}

// tellDamage says that a file of the base was not as it was made, if that became
// known only after the command had begun. What the task changed is not in there.
func (s *session) tellDamage() error {
	if s.rec.Run && !s.rec.Tree.Stands() {
		s.tell([]string{cacheGone})
	}
	err := s.layers.Known()
	var damaged *worktree.DamagedError
	if errors.As(err, &damaged) {
		s.tell([]string{"the command may have read a wrong file: " + oneLine(damaged) + "; the next task gets a new base"})
		return nil
	}
	return err
}

// rest tidies a tree that stays.
func (s *session) rest() error {
	if s.rec.Run {
		return nil
	}
	return s.rec.Tree.Rest()
}

// makeTree prepares the tree and everything else that the sandbox shows.
func (s *session) makeTree(ctx context.Context) error {
	if err := s.phase("prepare"); err != nil {
		return err
	}
	if err := s.openRepository(ctx); err != nil {
		return err
	}
	if err := s.openShell(); err != nil {
		return err
	}
	if s.shell != nil {
		s.tellShell(s.shell)
		if s.shell.Look("nix") != "" {
			s.tell([]string{"nix in this task evaluates only: it has no daemon and no store to write to"})
		}
	}
	if err := s.writeShell(); err != nil {
		return err
	}
	home := s.task.path("home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return fmt.Errorf("cannot make the private home: %w", underlying(err))
	}
	// Repositories that the agent makes for its tests have an author as well.
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), s.repo.IdentityConfig(), 0o644); err != nil {
		return fmt.Errorf("cannot make the private home: %w", underlying(err))
	}
	uid, gid := -1, -1
	if s.rec.HostUID != os.Geteuid() {
		uid, gid = s.rec.HostUID, s.rec.HostGID
		for _, p := range []string{home, filepath.Join(home, ".gitconfig")} {
			if err := os.Chown(p, uid, gid); err != nil {
				return fmt.Errorf("cannot give the private home to the task's user id: %w", underlying(err))
			}
		}
	}
	if err := s.findEnvrc(ctx, home); err != nil {
		return err
	}
	s.spec = worktree.TreeSpec{Dir: s.task.dir, ID: s.rec.ID, Base: s.rec.Base, Dirty: s.rec.Dirty, UID: uid, GID: gid, Sight: s.sight}
	carried, err := s.carry(ctx)
	if err != nil {
		return err
	}
	s.spec.Carried = carried
	return s.newTree(ctx, s.spec)
}

func (s *session) openRepository(ctx context.Context) (err error) {
	if s.repo == nil {
		s.repo, s.sight, err = s.git.Look(ctx, s.rec.Repository, s.rec.Base, s.rec.ID)
	}
	return err
}

// findNotes looks for what the tree will lack while the sandbox is made; the
// function that it returns waits for the answer.
func (s *session) findNotes(ctx context.Context) func() error {
	var notes []string
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		notes, err = s.repo.Notes(ctx, s.sight)
	}()
	return func() error {
		<-done
		s.tell(notes)
		return err
	}
}

// tell keeps what a user should know about a task, and says it, once.
func (s *session) tell(notes []string) {
	for _, n := range notes {
		if slices.Contains(s.rec.Notes, n) {
			continue
		}
		s.rec.Notes = append(s.rec.Notes, n)
		s.events.add(event{Event: "note", Text: n})
		if s.hub != nil {
			s.hub.note(n)
		} else {
			s.env.say("%s: %s", s.rec.ID, Inert(n))
		}
	}
}

// command runs what the task is for, and waits for it.
func (s *session) command(ctx context.Context, sb *isolate.Sandbox, input bool) (int, error) {
	if err := s.phase("command"); err != nil {
		return exitCannot, err
	}
	if err := s.hub.start(sb, s.program(s.rec.Command, append(s.programEnv(), s.agentEnv()...)), input); err != nil {
		return exitCannot, s.notInShell(err)
	}
	return s.wait(ctx, s.hub.proc)
}

// wait bounds the program by the task's time and by requests to stop.
func (s *session) wait(ctx context.Context, p *isolate.Process) (int, error) {
	var timeout, kill <-chan time.Time
	if s.rec.Timeout > 0 {
		timeout = time.After(s.timeLeft())
	}
	timedOut := false
	end := func(sig syscall.Signal) {
		p.Signal(sig)
		if kill == nil {
			kill = time.After(stopGrace)
		}
	}
	done := ctx.Done()
	for {
		select {
		case <-p.Done():
			status, err := p.Wait()
			if timedOut {
				status = exitTimedOut
			}
			return status, err
		case <-timeout:
			timedOut = true
			s.hub.note(fmt.Sprintf("the time of %s is over", s.rec.Timeout))
			s.events.add(event{Event: "timeout"})
			end(syscall.SIGTERM)
		case sig := <-s.stop:
			s.events.add(event{Event: "stop"})
			end(sig)
		case <-done:
			done = nil
			end(syscall.SIGTERM)
		case <-kill:
			p.Signal(syscall.SIGKILL)
			kill = time.After(stopGrace) // again: the group may have changed
		}
	}
}

// programEnv is what the program finds besides the sandbox's own variables:
// a short list from the caller, and the task.
func (s *session) programEnv() []string {
	env := append(passedEnv(s.env.environ), "RCC_TASK="+s.rec.ID, "RCC_PROMPT="+s.rec.Prompt)
	// Nix, where there is one, evaluates without a store, and refuses the rest by
	// itself (Nix manual, "Dummy Store"); without this it would try to make one.
	return append(append(env, "NIX_REMOTE=dummy://"), s.hookEnv...)
}

// agentEnv are the variables that the user's configuration gives to the agent.
func (s *session) agentEnv() []string {
	caller := s.env.caller
	if caller == nil {
		caller = s.env.environ
	}
	return selectEnv(caller, s.rec.Env)
}

// further is one more program in the sandbox, as a client asks for it; more of
// its environment comes from there, such as TERM of the terminal that it sits at.
func (s *session) further(hi hello) isolate.Program {
	env := append(s.programEnv(), passedEnv(hi.Env)...)
	if hi.Shell {
		return s.interactive(env)
	}
	return s.program(hi.Args, env)
}

// The user ids of root's tasks are of a range that is not used by anybody else
// (systemd's UIDS-GIDS.md, "Summary").
const (
	firstTaskUID = 1879048192
	lastTaskUID  = 2147483647
)

// taskUser decides who the program is: the caller's own ids, or, when that is
// root, ids of the task's own that nobody else on the machine has.
func taskUser(r *Record, key string) error {
	r.UID, r.GID = os.Geteuid(), os.Getegid()
	r.HostUID, r.HostGID = r.UID, r.GID
	if r.UID != 0 {
		return nil
	}
	if b, err := os.ReadFile("/proc/self/uid_map"); err == nil && !mapsAll(string(b)) {
		return errors.New("cannot run as the root of a user namespace, which has no other user to give to the task; run rcc as an ordinary user")
	}
	r.UID, r.GID = 1000, 1000
	// A task's place in the range follows from its name.
	h := fnv.New32a()
	h.Write([]byte(filepath.Join(key, r.ID)))
	r.HostUID = firstTaskUID + int(h.Sum32()%(lastTaskUID-firstTaskUID))
	r.HostGID = r.HostUID
	return nil
}

// mapsAll tells whether a uid_map is that of the initial user namespace, or one
// as wide (user_namespaces(7)).
func mapsAll(uidMap string) bool {
	f := strings.Fields(uidMap)
	return len(f) == 3 && f[0] == "0" && f[2] == "4294967295"
}
