package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rcc/isolate"
)

// A task's supervisor is a process in a session of its own, so that it outlives
// the terminal that started it. It inherits the task's lock and its listening
// socket from rcc task, which is then a client like any other: there is no
// moment at which the task has no owner, and nothing to poll for.
const supervisorName = "rcc-supervisor"

// Descriptors that a supervisor starts with.
const (
	lockFD   = 3
	socketFD = 4
)

// orders are what rcc task tells the supervisor it starts.
type orders struct {
	Dir    string        `json:"dir"` // the task's folder
	Size   *isolate.Size `json:"size,omitempty"`
	Client bool          `json:"client"`        // a first client will connect
	Input  bool          `json:"input"`         // and feed the program
	Whole  bool          `json:"whole"`         // it is given all of the caller's environment
	Env    []string      `json:"env,omitempty"` // names of variables that the task's command is given
}

// firstClient is how long a supervisor waits for the client that started it.
const firstClient = 10 * time.Second

// startSupervisor hands the task over to a process of its own. lock is the
// task's; the caller closes its copy.
func startSupervisor(env *surroundings, o orders, lock *os.File) (*exec.Cmd, error) {
	listener, err := listen(o.Dir)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	arg, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(o.Dir, "supervisor.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot write to the state folder: %w", underlying(err))
	}
	defer log.Close()
	c := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{supervisorName, string(arg)}, Dir: "/",
		Env: selectEnv(env.environ, append(slices.Clip(supervised), o.Env...)), Stdout: log, Stderr: log,
		ExtraFiles:  []*os.File{lock, listener},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if o.Whole {
		c.Env = env.environ
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("cannot start a supervisor: %w", err)
	}
	return c, nil
}

// A socket's address holds 107 bytes (unix(7)), less than a path may have: the
// folder goes by its descriptor.
func inFolder(dir string, f func(address string) error) error {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return f("/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/socket")
}

func listen(dir string) (*os.File, error) {
	var f *os.File
	err := inFolder(dir, func(address string) error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		defer l.Close()
		f, err = l.File()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot make the task's socket: %w", underlying(err))
	}
	return f, nil
}

// dial connects to a task's supervisor.
func dial(t task) (net.Conn, error) {
	var c net.Conn
	err := inFolder(t.dir, func(address string) error {
		var err error
		c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: address, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot reach task %s: nobody works on it", t.id())
	}
	return c, nil
}

// supervise is the supervisor's main function.
func supervise(args []string, environ []string) int {
	unix.CloseOnExec(lockFD)
	unix.CloseOnExec(socketFD)
	var o orders
	if len(args) != 2 || json.Unmarshal([]byte(args[1]), &o) != nil {
		fmt.Fprintln(os.Stderr, "rcc: this name is for rcc's own use")
		return exitCannot
	}
	env := &surroundings{dir: "/", environ: selectEnv(environ, supervised), caller: environ, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	if err := superviseTask(env, o, os.NewFile(lockFD, "lock")); err != nil {
		env.say("%s", oneLine(err))
		return 1
	}
	return 0
}

// superviseTask holds the task's lock until its end is written down.
func superviseTask(env *surroundings, o orders, lock *os.File) error {
	defer lock.Close()
	var err error
	if env.dirs, err = findDirs(env.getenv); err != nil {
		return err
	}
	t := task{o.Dir}
	var rec Record
	if err := readJSON(t.path("record.json"), &rec); err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(socketFD, "socket"))
	if err != nil {
		return err
	}
	sv := &supervisor{joined: make(chan struct{}), hub: newHub(o.Size, nil)}
	defer sv.clients.Wait() // each has been told how it ended, or has gone
	defer l.Close()
	s, err := newSession(env, t, &rec)
	if err == nil {
		sv.session, s.hub = s, sv.hub
		sv.hub.log = s.output
	}
	go sv.accept(l)
	if err != nil {
		rec.State, rec.Reason, rec.Phase = stateFailed, oneLine(err), ""
		t.save(&rec)
		sv.awaitClient(o)
		os.Remove(t.path("socket"))
		lock.Close()
		sv.hub.finish(over{Exit: exitCannot, Error: oneLine(err)}, true)
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	signal.Ignore(syscall.SIGHUP)
	sv.hub.early = cancel
	sv.awaitClient(o)
	status, err := s.run(ctx, o.Input)
	crashPoint("over")
	// From here on nothing works on the task: whoever hears of its end may
	// merge it at once, and a client that reads slowly keeps nobody waiting.
	if lock := s.afterTask(lock); lock != nil {
		os.Remove(t.path("socket"))
		lock.Close()
	}
	result := over{Exit: status, Record: true}
	if err != nil {
		result.Error = oneLine(err)
	}
	s.hub.finish(result, true)
	return nil
}

// supervisor serves a session's clients.
type supervisor struct {
	session *session
	hub     *hub
	mu      sync.Mutex
	execs   map[string]*hub // further programs, by the name that their client gave
	once    sync.Once
	joined  chan struct{} // closed when the first client is there
	clients sync.WaitGroup
}

// awaitClient lets the client that started the task see all of its output.
func (sv *supervisor) awaitClient(o orders) {
	if !o.Client {
		return
	}
	select {
	case <-sv.joined:
	case <-time.After(firstClient):
	}
}

func (sv *supervisor) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // too many descriptors, say
			continue
		}
		sv.clients.Go(func() { sv.client(c) })
	}
}

// client serves one connection. Only the user can reach the socket: its
// folder is open to nobody else.
func (sv *supervisor) client(c net.Conn) {
	defer c.Close()
	f := &frames{rw: c}
	c.SetReadDeadline(time.Now().Add(firstClient))
	kind, b, err := f.read()
	var hi hello
	if err != nil || kind != frameHello || json.Unmarshal(b, &hi) != nil {
		return
	}
	c.SetReadDeadline(time.Time{})
	switch hi.Want {
	case "attach":
		sv.hub.join(f, hi)
		if hi.First {
			sv.once.Do(func() { close(sv.joined) })
		}
		sv.hub.serve(f)
	case "stop":
		if sv.session != nil {
			select {
			case sv.session.stop <- syscall.SIGTERM:
			default: // asked already
			}
		}
		sv.hub.join(f, hello{})
		sv.hub.serve(f)
	case "signal":
		if h := sv.hubOf(hi.Program); h != nil && passesOn(syscall.Signal(hi.Signal)) {
			h.signal(syscall.Signal(hi.Signal))
		}
	case "exec":
		sv.exec(f, hi)
	}
}

// exec runs one more program in the task's sandbox.
func (sv *supervisor) exec(f *frames, hi hello) {
	fail := func(status int, err error) {
		f.writeJSON(frameOver, over{Exit: status, Error: oneLine(err)})
	}
	var sb *isolate.Sandbox
	if sv.session != nil {
		sb = sv.session.sandbox()
	}
	if sb == nil {
		fail(exitCannot, errors.New("cannot enter the sandbox: the task is being set up or taken over; try again in a moment"))
		return
	}
	h := newHub(execSize(hi), nil)
	sv.setExec(hi.Program, h)
	defer sv.setExec(hi.Program, nil)
	status, err := execIn(sb, h, f, hi, sv.session.further(hi))
	if err != nil {
		fail(status, err)
	}
}

func (sv *supervisor) setExec(name string, h *hub) {
	if name == "" {
		return
	}
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if h == nil {
		delete(sv.execs, name)
		return
	}
	if sv.execs == nil {
		sv.execs = map[string]*hub{}
	}
	sv.execs[name] = h
}

// hubOf finds a program of the task; "" is its own.
func (sv *supervisor) hubOf(name string) *hub {
	if name == "" {
		return sv.hub
	}
	sv.mu.Lock()
	defer sv.mu.Unlock()
	return sv.execs[name]
}

// execSize is the terminal of a further program, nil for none.
func execSize(hi hello) *isolate.Size {
	switch {
	case !hi.Terminal:
		return nil
	case hi.Size == nil:
		return &isolate.Size{Rows: 24, Cols: 80}
	}
	return hi.Size
}

// execIn runs a program beside the task's own and serves its client to the end.
func execIn(sb *isolate.Sandbox, h *hub, f *frames, hi hello, prog isolate.Program) (int, error) {
	hi.First, hi.Input = true, true
	h.join(f, hi)
	if err := h.start(sb, prog, true); err != nil {
		var ee *isolate.ExecError
		if errors.As(err, &ee) {
			return ee.Status, err
		}
		return exitCannot, err
	}
	// A client that goes away hangs up on its program.
	go func() { h.serve(f); h.signal(syscall.SIGHUP) }()
	status, err := h.proc.Wait()
	if err != nil {
		return exitCannot, err
	}
	h.drain(500 * time.Millisecond)
	h.finish(over{Exit: status}, false)
	return status, nil
}
