package egress

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// drainTime is how long a side that cannot be written to any more may still be
// read from: a server that refuses a long request answers, then resets.
const drainTime = 5 * time.Second

// A flow joins two TCP connections. Bytes go from socket to socket by splice(2)
// and never pass through this process; while it is idle a flow costs two
// goroutines and no pipe or buffer.
type flow struct {
	program, world *net.TCPConn // inside and outside
	idle           time.Duration
	sent, received atomic.Int64 // by the program

	began time.Time
	moved atomic.Int64 // when bytes moved last, since began

	mu     sync.Mutex
	over   int   // directions that have ended
	err    error // how the flow ended, if not in order
	timer  *time.Timer
	broken chan struct{} // closed when the flow is reset
}

func newFlow(program, world *net.TCPConn, idle time.Duration) *flow {
	return &flow{program: program, world: world, idle: idle, began: time.Now(), broken: make(chan struct{})}
}

// errHeld is what hold gives to run when the flow is to be reset and the reason
// has been told.
var errHeld = errors.New("refused")

// run carries the flow to its end and closes both connections. hold is asked
// before anything of the program's is sent on; nil: nothing holds it. Half-close
// is passed on as half-close and a reset as a reset.
func (f *flow) run(hold func() error) error {
	f.mu.Lock()
	f.timer = time.AfterFunc(f.idle, f.watch)
	f.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.ended(f.pour(f.program, f.world, &f.received, "server"))
	}()
	var err error
	if hold != nil {
		err = hold()
	}
	if err == nil {
		err = f.pour(f.world, f.program, &f.sent, "program")
	}
	f.ended(err)
	<-done
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timer.Stop()
	f.program.Close()
	f.world.Close()
	return f.err
}

// A writeError is the failure of the side that is written to.
type writeError struct{ error }

func (w writeError) Unwrap() error { return w.error }

// pour copies from src to dst until src ends. from says who src is.
func (f *flow) pour(dst, src *net.TCPConn, count *atomic.Int64, from string) error {
	raw, err := src.SyscallConn()
	if err != nil {
		return err
	}
	for {
		size, err := waiting(raw)
		switch {
		case errors.Is(err, io.EOF):
			dst.CloseWrite() // fails where dst is gone already, which its other direction sees
			return nil
		case errors.Is(err, syscall.ECONNRESET):
			return fmt.Errorf("reset by the %s", from)
		case err != nil:
			return err
		}
		n, err := move(dst, src, size)
		count.Add(n)
		f.moved.Store(int64(time.Since(f.began)))
		if err != nil {
			return writeError{err}
		}
	}
}

// move copies size bytes that wait in src.
func move(dst, src *net.TCPConn, size int64) (int64, error) {
	if size > 0 {
		return dst.ReadFrom(&io.LimitedReader{R: src, N: size})
	}
	var buf [4096]byte
	n, err := src.Read(buf[:])
	if err != nil {
		return 0, nil // the next look tells why
	}
	n, err = dst.Write(buf[:n])
	return int64(n), err
}

// ended notes that a direction has ended. The flow ends with the second, or at
// once by a reset.
func (f *flow) ended(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over++
	var write writeError
	last := f.over == 2
	switch {
	case f.err == nil && err == nil:
	case f.err == nil && errors.As(err, &write) && !last && !timedOut(err):
		f.err = errors.New(plain(err))
		f.timer.Stop()
		f.timer = time.AfterFunc(drainTime, func() { f.cut(nil) })
	default:
		if f.err == nil {
			f.err = err
		}
		f.reset()
	}
}

// watch resets a flow that carried nothing for too long.
func (f *flow) watch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over == 2 || f.err != nil {
		return // it is ending already
	}
	quiet := time.Since(f.began) - time.Duration(f.moved.Load())
	if quiet < f.idle {
		f.timer.Reset(f.idle - quiet)
		return
	}
	f.err = fmt.Errorf("idle for %s", f.idle)
	f.reset()
}

// cut ends the flow from outside.
func (f *flow) cut(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = why
	}
	f.reset()
}

// reset ends both sides. The caller holds mu.
func (f *flow) reset() {
	select {
	case <-f.broken:
	default:
		close(f.broken)
	}
	reset(f.program)
	reset(f.world)
}
