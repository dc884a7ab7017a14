package worktree

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pipes are those in places where git reads files by itself. Whoever opens one
// of them for reading gets an end of file soon. Opened without waiting for a
// reader, a pipe takes no thread (fifo(7), ENXIO).
type pipes struct {
	mu    sync.Mutex
	many  bool
	paths []string
	done  chan struct{}
}

// pipeRound is the time between two looks for readers.
const pipeRound = 2 * time.Millisecond

// mostPipes are served: each is one more to look at for each that git opens.
const mostPipes = 500

// check refuses a tree with more of them, before git opens one.
func (s *pipes) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.many {
		return refuse("more than %d of its .gitignore and .gitattributes are pipes; remove them: find . -type p -delete", mostPipes)
	}
	return nil
}

func (s *pipes) serve(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.many = len(s.paths) >= mostPipes; s.many {
		return
	}
	s.paths = append(s.paths, path)
	if s.done == nil {
		s.done = make(chan struct{})
		go s.look(s.done)
	}
}

func (s *pipes) look(done chan struct{}) {
	for {
		s.mu.Lock()
		paths := s.paths
		s.mu.Unlock()
		for _, p := range paths {
			// A reader that waits for a writer goes on, and finds nobody.
			if fd, err := unix.Open(p, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
				unix.Close(fd)
			}
		}
		select {
		case <-done:
			return
		case <-time.After(pipeRound):
		}
	}
}

// close is for when git reads no more.
func (s *pipes) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done != nil {
		close(s.done)
		s.done = nil
	}
	s.paths = nil
}
