package isolate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestInitCannotBeHarmed(t *testing.T) {
	w := newWorld(t, nil)
	w.sh(t, "for s in $(seq 64); do kill -$s 1; done")
	python := need(t, "/usr/bin/python3")
	// With si_code SI_QUEUE, a signal looks to Go's runtime like a fault.
	w.sh(t, python+` -c '
import ctypes, os, struct
nr = {"x86_64": 129, "aarch64": 138}[os.uname().machine]
for s in range(1, 65):
    ctypes.CDLL(None).syscall(nr, 1, s, struct.pack("iii", s, 0, -1) + bytes(116))'`)
	w.want(t, "echo alive", "alive")
	for _, p := range []string{"/proc/1/mem", "/proc/1/exe", "/proc/1/environ", "/proc/1/fd", "/proc/1/root"} {
		if out, status := w.sh(t, "test -r "+p+" && ls "+p+" && cat "+p); status == 0 {
			t.Errorf("%s is open: %.80s", p, out)
		}
	}
	w.want(t, "test -r /proc/self/environ && echo control", "control")
}

func marked(t *testing.T, text string) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(text)) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

func TestNobodySurvives(t *testing.T) {
	for name, script := range map[string]string{
		"setsid":           "setsid sleep %s & exit 0",
		"double fork":      "(sh -c 'sleep %s & exit') & wait; exit 0",
		"ignores":          "trap '' TERM HUP INT; (trap '' TERM HUP INT; sleep %s) & exit 0",
		"stopped":          "sleep %s & kill -STOP $!; exit 0",
		"kill -9 -1":       "setsid sleep %s & sleep 0.1; kill -9 -1",
		"orphan of orphan": "(setsid sh -c '(setsid sleep %s &) & exit' &) ; exit 0",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			mark := fmt.Sprintf("9%d", time.Now().UnixNano()%1e9)
			start := time.Now()
			w.spawnOnly(t, fmt.Sprintf(script, mark))
			if name != "kill -9 -1" && len(marked(t, mark)) == 0 {
				t.Fatal("no control: nothing was left behind while the sandbox stood")
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if left := marked(t, mark); len(left) > 0 {
				t.Errorf("processes %v are left", left)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("it took %s", d)
			}
		})
	}
}

func (w *world) spawnOnly(t *testing.T, script string) {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p, err := w.Spawn(Program{Args: []string{"sh", "-c", script}, Files: []*os.File{null, null, null}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // for what it left in the background to start
}

func TestSupervisorKilled(t *testing.T) {
	mark := fmt.Sprintf("8%d", time.Now().UnixNano()%1e9)
	c := exec.Command("/proc/self/exe", "-test.run=TestHelperSupervisor", "-test.v")
	c.Env = append(os.Environ(), "RCC_TEST_MARK="+mark, "RCC_TEST_STAGE="+stagePath)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(seen.String(), "standing") {
		n, err := out.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("the helper ended: %s", seen.String())
		}
	}
	if len(marked(t, mark)) == 0 {
		t.Fatal("no control: the program does not run")
	}
	c.Process.Kill()
	c.Wait()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := marked(t, mark)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("processes %v are left", left)
		}
	}
}

func TestHelperSupervisor(t *testing.T) {
	mark := os.Getenv("RCC_TEST_MARK")
	if mark == "" {
		t.Skip("only for TestSupervisorKilled")
	}
	w := newWorld(t, nil)
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	p, err := w.Spawn(Program{Args: []string{"sh", "-c", "setsid sleep " + mark + " & sleep " + mark}, Files: []*os.File{null, null, null}})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	fmt.Println("standing")
	p.Wait()
}

func TestExitStatus(t *testing.T) {
	w := newWorld(t, nil)
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143, "kill -9 $$": 137} {
		if _, got := w.sh(t, script); got != want {
			t.Errorf("%s: status %d, want %d", script, got, want)
		}
	}
	if err := os.WriteFile(filepath.Join(w.tree, "plain"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	null, _ := os.Open(os.DevNull)
	defer null.Close()
	for name, want := range map[string]int{"no-such-program": 127, "./plain": 126, "/srv/proj": 126, "./plain/x": 127} {
		_, err := w.Spawn(Program{Args: []string{name}, Files: []*os.File{null, null, null}})
		var ee *ExecError
		if !errors.As(err, &ee) || ee.Status != want {
			t.Errorf("%s: %v, want status %d", name, err, want)
		}
	}
}

func TestSignal(t *testing.T) {
	w := newWorld(t, nil)
	r, wr, _ := os.Pipe()
	null, _ := os.Open(os.DevNull)
	p, err := w.Spawn(Program{Args: []string{"sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"}, Files: []*os.File{null, wr, wr}})
	if err != nil {
		t.Fatal(err)
	}
	wr.Close()
	buf := make([]byte, 6)
	io.ReadFull(r, buf)
	if err := p.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); status != 5 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestTerminal(t *testing.T) {
	w := newWorld(t, nil)
	p, err := w.Spawn(Program{Args: []string{"sh", "-c", "tty; stty size; read x; stty size; kill -INT $$; sleep 5"}, Terminal: &Size{Rows: 33, Cols: 99}})
	if err != nil {
		t.Fatal(err)
	}
	term := p.Terminal()
	defer term.Close()
	if err := p.Resize(Size{Rows: 40, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	// The first size may already be the second.
	term.WriteString("go\n")
	b, _ := io.ReadAll(term) // ends with EIO when the last program is gone
	text := strings.ReplaceAll(string(b), "\r", "")
	if !strings.Contains(text, "/dev/pts/0\n") || !strings.HasSuffix(strings.TrimRight(text, "\n"), "40 120") {
		t.Errorf("the terminal showed %q", text)
	}
	if status, _ := p.Wait(); status != 130 {
		t.Errorf("status %d, want 130", status)
	}
}

func TestStepErrorNamesTheStep(t *testing.T) {
	job := Job{
		Dir: "/srv/proj", UID: 1000, GID: 1000, HostUID: 1000, HostGID: 1000, User: "u",
		Binds: []Bind{{Source: "/no/such/folder", Target: "/srv/proj"}},
	}
	if os.Getuid() != 0 {
		job.HostUID, job.HostGID = os.Getuid(), os.Getgid()
	}
	p, err := NewPlan(Policy{Net: "none"}, job, LookHost(os.Environ()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(context.Background(), p)
	var se *StepError
	if !errors.As(err, &se) || !strings.Contains(err.Error(), "bind /srv/proj") || !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}

func TestCancelledStart(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	job := Job{Dir: "/", UID: 1000, GID: 1000, HostUID: max(os.Getuid(), 1000), HostGID: max(os.Getgid(), 1000), User: "u"}
	p, err := NewPlan(Policy{Net: "none"}, job, LookHost(os.Environ()))
	if err != nil {
		t.Fatal(err)
	}
	if sb, err := Start(ctx, p); err == nil {
		sb.Close()
		// A start that wins the race against an ended context is fine.
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestInitKilled(t *testing.T) {
	w := newWorld(t, nil)
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	defer null.Close()
	p, err := w.Spawn(Program{Args: []string{"sleep", "60"}, Files: []*os.File{null, null, null}})
	if err != nil {
		t.Fatal(err)
	}
	mark := fmt.Sprintf("7%d", time.Now().UnixNano()%1e9)
	w.spawnOnly(t, "setsid sleep "+mark+" & exit 0")
	w.keeper.Process.Kill()
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told")
	}
	if _, err := p.Wait(); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
	if _, err := w.Spawn(Program{Args: []string{"true"}}); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if left := marked(t, mark); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}
