package isolate

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// initStage is PID 1 of the sandbox. It builds the root, gives up everything,
// and then only starts, signals and reaps what the supervisor asks for.
func initStage(w wire) error {
	// Programs are forked from this thread: it is the one whose bounding set
	// is empty and whose time namespace for children is new.
	runtime.LockOSThread()
	// The keeper's death must be ours. The signal is set again here because
	// the keeper may have died before the clone's own was in place.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return stepError("tie init to its keeper", err)
	}
	p, err := readPlan()
	if err != nil {
		return err
	}
	unix.Close(planFD)
	unix.Close(wireFD)
	if err := setUp(w, p); err != nil {
		return err
	}
	if err := deafen(); err != nil {
		return stepError("close init to signals", err)
	}
	if err := w.send(message{Kind: kindReady}); err != nil {
		return err
	}
	s := &server{w: w, byPID: map[int]int{}, byID: map[int]int{}}
	s.started = sync.NewCond(&s.mu)
	go s.reap()
	return s.serve()
}

// deafen makes every signal's action the default. An init is not sent a signal
// from its own namespace whose action is that (pid_namespaces(7)), while Go's
// runtime handles nearly all and dies of most: of SIGSEGV even when it is taken
// with signal.Notify, if the sender made it look like a fault (rt_sigqueueinfo(2)).
// A fault of init's own still ends it. What runtime.AllThreadsSyscall needs
// signals for is over.
func deafen() error {
	// struct kernel_sigaction, all zero: SIG_DFL, no flags, nothing masked.
	var action [4]uint64
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig == uintptr(unix.SIGKILL) || sig == uintptr(unix.SIGSTOP) {
			continue
		}
		if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0); e != 0 {
			return os.NewSyscallError("rt_sigaction", e)
		}
	}
	return nil
}

// setUp is the flat list of what happens before anything of the program's
// runs. Each order constraint has its reason.
func setUp(w wire, p *Plan) error {
	var given []int
	if p.Privileged {
		m, fds, err := w.receive()
		if err == nil && m.Kind != kindMounts {
			err = errors.New("got " + m.Kind)
		}
		if err != nil {
			return stepError("receive mounts", err)
		}
		given = fds
	}
	// Before the root is changed: a new procfs may be mounted only while
	// another one is visible in full (mount_too_revealing in fs/namespace.c).
	if err := buildRoot(p, given); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(p.Hostname)); err != nil {
		return stepError("set the host name", err)
	}
	// Before the capabilities go: the limit wants CAP_SYS_RESOURCE in B.
	if err := limitUserNamespaces(p.UserNamespaces); err != nil {
		return stepError("limit user namespaces", err)
	}
	// A time namespace takes effect for children only (time_namespaces(7)).
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return stepError("make a time namespace", err)
	}
	if err := newKeyring(); err != nil {
		return stepError("make a keyring", err)
	}
	if err := setLimits(p); err != nil {
		return stepError("set resource limits", err)
	}
	// Last: everything above needs a capability.
	if err := dropAll(true); err != nil {
		return stepError("drop privileges", err)
	}
	if err := undumpable(); err != nil {
		return stepError("hide init", err)
	}
	return nil
}

// limitUserNamespaces bounds what the program may make, for this namespace and
// those below it (namespaces(7), "The /proc/sys/user directory"). With 0 the
// kernel's largest attack surface for the unprivileged is closed.
// It goes through a fresh procfs, because the program's own is read-only there.
func limitUserNamespaces(n int) error {
	proc, err := newFilesystem("proc", nil, attributes(Step{Writable: true, NoExec: true}))
	if err != nil {
		return err
	}
	defer unix.Close(proc)
	fd, err := unix.Openat(proc, "sys/user/max_user_namespaces", unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc/sys/user/max_user_namespaces", Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(strconv.Itoa(n))); err != nil {
		return &os.PathError{Op: "write", Path: "/proc/sys/user/max_user_namespaces", Err: err}
	}
	return nil
}

// newKeyring leaves the session keyring of the host, which is inherited over
// clone(2) and execve(2) and no namespace separates: Kerberos tickets and the
// keys of encrypted file systems lie in it (session-keyring(7)). It speaks of
// the calling thread, from which the programs are forked. A kernel without
// keyrings needs none.
func newKeyring() error {
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && !errors.Is(err, unix.ENOSYS) {
		return os.NewSyscallError("keyctl", err)
	}
	return nil
}

// setLimits: no core dump reaches the host. 0 would still start a handler that
// core_pattern pipes to, on the host and with the program's bytes; 1 does not
// (core(5), and "cprm.limit == 1" in fs/coredump.c).
func setLimits(p *Plan) error {
	if p.Data > 0 {
		if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: p.Data, Max: p.Data}); err != nil {
			return err
		}
	}
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1})
}

// server obeys the supervisor.
type server struct {
	w wire

	mu      sync.Mutex // guards the maps, the sending side, and fork against reap
	byPID   map[int]int
	byID    map[int]int
	started *sync.Cond // a program was started
}

func (s *server) serve() error {
	for {
		m, files, err := s.w.receive()
		if err != nil {
			return nil // the supervisor is gone: so are we
		}
		switch m.Kind {
		case kindSpawn:
			s.spawn(m, files)
		case kindSignal:
			s.signal(m)
		}
		for _, f := range files {
			unix.Close(f)
		}
	}
}

func (s *server) send(m message, files ...int) {
	s.w.send(m, files...) // when it fails, receive ends the stage
}

func (s *server) spawn(m message, files []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, terminal, err := s.start(m, files)
	if err != nil {
		e := message{Kind: kindError, ID: m.ID, Error: err.Error()}
		var errno unix.Errno
		if errors.As(err, &errno) {
			e.Errno = int(errno)
		}
		s.send(e)
		return
	}
	s.byPID[pid], s.byID[m.ID] = m.ID, pid
	s.started.Signal()
	started := message{Kind: kindStarted, ID: m.ID, PID: pid}
	if terminal < 0 {
		s.send(started)
		return
	}
	s.send(started, terminal)
	unix.Close(terminal)
}

// start forks one program. Its descriptors are those given and no others:
// everything of ours is close-on-exec.
func (s *server) start(m message, files []int) (pid, terminal int, err error) {
	env := m.Env
	path := self
	if !m.Self {
		if len(m.Args) == 0 {
			return 0, -1, unix.ENOENT
		}
		if path, err = lookProgram(m.Args[0], env, m.Dir); err != nil {
			return 0, -1, err
		}
	}
	attr := &syscall.ProcAttr{Dir: m.Dir, Env: env, Sys: &syscall.SysProcAttr{Setsid: true}}
	terminal = -1
	if m.Terminal != nil {
		master, slave, err := openTerminal(*m.Terminal)
		if err != nil {
			return 0, -1, err
		}
		defer unix.Close(slave)
		terminal = master
		attr.Files = []uintptr{uintptr(slave), uintptr(slave), uintptr(slave)}
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	} else {
		for _, f := range files {
			attr.Files = append(attr.Files, uintptr(f))
		}
	}
	pid, err = syscall.ForkExec(path, m.Args, attr)
	if err != nil && terminal >= 0 {
		unix.Close(terminal)
		terminal = -1
	}
	return pid, terminal, err
}

// openTerminal makes a pseudo-terminal in the sandbox's own devpts. The slave
// is taken from the master (TIOCGPTPEER, ioctl_tty(2)), never by a path.
func openTerminal(size Size) (master, slave int, err error) {
	master, err = unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, -1, &os.PathError{Op: "open", Path: "/dev/pts/ptmx", Err: err}
	}
	defer func() {
		if err != nil {
			unix.Close(master)
			master = -1
		}
	}()
	if err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return master, -1, os.NewSyscallError("ioctl TIOCSPTLCK", err)
	}
	if err = unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, size.winsize()); err != nil {
		return master, -1, os.NewSyscallError("ioctl TIOCSWINSZ", err)
	}
	fd, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		err = os.NewSyscallError("ioctl TIOCGPTPEER", e)
		return master, -1, err
	}
	return master, int(fd), nil
}

func (s *server) signal(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// While the lock is held the process has not been reaped, so the number
	// cannot have become somebody else's.
	if pid, ok := s.byID[m.ID]; ok {
		unix.Kill(-pid, unix.Signal(m.Signal))
	}
}

// reap waits for every child: those that were asked for, and the orphans that
// fall to PID 1.
func (s *server) reap() {
	for {
		// Wait without reaping, then reap under the lock, so that no exit is
		// seen before its start was recorded.
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		s.mu.Lock()
		if err != nil { // ECHILD: nobody is left, and nobody can come but by a start
			for len(s.byPID) == 0 {
				s.started.Wait()
			}
			s.mu.Unlock()
			continue
		}
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == nil && pid > 0 {
			if id, ok := s.byPID[pid]; ok {
				delete(s.byPID, pid)
				delete(s.byID, id)
				s.send(message{Kind: kindExit, ID: id, Status: exitStatus(ws)})
			}
		}
		s.mu.Unlock()
	}
}

// exitStatus counts as a shell does.
func exitStatus(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
