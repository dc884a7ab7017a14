package hooks

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A terminal is a program on a pseudo-terminal of its own.
type terminal struct {
	t      testing.TB
	master *os.File
	mu     sync.Mutex
	out    []byte
	asked  int
}

// patience is how long a shell may take for one thing; the machine may be busy.
const patience = 20 * time.Second

func openTerminal(t testing.TB, cmd *exec.Cmd) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var inner error
	err = conn.Control(func(fd uintptr) {
		n, inner = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		inner = errors.Join(inner, unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0),
			unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 200}))
	})
	if err = errors.Join(err, inner); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 16<<10)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.out = append(term.out, buf[:n]...)
			term.mu.Unlock()
			if err != nil { // EIO: nobody has it open any more
				return
			}
		}
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		master.Close()
		<-done
		if t.Failed() {
			t.Logf("the terminal:\n%s", term.text(0))
		}
	})
	return term
}

func (term *terminal) text(from int) string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return string(term.out[from:])
}

// ask runs a command and then tells what words stand for in the shell. The
// question's number keeps answers apart; what is typed never looks like one.
func (term *terminal) ask(command, words string) string {
	term.t.Helper()
	term.asked++
	from := len(term.text(0))
	mark := fmt.Sprintf("%d@@", term.asked)
	if command != "" {
		fmt.Fprintf(term.master, "%s\r", command)
	}
	fmt.Fprintf(term.master, "echo %d@''@%s@''@\r", term.asked, words)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(3 * time.Millisecond) {
		if _, rest, ok := strings.Cut(term.text(from), mark); ok {
			if answer, _, ok := strings.Cut(rest, "@@"); ok {
				return answer
			}
		}
	}
	term.t.Fatalf("no answer to %q, %q; the terminal:\n%s", command, words, term.text(0))
	return ""
}

// want asks until the answer is that; the commands typed before may still run.
func (term *terminal) want(command, words, want string) {
	term.t.Helper()
	if got := term.ask(command, words); got != want {
		term.t.Fatalf("after %q, %s is %q, want %q; the terminal:\n%s", command, words, got, want, term.text(0))
	}
}
