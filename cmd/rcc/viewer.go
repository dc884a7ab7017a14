package main

import (
	"encoding/json"
	"sync"
	"time"
)

// viewer is one client of a hub, with what is on its way to it. The client that
// started the program misses nothing: a pipe that is read slowly holds the
// program back, as it would without rcc. Nobody else can: who falls too far
// behind is let go.
type viewer struct {
	f      *frames
	first  bool
	missed outFrame // shown before all else
	queue  chan outFrame

	once    sync.Once
	dropped chan struct{} // it is gone, or was let go
	written chan struct{} // nothing more is sent to it
}

// outFrame is a frame on its way to a client.
type outFrame struct {
	kind frameKind
	p    []byte
}

// viewerQueue is how many frames a client may be behind: 4 MiB of full ones.
const viewerQueue = 128

// lastMoment is how long a client that is not the first may take for what is
// on its way when the program has ended.
const lastMoment = 2 * time.Second

func newViewer(f *frames, first bool) *viewer {
	return &viewer{f: f, first: first, queue: make(chan outFrame, viewerQueue), dropped: make(chan struct{}), written: make(chan struct{})}
}

// send puts a frame on its way; false says that the client is no more.
func (v *viewer) send(o outFrame) bool {
	if v.first {
		select {
		case v.queue <- o:
			return true
		case <-v.dropped:
			return false
		}
	}
	select {
	case <-v.dropped:
		return false
	case v.queue <- o:
		return true
	default:
		v.drop()
		return false
	}
}

// drop lets the client go. Closing the connection ends a write that hangs.
func (v *viewer) drop() {
	v.once.Do(func() {
		close(v.dropped)
		v.f.rw.Close()
	})
}

// write sends what is queued until the end or the client's going.
func (v *viewer) write() {
	defer close(v.written)
	if len(v.missed.p) > 0 {
		if _, err := (frameWriter{v.f, v.missed.kind}).Write(v.missed.p); err != nil {
			v.drop()
			return
		}
		v.missed.p = nil
	}
	for {
		select {
		case <-v.dropped:
			return
		case o := <-v.queue:
			if v.f.write(o.kind, o.p) != nil {
				v.drop()
				return
			}
			if o.kind == frameOver {
				return
			}
		}
	}
}

// end tells the client how it ended and waits until it has heard.
func (v *viewer) end(o over) {
	b, err := json.Marshal(o)
	if err != nil {
		return
	}
	if !v.send(outFrame{frameOver, b}) {
		return
	}
	if v.first {
		<-v.written
		return
	}
	select {
	case <-v.written:
	case <-time.After(lastMoment):
		v.drop()
	}
}
