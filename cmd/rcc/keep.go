package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// keptFile is a log with a bound: when it is full, it becomes NAME.1 and a new
// one begins, so that the last limit bytes at least, and twice that at most,
// are kept.
type keptFile struct {
	path  string
	limit int64

	mu   sync.Mutex
	f    *os.File
	size int64
}

// Bounds of what a task's output and events may take on the disk, in bytes.
const (
	outputLimit = 8 << 20
	eventLimit  = 1 << 20
)

func openKept(path string, limit int64) (*keptFile, error) {
	k := &keptFile{path: path, limit: limit}
	return k, k.open()
}

func (k *keptFile) open() error {
	f, err := os.OpenFile(k.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	k.f, k.size = f, fi.Size()
	return nil
}

// Write keeps p. A full disk loses log lines, never the task: the error is the
// caller's to ignore.
func (k *keptFile) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.f == nil {
		return 0, fs.ErrClosed
	}
	if k.size > 0 && k.size+int64(len(p)) > k.limit {
		k.f.Close()
		k.f = nil
		if err := os.Rename(k.path, k.path+".1"); err != nil {
			return 0, err
		}
		if err := k.open(); err != nil {
			return 0, err
		}
	}
	n, err := k.f.Write(p)
	k.size += int64(n)
	return n, err
}

func (k *keptFile) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.f == nil {
		return nil
	}
	err := k.f.Close()
	k.f = nil
	return err
}

// copyKept writes what a keptFile at path holds.
func copyKept(w io.Writer, path string) error {
	for _, p := range []string{path + ".1", path} {
		f, err := os.Open(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// event is one line of a task's event log.
type event struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	Text  string    `json:"text,omitempty"`
	Exit  *int      `json:"exit,omitempty"`
	Tip   string    `json:"tip,omitempty"`
	Net   *netEvent `json:"net,omitempty"`
	// Millis is how long what the event ends has taken, in milliseconds.
	Millis float64 `json:"ms,omitempty"`
}

// events writes the event log.
type events struct{ w io.Writer }

func (e events) add(ev event) {
	if e.w == nil {
		return
	}
	ev.Time = time.Now().UTC()
	b, err := json.Marshal(ev)
	if err != nil {
		return
	}
	e.w.Write(append(b, '\n'))
}
