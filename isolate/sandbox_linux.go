package isolate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Size of a terminal, in characters.
type Size struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

func (s Size) winsize() *unix.Winsize { return &unix.Winsize{Row: s.Rows, Col: s.Cols} }

// Sandbox is a running keeper and init.
type Sandbox struct {
	plan   *Plan
	wire   wire
	keeper *exec.Cmd
	stderr *boundedBuffer
	init   int // pidfd
	pid    int // init's, as the host counts

	link     *link     // to the gate; nil without a way out
	diag     *sockDiag // of the sandbox's network; nil without a way out
	degraded []string

	mu     sync.Mutex
	nextID int
	procs  map[int]*Process
	sendMu sync.Mutex

	gone chan struct{} // closed when init has ended
	err  error         // why, when it was not Close
}

// Start makes the sandbox of a plan. When it returns, the sandbox stands and
// nothing has run in it. A step that could not be done is a *StepError.
// The sandbox ends when Close is called or this process ends, however it ends.
func Start(ctx context.Context, p *Plan) (*Sandbox, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	plan, err := sealedMemfd(encoded)
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	s := &Sandbox{plan: p, procs: map[int]*Process{}, gone: make(chan struct{}), stderr: &boundedBuffer{}}
	// The kernel shall say who sends: see awaitInit.
	if err := unix.SetsockoptInt(int(ours.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	s.wire, err = fileWire(ours)
	ours.Close() // fileWire has a descriptor of its own
	if err != nil {
		return nil, err
	}
	given := []*os.File{theirs, plan}
	if p.Net != NetNone {
		gate, err := s.openLink()
		if err != nil {
			s.wire.conn.Close()
			return nil, err
		}
		defer gate.Close()
		given = append(given, gate)
	}
	s.keeper = keeperCommand(p, given, s.stderr)
	if err := s.keeper.Start(); err != nil {
		s.abandon()
		return nil, cloneError(err)
	}
	for _, f := range given {
		f.Close() // the keeper's alone: its end shall be seen
	}
	stop := context.AfterFunc(ctx, func() { s.keeper.Process.Kill() })
	defer stop()
	if err := s.stand(); err != nil {
		s.abandon()
		s.keeper.Process.Kill()
		s.keeper.Wait()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, s.explain(err)
	}
	go s.receive()
	return s, nil
}

func keeperCommand(p *Plan, given []*os.File, stderr *boundedBuffer) *exec.Cmd {
	c := &exec.Cmd{
		Path: stagePath, Args: []string{keeperName}, Dir: "/",
		Env:        []string{"GOMAXPROCS=2"},
		Stderr:     stderr,
		ExtraFiles: given, // wireFD, planFD, linkFD
		SysProcAttr: &syscall.SysProcAttr{
			// A session of its own: no terminal's ^C reaches the sandbox
			// but through the supervisor.
			Setsid:      true,
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: p.HostUID, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: p.HostGID, Size: 1}},
			Pdeathsig:   unix.SIGKILL,
		},
	}
	if p.Privileged {
		// The mapping's only user is not us: become it, without our groups.
		c.SysProcAttr.GidMappingsEnableSetgroups = true
		c.SysProcAttr.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	}
	return c
}

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "wire"), os.NewFile(uintptr(fds[1]), "wire"), nil
}

// stand hands over what init needs and waits until it is ready.
func (s *Sandbox) stand() error {
	if s.plan.Privileged {
		if err := s.giveMounts(); err != nil {
			return err
		}
	}
	if s.link != nil {
		_, files, err := expect(s.wire, kindNetwork)
		if err != nil {
			return err
		}
		if len(files) != 1 {
			closeAll(files)
			return errors.New("the keeper did not send what shows the network's sockets")
		}
		s.diag = &sockDiag{fd: files[0]}
	}
	m, files, err := expect(s.wire, kindReady)
	closeAll(files)
	if err != nil {
		return err
	}
	// init waits for orders now, so the number is still its own.
	if s.init, err = unix.PidfdOpen(m.sender, 0); err != nil {
		return stepError("watch init", os.NewSyscallError("pidfd_open", err))
	}
	s.pid = m.sender
	if err := s.awaitGate(); err != nil {
		unix.Close(s.init)
		return err
	}
	return nil
}

// expect receives a message of a kind; an error that a stage told of is one of
// this function's. The descriptors are the caller's when there is no error.
func expect(w wire, kind string) (message, []int, error) {
	m, files, err := w.receive()
	switch {
	case err != nil:
		err = fmt.Errorf("the sandbox ended before it stood: %w", err)
	case m.Kind == kindError && m.Step == "":
		err = remoteError{m}
	case m.Kind == kindError:
		err = &StepError{Step: m.Step, Err: remoteError{m}}
	case m.Kind != kind:
		err = fmt.Errorf("unexpected %q from the sandbox", m.Kind)
	}
	if err != nil {
		closeAll(files)
		return m, nil, err
	}
	return m, files, nil
}

// awaitInit returns when init and, with it, every process of its pid namespace
// has ended: a pidfd tells of an exit after zap_pid_ns_processes. The keeper
// waits for the same, but may have been killed.
func (s *Sandbox) awaitInit() error {
	defer unix.Close(s.init)
	fds := []unix.PollFd{{Fd: int32(s.init), Events: unix.POLLIN}}
	for end := time.Now().Add(endLimit); ; {
		n, err := unix.Poll(fds, int(time.Until(end).Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return os.NewSyscallError("poll", err)
		case err == nil:
			return fmt.Errorf("its processes did not end within %s", endLimit)
		}
	}
}

// endLimit is how long the kernel may take to end a sandbox. A process that
// waits for a disk can not be killed before the disk answers.
const endLimit = time.Minute

// giveMounts clones, as root and in the host's mount namespace, what the
// program's host uid could not reach by a path.
func (s *Sandbox) giveMounts() error {
	userns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", s.keeper.Process.Pid))
	if err != nil {
		return stepError("open the keeper's user namespace", err)
	}
	defer userns.Close()
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, st := range s.plan.Steps {
		for _, source := range st.sources() {
			fd, err := openBind(source, int(userns.Fd()))
			if err != nil {
				return stepError(st.name(), err)
			}
			fds = append(fds, fd)
		}
	}
	return s.wire.send(message{Kind: kindMounts}, fds...)
}

// remoteError is an error that a stage told of; errors.Is sees its errno.
type remoteError struct{ m message }

func (e remoteError) Error() string { return e.m.Error }

func (e remoteError) Is(target error) bool {
	return e.m.Errno != 0 && target == error(unix.Errno(e.m.Errno))
}

// explain adds what the stage printed, if it died in a way of its own.
func (s *Sandbox) explain(err error) error {
	var se *StepError
	if !errors.As(err, &se) {
		if text := strings.TrimSpace(s.stderr.String()); text != "" {
			first, _, _ := strings.Cut(text, "\n")
			return fmt.Errorf("%w (%s)", err, first)
		}
		return err
	}
	return withMend(err)
}

// Process is a program in the sandbox.
type Process struct {
	s        *Sandbox
	id       int
	terminal *os.File
	started  chan error
	done     chan struct{}
	status   int
	lost     bool // the sandbox ended first
}

// Program is what Spawn starts.
type Program struct {
	// Args is the command; Args[0] is looked up in PATH of Env, inside.
	Args []string
	// Env is added to the plan's; the last entry of a name counts.
	Env []string
	// Dir is the working directory inside; empty means the plan's.
	Dir string
	// Terminal, if set, gives the program a pseudo-terminal of that size and
	// Files must be empty; otherwise Files are its descriptors 0, 1, 2, ….
	Terminal *Size
	Files    []*os.File
	// Self starts this executable under Args[0] instead of a program of the root.
	Self bool
}

// ExecError tells that a program could not be started. Status is 126 or 127,
// as a shell has it.
type ExecError struct {
	Name   string
	Status int
	Err    error
}

func (e *ExecError) Error() string {
	if e.Status == 127 {
		return fmt.Sprintf("cannot run %q in the sandbox: there is no such program in it", e.Name)
	}
	return fmt.Sprintf("cannot run %q in the sandbox: %v", e.Name, e.Err)
}
func (e *ExecError) Unwrap() error { return e.Err }

// ErrGone is what a sandbox answers that has ended.
var ErrGone = errors.New("the sandbox has ended")

// Spawn starts a program.
func (s *Sandbox) Spawn(prog Program) (*Process, error) {
	p := &Process{s: s, started: make(chan error, 1), done: make(chan struct{})}
	s.mu.Lock()
	select {
	case <-s.gone:
		s.mu.Unlock()
		return nil, ErrGone
	default:
	}
	s.nextID++
	p.id = s.nextID
	s.procs[p.id] = p
	s.mu.Unlock()

	m := message{Kind: kindSpawn, ID: p.id, Args: prog.Args, Env: mergeEnv(s.plan.Env, prog.Env), Dir: prog.Dir, Terminal: prog.Terminal, Self: prog.Self}
	if m.Dir == "" {
		m.Dir = s.plan.Dir
	}
	var fds []int
	for _, f := range prog.Files {
		fds = append(fds, int(f.Fd()))
	}
	s.sendMu.Lock()
	err := s.wire.send(m, fds...)
	s.sendMu.Unlock()
	if err != nil {
		s.forget(p.id)
		return nil, ErrGone
	}
	select {
	case err = <-p.started:
	case <-s.gone:
		err = ErrGone
	}
	if err != nil {
		s.forget(p.id)
		var r remoteError
		if errors.As(err, &r) {
			return nil, execError(prog.Args, r)
		}
		return nil, err
	}
	return p, nil
}

func execError(args []string, r remoteError) error {
	e := &ExecError{Status: 126, Err: unix.Errno(r.m.Errno)}
	if len(args) > 0 {
		e.Name = args[0]
	}
	if r.m.Errno == int(unix.ENOENT) || r.m.Errno == int(unix.ENOTDIR) {
		e.Status = 127
	}
	return e
}

func (s *Sandbox) forget(id int) {
	s.mu.Lock()
	delete(s.procs, id)
	s.mu.Unlock()
}

// receive takes init's messages until it ends.
func (s *Sandbox) receive() {
	defer s.end()
	for {
		m, files, err := s.wire.receive()
		if err != nil {
			s.err = err
			return
		}
		s.mu.Lock()
		p := s.procs[m.ID]
		if m.Kind == kindExit {
			delete(s.procs, m.ID)
		}
		s.mu.Unlock()
		if p == nil {
			closeAll(files)
			continue
		}
		switch m.Kind {
		case kindStarted:
			if len(files) > 0 {
				p.terminal = os.NewFile(uintptr(files[0]), "terminal")
				files = files[1:]
			}
			p.started <- nil
		case kindError:
			p.started <- remoteError{m}
		case kindExit:
			p.status = m.Status
			close(p.done)
		}
		closeAll(files)
	}
}

// end tells everybody who waits for a program that there is none any more.
func (s *Sandbox) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.gone)
	for id, p := range s.procs {
		p.lost = true
		close(p.done)
		delete(s.procs, id)
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Terminal is the supervisor's side of the program's terminal, or nil. The
// caller closes it.
func (p *Process) Terminal() *os.File { return p.terminal }

// Resize tells the program's terminal its new size.
func (p *Process) Resize(size Size) error {
	if p.terminal == nil {
		return nil
	}
	c, err := p.terminal.SyscallConn()
	if err != nil {
		return err
	}
	var ioctlErr error
	err = c.Control(func(fd uintptr) { ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size.winsize()) })
	return errors.Join(err, ioctlErr)
}

// Signal sends a signal to the program's process group.
func (p *Process) Signal(sig syscall.Signal) error {
	p.s.sendMu.Lock()
	defer p.s.sendMu.Unlock()
	if err := p.s.wire.send(message{Kind: kindSignal, ID: p.id, Signal: int(sig)}); err != nil {
		return ErrGone
	}
	return nil
}

// Done is closed when the program, or the sandbox with it, has ended; Wait says
// how.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait gives the program's exit status, 128+n for a signal, or ErrGone when
// the sandbox ended first.
func (p *Process) Wait() (int, error) {
	<-p.done
	if p.lost {
		return -1, ErrGone
	}
	return p.status, nil
}

// Close ends the sandbox with everything in it and returns when no process is
// left. The kernel kills the members of a pid namespace with its init and
// lets init's exit wait for them (zap_pid_ns_processes in kernel/pid_namespace.c).
func (s *Sandbox) Close() error {
	s.wire.conn.CloseWrite() // init reads the end and goes
	s.keeper.Wait()          // how it ended says nothing: it may have been killed
	err := s.awaitInit()
	s.abandon()
	<-s.gone
	if err != nil {
		return fmt.Errorf("cannot end the sandbox: %w", err)
	}
	return nil
}

// mergeEnv lets later entries win and keeps the order.
func mergeEnv(base, more []string) []string {
	var out []string
	at := map[string]int{}
	for _, e := range append(append([]string(nil), base...), more...) {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" {
			continue
		}
		if i, seen := at[name]; seen {
			out[i] = e
			continue
		}
		at[name] = len(out)
		out = append(out, e)
	}
	return out
}

// boundedBuffer keeps the beginning of what a dying stage prints.
type boundedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := 8<<10 - b.b.Len(); room > 0 {
		b.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *boundedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
