package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"rcc/isolate"
)

// A client and a supervisor speak over a Unix socket, in frames: one byte that
// names the kind, four bytes of length, big-endian, and that many bytes.
//
//	client                           supervisor
//	  │── hello (JSON) ────────────────▶│  attach, exec, stop, signal
//	  │◀── screen, output, errors ──────│  what the program writes
//	  │── input, end, resize ──────────▶│
//	  │◀── note (text) ─────────────────│  a line for the user
//	  │◀── over (JSON) ─────────────────│  the end: exit status and state
type frameKind byte

const (
	frameHello  frameKind = 'H'
	frameInput  frameKind = 'I'
	frameEnd    frameKind = 'E' // of input
	frameResize frameKind = 'R'
	frameOutput frameKind = 'o'
	frameError  frameKind = 'e'
	frameNote   frameKind = 'n'
	frameOver   frameKind = 'q'
)

// maxFrame bounds a frame; output is cut into pieces far below it.
const maxFrame = 4 << 20

// hello is what a client wants.
type hello struct {
	Want string `json:"want"` // "attach", "exec", "stop" or "signal"
	// Signal is for Want "signal", and Program which program of the task it is
	// for: what its exec said, "" for the task's own. Signals go by connections
	// of their own, because input that nobody reads yet may fill the client's.
	Signal  int    `json:"signal,omitempty"`
	Program string `json:"program,omitempty"`
	// Size of the client's terminal; nil when it has none.
	Size *isolate.Size `json:"size,omitempty"`
	// exec: a command, or the task's interactive shell
	Args     []string `json:"args,omitempty"`
	Shell    bool     `json:"shell,omitempty"`
	Env      []string `json:"env,omitempty"`
	Terminal bool     `json:"terminal,omitempty"`
	// First says that this client started the task and wants all output from
	// its beginning; others get the last screen.
	First bool `json:"first,omitempty"`
	// Replay asks for what was kept of the output, from its beginning.
	Replay bool `json:"replay,omitempty"`
	// Input says that the client will send the program's input, and that its
	// going away ends it.
	Input bool `json:"input,omitempty"`
}

// over is how it ended.
type over struct {
	Exit   int    `json:"exit"`
	Error  string `json:"error,omitempty"`  // rcc itself could not do it
	Record bool   `json:"record,omitempty"` // the task's record has the result
}

// frames reads and writes frames. Writing is safe for concurrent use.
type frames struct {
	rw io.ReadWriteCloser
	mu sync.Mutex
}

func (f *frames) write(kind frameKind, b []byte) error {
	head := make([]byte, 5, 5+len(b))
	head[0] = byte(kind)
	binary.BigEndian.PutUint32(head[1:], uint32(len(b)))
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.rw.Write(append(head, b...))
	return err
}

func (f *frames) writeJSON(kind frameKind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(kind, b)
}

var errFrame = errors.New("the other side does not speak rcc's protocol")

func (f *frames) read() (frameKind, []byte, error) {
	return readFrame(f.rw)
}

func readFrame(r io.Reader) (frameKind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, errFrame
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	return frameKind(head[0]), b, nil
}

// frameWriter is a writer whose bytes go out as frames of one kind.
type frameWriter struct {
	f    *frames
	kind frameKind
}

func (w frameWriter) Write(p []byte) (int, error) {
	const piece = 256 << 10
	for n := 0; n < len(p); n += piece {
		if err := w.f.write(w.kind, p[n:min(n+piece, len(p))]); err != nil {
			return n, err
		}
	}
	return len(p), nil
}
