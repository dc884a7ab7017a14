package egress

import (
	"fmt"
	"time"
)

// slotWait is how long a flow waits for another's end where as many are open as
// may be: a crowd that comes at once mostly goes as fast.
const slotWait = time.Second

// enter gives a flow a slot and a goroutine that calls run. Where none comes free
// in slotWait, or too many wait already, it calls full instead. It does not wait
// itself: what reads the link and the listeners calls it.
func (s *exitRun) enter(run func(), full func(error)) {
	select {
	case s.flows <- struct{}{}:
		s.work.Go(func() {
			defer func() { <-s.flows }()
			run()
		})
		return
	default:
	}
	select {
	case s.crowd <- struct{}{}:
		s.work.Go(func() {
			err := s.awaitSlot()
			<-s.crowd
			if err != nil {
				full(err)
				return
			}
			defer func() { <-s.flows }()
			run()
		})
	default:
		full(s.fullError())
	}
}

// awaitSlot takes a slot, or says why not.
func (s *exitRun) awaitSlot() error {
	late := time.NewTimer(slotWait)
	defer late.Stop()
	select {
	case s.flows <- struct{}{}:
		return nil
	case <-late.C:
		return s.fullError()
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *exitRun) fullError() error {
	if s.fewFiles {
		return fmt.Errorf("%d flows are open already, and rcc may have no more files open; raise ulimit -n", cap(s.flows))
	}
	return fmt.Errorf("%d flows are open already", cap(s.flows))
}

// crowded tells of a flow that had no slot.
func (s *exitRun) crowded(e Event, err error) {
	if s.ctx.Err() != nil {
		return
	}
	e.Kind, e.Text = KindFailed, plain(err)
	s.tally.add(e)
}
