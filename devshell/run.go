package devshell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Nix gets this long to end by itself, and to end its builders, before its
// group is killed.
const killDelay = 2 * time.Second

// call is one run of nix.
type call struct {
	dir    string   // absolute; the working directory
	args   []string // all of them
	env    []string // added to the caller's environment
	out    *capped
	stderr io.Writer
}

// exitError is a nix that ended with a status other than 0, or by a signal. Like
// all errors of run but the context's it is the end of a sentence about nix.
type exitError struct {
	status int
	signal syscall.Signal // 0: it ended by itself
}

func (e exitError) Error() string {
	switch e.signal {
	case 0:
		return fmt.Sprintf("ended with status %d", e.status)
	case syscall.SIGKILL: // the kernel's own way where memory is short
		return "was killed (signal 9; is there enough memory?)"
	}
	return fmt.Sprintf("was killed (signal %d: %s)", int(e.signal), e.signal)
}

// exited is how a process ended. os/exec gives -1 as the status of one that a
// signal ended.
func exited(err *exec.ExitError) exitError {
	if ws, ok := err.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitError{status: -1, signal: ws.Signal()}
	}
	return exitError{status: err.ExitCode()}
}

// notStarted is why a program does not start. That a file which is there does not
// exist is what execve(2) says of one whose interpreter is missing.
func notStarted(program string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) && at.Op == "chdir" {
		return fmt.Errorf("does not start in %q: %w", at.Path, errnoOf(err))
	}
	if _, gone := os.Stat(program); gone == nil && errors.Is(err, fs.ErrNotExist) {
		return errors.New("does not start: its interpreter or loader does not exist")
	}
	return fmt.Errorf("does not start: %w", errnoOf(err))
}

// run runs nix in a process group of its own. ^C at the terminal does not
// reach it: it ends when ctx does, with everything in its group. Nix itself
// ends its builders, which have sessions of their own, on SIGTERM.
func (n *Nix) run(ctx context.Context, c call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		// The kernel sends Pdeathsig when the thread that forked ends, not the
		// process (prctl(2), PR_SET_PDEATHSIG): this one stays for as long as nix.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- n.runLocked(ctx, c)
	}()
	return <-done
}

func (n *Nix) runLocked(ctx context.Context, c call) error {
	var g group
	cmd := exec.CommandContext(ctx, n.path, c.args...)
	cmd.Dir = c.dir
	cmd.Env = append(append([]string{}, n.environ...), c.env...)
	cmd.Stdout, cmd.Stderr = c.out, c.stderr
	// If rcc is killed, Nix is told to end, so that it ends its builders too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return g.signal(cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killDelay // then os/exec kills nix, and await the rest of its group
	if err := cmd.Start(); err != nil {
		return notStarted(n.path, err)
	}
	g.await(ctx, cmd.Process.Pid)
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &exit):
		return exited(exit)
	case errors.Is(err, exec.ErrWaitDelay): // a helper that it left behind has the pipes; it printed all it would
	case err != nil:
		return fmt.Errorf("cannot be waited for: %w", err)
	}
	if c.out.over {
		return fmt.Errorf("prints more than %s", c.out.limit())
	}
	return nil
}

// group is a process group that may be signalled for as long as its leader is
// not reaped: until then its number belongs to nobody else.
type group struct {
	mu   sync.Mutex
	over bool
}

func (g *group) signal(pid int, sig syscall.Signal) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return nil
	}
	return syscall.Kill(-pid, sig)
}

// await waits for the leader without reaping it, and takes those of its group
// along that it left behind when it was made to end.
func (g *group) await(ctx context.Context, pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	if ctx.Err() != nil {
		_ = g.signal(pid, syscall.SIGKILL)
	}
	g.mu.Lock()
	g.over = true
	g.mu.Unlock()
}

// capped keeps up to max bytes, and remembers that there was more. It goes on
// reading, so that the writer does not die of a closed pipe. The buffer is a
// field with a name: were it embedded, io.Copy, by which os/exec reads the pipe,
// would find its ReadFrom and never call Write.
type capped struct {
	buf  bytes.Buffer
	max  int
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if room := c.max - c.buf.Len(); len(p) > room {
		c.over = true
		c.buf.Write(p[:room])
		return len(p), nil
	}
	return c.buf.Write(p)
}

// limit is max as words name it.
func (c *capped) limit() string {
	if c.max < 1<<20 {
		return fmt.Sprintf("%d KiB", c.max>>10)
	}
	return fmt.Sprintf("%d MiB", c.max>>20)
}
