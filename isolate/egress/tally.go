package egress

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	tallyTime = 10 * time.Second // between two words about the same thing
	maxTally  = 1024             // things that are counted each for itself
)

// A tally tells an event the first time at once, and how often it came again
// every tallyTime and at the end.
type tally struct {
	tell func(Event)

	mu     sync.Mutex
	counts map[Event]int // an event without its Count → repeats not told yet
	order  []Event       // its keys, as they came
	others int           // what did not fit
}

// add takes an event, which counts as one.
func (t *tally) add(e Event) {
	e.Count = 0
	if t.begin(e) {
		e.Count = 1
		t.tell(e)
	}
}

// begin is true for an event that is not counted yet.
func (t *tally) begin(e Event) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.counts[e]; ok {
		t.counts[e]++
		return false
	}
	if len(t.counts) >= maxTally {
		t.others++
		return false
	}
	if t.counts == nil {
		t.counts = map[Event]int{}
	}
	t.counts[e] = 0
	t.order = append(t.order, e)
	return true
}

// repeat takes n repeats of an event whose program is not known any more: they
// are the first's. It is false if there was none.
func (t *tally) repeat(e Event, n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.order {
		e.Program = k.Program
		if e == k {
			t.counts[k] += n
			return true
		}
	}
	return false
}

// more takes n events that nothing is known of.
func (t *tally) more(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.others += n
}

// run tells the repeats until ctx is over.
func (t *tally) run(ctx context.Context) {
	tick := time.NewTicker(tallyTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.flush()
		case <-ctx.Done():
			return
		}
	}
}

// flush tells the repeats. What did not come again is forgotten: the next one
// is told at once.
func (t *tally) flush() {
	t.mu.Lock()
	var told, kept []Event
	for _, e := range t.order {
		n := t.counts[e]
		if n == 0 {
			delete(t.counts, e)
			continue
		}
		t.counts[e] = 0
		kept = append(kept, e)
		e.Count = n
		told = append(told, e)
	}
	t.order = kept
	if t.others > 0 {
		told = append(told, Event{
			Kind: KindDenied, Count: t.others,
			Text: fmt.Sprintf("others: more than %d different ones came at once", maxTally),
		})
		t.others = 0
	}
	t.mu.Unlock()
	for _, e := range told {
		t.tell(e)
	}
}
