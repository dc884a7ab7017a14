package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// scriptPtyCmd drives programs on terminals of their own:
//
//	pty start NAME COLSxROWS PROGRAM [ARG...]
//	pty send NAME TEXT              with \r \n \x03 and the like
//	pty expect NAME SECONDS TEXT    output since the last expect has TEXT, or ~REGEXP
//	pty resize NAME COLSxROWS
//	pty wait NAME SECONDS [STATUS]  it ends, with this status (default 0; "any")
//	pty output NAME                 all output so far becomes stdout of the script
//	pty close NAME                  the terminal goes away, as when a window is closed
//
// All output is also kept in $WORK/NAME.pty when the script ends.
func scriptPtyCmd(ts *testscript.TestScript, args []string) error {
	const usage = errScriptUsage("pty start|send|expect|resize|wait|output|close NAME …")
	if len(args) < 2 {
		return usage
	}
	verb, name, args := args[0], args[1], args[2:]
	ptys := ts.Value(ptysKey{}).(map[string]*scriptPty)
	if verb == "start" {
		if len(args) < 2 || ptys[name] != nil {
			return errScriptUsage("pty start NAME COLSxROWS PROGRAM [ARG...], with a new NAME")
		}
		p, err := startPty(ts, args[0], args[1], args[2:])
		if err != nil {
			return err
		}
		ptys[name] = p
		ts.Defer(func() {
			p.end()
			os.WriteFile(filepath.Join(ts.Getenv("WORK"), name+".pty"), []byte(p.output()), 0o644)
		})
		return nil
	}
	p := ptys[name]
	if p == nil {
		return errScriptUsage("pty start comes first: there is no " + name)
	}
	switch {
	case verb == "send" && len(args) == 1:
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[0], `"`, `\"`) + `"`)
		if err != nil {
			return errScriptUsage("pty send NAME TEXT: " + err.Error())
		}
		_, err = p.master.WriteString(text)
		return err
	case verb == "expect" && len(args) == 2:
		limit, err := ptySeconds(args[0])
		if err != nil {
			return err
		}
		pattern := regexp.QuoteMeta(args[1])
		if rest, ok := strings.CutPrefix(args[1], "~"); ok {
			pattern = rest
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return errScriptUsage(err.Error())
		}
		return p.expect(re, limit)
	case verb == "resize" && len(args) == 1:
		return setPtySize(p.master, args[0])
	case verb == "wait" && (len(args) == 1 || len(args) == 2):
		limit, err := ptySeconds(args[0])
		if err != nil {
			return err
		}
		want := "0"
		if len(args) == 2 {
			want = args[1]
		}
		return p.wait(limit, want)
	case verb == "output" && len(args) == 0:
		fmt.Fprint(ts.Stdout(), p.output())
		return nil
	case verb == "close" && len(args) == 0:
		return p.master.Close()
	}
	return usage
}

type ptysKey struct{}

// A scriptPty is a program on a pseudo-terminal.
type scriptPty struct {
	master *os.File
	cmd    *exec.Cmd
	done   chan struct{} // closed when the program has ended
	silent chan struct{} // closed when no more output comes

	mu   sync.Mutex
	out  []byte
	seen int // where the next expect starts
}

// maxPtyOutput bounds what is kept of a program's output, in bytes.
const maxPtyOutput = 8 << 20

func startPty(ts *testscript.TestScript, size, program string, args []string) (*scriptPty, error) {
	path, err := scriptLookPath(ts, program)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Args[0] = program
	cmd.Dir = ts.MkAbs(".")
	if cmd.Env, err = scriptEnviron(ts); err != nil {
		return nil, err
	}
	return startOnPty(cmd, size)
}

// startOnPty starts a command in a session of its own, on a new terminal.
func startOnPty(cmd *exec.Cmd, size string) (*scriptPty, error) {
	master, slave, err := openPty(size)
	if err != nil {
		return nil, err
	}
	defer slave.Close()

	p := &scriptPty{master: master, cmd: cmd, done: make(chan struct{}), silent: make(chan struct{})}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		master.Close()
		return nil, err
	}
	go p.read()
	go func() {
		cmd.Wait() // the streams are files, so this does not wait for the terminal
		close(p.done)
	}()
	return p, nil
}

// openPty makes a terminal and gives both its ends.
func openPty(size string) (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0) // non-blocking: Close ends a Read
	if err != nil {
		return nil, nil, err
	}
	var n int
	err = ptyControl(master, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if err == nil {
		err = setPtySize(master, size)
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("cannot set up a terminal: %w", err)
	}
	return master, slave, nil
}

func (p *scriptPty) read() {
	defer close(p.silent)
	buf := make([]byte, 32<<10)
	for {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		if room := maxPtyOutput - len(p.out); n > room {
			n = room
		}
		p.out = append(p.out, buf[:n]...)
		p.mu.Unlock()
		if err != nil { // EIO: nobody has the terminal open any more
			return
		}
	}
}

func (p *scriptPty) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.out)
}

func (p *scriptPty) expectText(text string, limit time.Duration) error {
	return p.expect(regexp.MustCompile(regexp.QuoteMeta(text)), limit)
}

func (p *scriptPty) expect(re *regexp.Regexp, limit time.Duration) error {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		closed := false
		select {
		case <-p.silent: // look once more at what came last
			closed = true
		default:
		}
		p.mu.Lock()
		rest := p.out[p.seen:]
		at := re.FindIndex(rest)
		if at != nil {
			p.seen += at[1]
		}
		p.mu.Unlock()
		switch {
		case at != nil:
			return nil
		case closed:
			return fmt.Errorf("no %q in the output, and the terminal is closed:\n%q", re, rest)
		case time.Now().After(end):
			return fmt.Errorf("no %q in the output within %v:\n%q", re, limit, rest)
		}
	}
}

func (p *scriptPty) wait(limit time.Duration, want string) error {
	select {
	case <-p.done:
	case <-time.After(limit):
		return fmt.Errorf("it still runs after %v; its output so far:\n%q", limit, p.output())
	}
	select {
	case <-p.silent:
	case <-time.After(time.Second): // something it started keeps the terminal open
	}
	state := p.cmd.ProcessState
	got := strconv.Itoa(state.ExitCode())
	if !state.Exited() {
		got = state.String()
	}
	if want != "any" && got != want {
		return fmt.Errorf("it ended with %s, want %s; its output:\n%q", got, want, p.output())
	}
	return nil
}

// end kills what is left on the terminal and closes it.
func (p *scriptPty) end() {
	select {
	case <-p.done:
	default:
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	p.master.Close()
	for _, c := range []chan struct{}{p.done, p.silent} {
		select {
		case <-c:
		case <-time.After(5 * time.Second):
		}
	}
}

func setPtySize(master *os.File, size string) error {
	cols, rows, _ := strings.Cut(size, "x")
	c, err1 := strconv.ParseUint(cols, 10, 16)
	r, err2 := strconv.ParseUint(rows, 10, 16)
	if errors.Join(err1, err2) != nil {
		return errScriptUsage("a size is COLSxROWS, as in 80x24")
	}
	return ptyControl(master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(c), Row: uint16(r)})
	})
}

// ptyControl calls f with the descriptor, which stays non-blocking.
func ptyControl(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = conn.Control(func(fd uintptr) { inner = do(int(fd)) })
	return errors.Join(err, inner)
}

func ptySeconds(s string) (time.Duration, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f <= 0 || f > 600 {
		return 0, errScriptUsage("a time limit is a number of seconds")
	}
	return time.Duration(f * float64(time.Second)), nil
}

// scriptLookPath finds a program as the script's own exec does.
func scriptLookPath(ts *testscript.TestScript, program string) (string, error) {
	if strings.Contains(program, "/") {
		return ts.MkAbs(program), nil
	}
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no program %s on PATH", program)
}

// scriptEnviron is the script's environment as it is now.
func scriptEnviron(ts *testscript.TestScript) ([]string, error) {
	file := filepath.Join(ts.Getenv("WORK"), ".tmp", "environ")
	if err := ts.Exec("sh", "-c", `env -0 >"$0"`, file); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []string
	for kv := range strings.SplitSeq(strings.TrimSuffix(string(data), "\x00"), "\x00") {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "_", "SHLVL", "OLDPWD": // the shell's own
		default:
			out = append(out, kv)
		}
	}
	return out, nil
}
