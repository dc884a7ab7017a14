package worktree

import (
	"context"
	"runtime"
	"sync"
)

// workOff does the jobs, and those that they add, on all cores. The newest
// job goes first, so that a walk keeps few folders waiting. It ends with the
// first error, or with ctx's.
func workOff[J any](ctx context.Context, jobs []J, do func(job J, add func(...J)) error) error {
	q := &queue[J]{jobs: jobs, err: ctx.Err()}
	q.cond.L = &q.mu
	stop := context.AfterFunc(ctx, func() { q.fail(ctx.Err()) })
	defer stop()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() { q.work(do) })
	}
	wg.Wait()
	return q.err
}

type queue[J any] struct {
	mu   sync.Mutex
	cond sync.Cond // jobs, busy or err changed
	jobs []J
	busy int // workers that may still add jobs
	err  error
}

func (q *queue[J]) work(do func(J, func(...J)) error) {
	for {
		job, ok := q.next()
		if !ok {
			return
		}
		if err := do(job, q.add); err != nil {
			q.fail(err)
		}
		q.mu.Lock()
		q.busy--
		if q.busy == 0 {
			q.cond.Broadcast()
		}
		q.mu.Unlock()
	}
}

func (q *queue[J]) next() (job J, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.jobs) == 0 && q.busy > 0 && q.err == nil {
		q.cond.Wait()
	}
	if len(q.jobs) == 0 || q.err != nil {
		return job, false
	}
	last := len(q.jobs) - 1
	job = q.jobs[last]
	q.jobs = q.jobs[:last]
	q.busy++
	return job, true
}

func (q *queue[J]) add(jobs ...J) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, jobs...)
	q.cond.Broadcast()
}

func (q *queue[J]) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	q.cond.Broadcast()
}
