package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"rcc/isolate"
)

// detachKey leaves a task on a terminal running: Control-], as in telnet(1).
const detachKey = 0x1d

// client shows a program of a supervisor on this process's own streams.
type client struct {
	env    *surroundings
	f      *frames
	hello  hello
	stdout io.Writer // where the program's output goes
	stderr io.Writer
	// detachable says that the client can go and the program stays.
	detachable bool
	// signal passes a signal on to the program; nil for a client that only
	// looks, which a signal ends.
	signal func(syscall.Signal)

	detached atomic.Bool

	sizeMu sync.Mutex   // held while a size is sent: a later one never overtakes it
	sent   isolate.Size // last
}

var (
	errDetached = errors.New("detached")
	errLost     = errors.New("the connection to the supervisor was lost; rcc list tells what became of the task")
)

// terminalSize is that of the terminal that rcc is on, nil when its input or
// output is something else.
func terminalSize(env *surroundings) *isolate.Size {
	if !term.IsTerminal(int(env.stdin.Fd())) || !term.IsTerminal(int(env.stdout.Fd())) {
		return nil
	}
	cols, rows, err := term.GetSize(int(env.stdout.Fd()))
	if err != nil || cols <= 0 || rows <= 0 {
		return &isolate.Size{Rows: 24, Cols: 80}
	}
	return &isolate.Size{Rows: uint16(rows), Cols: uint16(cols)}
}

// run connects the streams until the program ends, and gives how it ended.
func (c *client) run() (over, error) {
	defer c.f.rw.Close()
	if c.hello.Size != nil {
		c.sent = *c.hello.Size
	}
	if err := c.f.writeJSON(frameHello, c.hello); err != nil {
		return over{}, errLost
	}
	if c.hello.Terminal {
		old, err := term.MakeRaw(int(c.env.stdin.Fd()))
		if err == nil {
			t := &terminalGuard{out: c.stdout}
			c.stdout = t
			defer t.restore(c.env, old)
		}
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGWINCH, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	done := make(chan struct{})
	defer close(done)
	go c.signals(signals, done)
	if c.hello.Input {
		go c.input()
	}
	return c.output()
}

// terminalGuard passes on what a program sends to the user's terminal, and puts
// the terminal right when rcc leaves: the program may be in the middle of a full
// screen, or have asked the terminal to type something that the user's shell
// would then read.
type terminalGuard struct {
	out io.Writer
	alt bool // the alternate screen is on
}

const (
	altScreenOn  = "\x1b[?1049h"
	altScreenOff = "\x1b[?1049l"
	// Mouse reports, focus reports, bracketed paste and application keys off,
	// cursor on, plain text (XTerm Control Sequences, "DEC Private Mode Reset").
	plainTerminal = "\x1b[?1000;1002;1003;1004;1006;1015;2004l\x1b[?1l\x1b>\x1b[?25h\x1b[0m"
)

func (t *terminalGuard) Write(p []byte) (int, error) {
	if on, off := bytes.LastIndex(p, []byte(altScreenOn)), bytes.LastIndex(p, []byte(altScreenOff)); on != off {
		t.alt = on > off
	}
	return t.out.Write(p)
}

func (t *terminalGuard) restore(env *surroundings, old *term.State) {
	reset := plainTerminal
	if t.alt {
		reset = altScreenOff + reset
	}
	io.WriteString(t.out, reset)
	fd := int(env.stdin.Fd())
	// Answers of the terminal that nobody has read yet (tcflush(3)).
	unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
	term.Restore(fd, old)
}

// output shows what comes until the end. A closed pipe on our side is the
// reader's wish to see no more: the program learns of it as it would alone.
func (c *client) output() (over, error) {
	for {
		kind, b, err := c.f.read()
		if err != nil {
			if c.detached.Load() {
				return over{}, errDetached
			}
			return over{}, errLost
		}
		switch kind {
		case frameOutput:
			if _, err := c.stdout.Write(b); err != nil {
				return over{}, err
			}
		case frameError:
			if _, err := c.stderr.Write(b); err != nil {
				return over{}, err
			}
		case frameNote:
			c.env.say("%s", Inert(string(b)))
		case frameOver:
			var o over
			if err := json.Unmarshal(b, &o); err != nil {
				return over{}, errLost
			}
			return o, nil
		}
	}
}

// input sends what the user types, or pipes.
func (c *client) input() {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.env.stdin.Read(buf)
		p := buf[:n]
		if n > 0 {
			c.resize(false)
		}
		if c.hello.Terminal && c.detachable {
			for i, b := range p {
				if b == detachKey {
					c.f.write(frameInput, p[:i])
					c.detach()
					return
				}
			}
		}
		if n > 0 && c.f.write(frameInput, p) != nil {
			return
		}
		if err != nil {
			c.f.write(frameEnd, nil)
			return
		}
	}
}

// resize sends the size of the user's terminal; unless again is set, only where
// it differs from what was sent. The signal that tells of a new size and what is
// typed after it come by two ways (SIGWINCH, signal(7)): without a look at the
// size before each input a key could overtake it.
func (c *client) resize(again bool) {
	if !c.hello.Terminal {
		return
	}
	c.sizeMu.Lock()
	defer c.sizeMu.Unlock()
	size := terminalSize(c.env)
	if size == nil || !again && *size == c.sent {
		return
	}
	c.sent = *size
	c.f.writeJSON(frameResize, size)
}

func (c *client) detach() {
	c.detached.Store(true)
	c.f.rw.Close()
}

// signals passes on what rcc itself is sent. A closed terminal only detaches.
func (c *client) signals(in chan os.Signal, done chan struct{}) {
	for {
		select {
		case <-done:
			return
		case sig := <-in:
			switch {
			case sig == syscall.SIGWINCH:
				c.resize(true)
			case c.detachable && (sig == syscall.SIGHUP || c.signal == nil):
				c.detach()
				return
			case c.signal != nil:
				c.signal(sig.(syscall.Signal))
			}
		}
	}
}

// signalTo gives the way for signals to a program of a task's supervisor.
func signalTo(t task, program string) func(syscall.Signal) {
	return func(sig syscall.Signal) {
		conn, err := dial(t)
		if err != nil {
			return // it has ended
		}
		defer conn.Close()
		f := &frames{rw: conn}
		f.writeJSON(frameHello, hello{Want: "signal", Signal: int(sig), Program: program})
		readFrame(conn) // until it was taken
	}
}
