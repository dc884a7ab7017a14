package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"rcc/isolate"
)

// hub joins one program in the sandbox with the clients that look at it: what
// the program writes goes to every client and to the log, what clients type
// goes to the program.
type hub struct {
	log  *keptFile // nil when nothing is kept
	size *isolate.Size
	// early is called when a client sends a signal before the program runs.
	early func()

	mu      sync.Mutex
	proc    *isolate.Process
	hook    func(syscall.Signal) // where signals go while a hook runs
	clients map[*frames]*viewer
	screen  *screen
	stdin   io.WriteCloser
	owner   *frames // whose going away ends the program's input

	// What clients sent before the program was there to read it.
	queue    []byte
	queueEnd bool
	running  bool          // the queue was given to the program
	ready    chan struct{} // closed when the program is there, or never will be
	isReady  sync.Once

	outputs sync.WaitGroup
}

// newHub makes a hub; size is that of the program's terminal, nil for none.
func newHub(size *isolate.Size, log *keptFile) *hub {
	h := &hub{log: log, size: size, clients: map[*frames]*viewer{}, ready: make(chan struct{})}
	if size != nil {
		h.screen = newScreen(*size)
	}
	return h
}

// start runs a program whose ends are the hub's. withInput says that a client
// will feed it; otherwise it reads nothing.
func (h *hub) start(sb *isolate.Sandbox, prog isolate.Program, withInput bool) error {
	if err := h.spawn(sb, prog, withInput); err != nil {
		return err
	}
	go h.startInput()
	return nil
}

// startInput gives the program what was typed before it was there. Until that
// is done, nobody else writes to it.
func (h *hub) startInput() {
	defer h.isReady.Do(func() { close(h.ready) })
	for {
		h.mu.Lock()
		p, w := h.queue, h.stdin
		h.queue = nil
		if len(p) == 0 {
			h.queue = nil
			if h.queueEnd {
				h.endInput()
			}
			h.running = true
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		if w != nil {
			w.Write(p)
		}
	}
}

func (h *hub) spawn(sb *isolate.Sandbox, prog isolate.Program, withInput bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.size != nil {
		prog.Terminal = h.size
		p, err := sb.Spawn(prog)
		if err != nil {
			return err
		}
		h.proc, h.stdin = p, nopCloser{p.Terminal()}
		h.outputs.Add(1)
		go h.pump(p.Terminal(), frameOutput)
		return nil
	}
	inR, inW, err := inputEnds(withInput)
	if err != nil {
		return err
	}
	defer inR.Close()
	outR, outW, err1 := os.Pipe()
	errR, errW, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	defer outW.Close()
	defer errW.Close()
	prog.Files = []*os.File{inR, outW, errW}
	p, err := sb.Spawn(prog)
	if err != nil {
		outR.Close()
		errR.Close()
		if inW != nil {
			inW.Close()
		}
		return err
	}
	h.proc = p
	if inW != nil {
		h.stdin = inW
	}
	h.outputs.Add(2)
	go h.pump(outR, frameOutput)
	go h.pump(errR, frameError)
	return nil
}

func inputEnds(withInput bool) (r, w *os.File, err error) {
	if withInput {
		return os.Pipe()
	}
	r, err = os.Open(os.DevNull)
	return r, nil, err
}

// nopCloser keeps the terminal open when input ends: it is output's as well.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// pump passes on what the program writes until it ends. A terminal whose last
// program is gone gives EIO, a pipe gives EOF: both are the end.
func (h *hub) pump(f *os.File, kind frameKind) {
	defer h.outputs.Done()
	defer f.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			h.show(kind, buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (h *hub) show(kind frameKind, p []byte) {
	h.mu.Lock()
	if h.log != nil {
		h.log.Write(p)
	}
	if h.screen != nil {
		h.screen.Write(p)
	}
	viewers := h.list()
	h.mu.Unlock()
	for _, v := range viewers {
		if !v.send(outFrame{kind, bytes.Clone(p)}) {
			h.leave(v.f)
		}
	}
}

// note tells every client a line.
func (h *hub) note(text string) {
	h.mu.Lock()
	viewers := h.list()
	h.mu.Unlock()
	for _, v := range viewers {
		v.send(outFrame{frameNote, []byte(text)})
	}
}

// list has the caller hold the lock.
func (h *hub) list() []*viewer {
	out := make([]*viewer, 0, len(h.clients))
	for _, v := range h.clients {
		out = append(out, v)
	}
	return out
}

// join adds a client. What it missed is shown as the last screen, or as all
// that was kept; for the client that started the program it does not exist yet.
func (h *hub) join(c *frames, hi hello) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := newViewer(c, hi.First)
	h.clients[c] = v
	switch {
	case hi.Replay && h.log != nil:
		var kept bytes.Buffer
		copyKept(&kept, h.log.path)
		v.missed = outFrame{frameOutput, kept.Bytes()}
	case h.screen != nil && !hi.First:
		v.missed = outFrame{frameOutput, h.screen.render()}
	}
	if hi.Input {
		h.owner = c
	}
	if hi.Size != nil {
		h.resize(*hi.Size)
	}
	go v.write()
}

func (h *hub) leave(c *frames) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.clients[c]; v != nil {
		v.drop()
		delete(h.clients, c)
	}
	if h.owner == c {
		h.owner = nil
		h.endInput()
	}
}

// endInput is the end of the program's input, also when that is yet to start.
// The caller holds the lock.
func (h *hub) endInput() {
	if h.size != nil {
		return // a terminal has no end; ^D is a byte
	}
	h.queueEnd = true
	if h.stdin != nil && (h.running || len(h.queue) == 0) {
		h.stdin.Close()
		h.stdin = nil
	}
}

// resize has the caller hold the lock.
func (h *hub) resize(size isolate.Size) {
	if h.size == nil || size.Rows == 0 || size.Cols == 0 {
		return
	}
	*h.size = size
	h.screen.resize(size)
	if h.proc != nil {
		h.proc.Resize(size)
	}
}

// maxQueue is how much is kept for a program that has not started, in bytes.
const maxQueue = 1 << 20

// input passes on what a client types. It does not hold the lock while the
// program is slow to read.
func (h *hub) input(p []byte) {
	h.mu.Lock()
	if hook := h.hook; hook != nil && h.size != nil && bytes.IndexByte(p, interrupt) >= 0 {
		h.mu.Unlock()
		hook(syscall.SIGINT)
		return
	}
	if !h.running && len(h.queue)+len(p) <= maxQueue {
		h.queue = append(h.queue, p...)
		early := h.proc == nil && h.size != nil && bytes.IndexByte(p, interrupt) >= 0
		h.mu.Unlock()
		if early && h.early != nil {
			h.early()
		}
		return
	}
	h.mu.Unlock()
	<-h.ready
	h.mu.Lock()
	w := h.stdin
	h.mu.Unlock()
	if w != nil {
		w.Write(p) // an error means that the program reads no more
	}
}

// interrupt is ^C as a terminal in raw mode sends it.
const interrupt = 0x03

// divert gives signals and ^C to a hook, until the function is called that it
// gives back.
func (h *hub) divert(to func(syscall.Signal)) func() {
	h.setHook(to)
	return func() { h.setHook(nil) }
}

func (h *hub) setHook(to func(syscall.Signal)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hook = to
}

func (h *hub) signal(sig syscall.Signal) {
	h.mu.Lock()
	p, hook := h.proc, h.hook
	h.mu.Unlock()
	switch {
	case hook != nil:
		hook(sig)
	case p != nil:
		p.Signal(sig)
	case h.early != nil:
		h.early()
	}
}

// drain waits until everything that the program wrote was passed on, for limit
// at most: a process that it left behind may hold the pipe open.
func (h *hub) drain(limit time.Duration) {
	done := make(chan struct{})
	go func() { h.outputs.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// finish tells every client how it ended, and returns when all have heard. With
// all, the one that started the program gets all of its output first, however
// slowly it reads: that ends, because the sandbox has ended. Without, something
// that the program left running may hold its output open. Others have a moment.
func (h *hub) finish(o over, all bool) {
	h.isReady.Do(func() { close(h.ready) })
	h.mu.Lock()
	viewers := h.list()
	h.mu.Unlock()
	var told sync.WaitGroup
	for _, v := range viewers {
		told.Go(func() {
			if v.first && all {
				h.outputs.Wait()
			}
			v.end(o)
		})
	}
	told.Wait()
}

// serve obeys one client until it goes.
func (h *hub) serve(c *frames) {
	defer h.leave(c)
	for {
		kind, b, err := c.read()
		if err != nil {
			return
		}
		switch kind {
		case frameInput:
			h.input(b)
		case frameEnd:
			h.mu.Lock()
			h.endInput()
			h.mu.Unlock()
		case frameResize:
			var size isolate.Size
			if json.Unmarshal(b, &size) == nil {
				h.mu.Lock()
				h.resize(size)
				h.mu.Unlock()
			}
		}
	}
}

// passesOn are the signals that a client may send to the program.
func passesOn(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2:
		return true
	}
	return false
}
