package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// LookupTime is how long Exit.Resolve has for a name: for every name server of the
// host's, each asked again, since the first may be one that a VPN left behind.
const LookupTime = 15 * time.Second

const (
	knownFor    = 5 * time.Second // an answer of the host's resolver
	failedFor   = time.Second     // an error of it
	maxResolved = 4096            // names
	maxAddrs    = 64              // of one name
)

// errBusy stands for one lookup more than the limit.
var errBusy = errors.New("too many names are being looked up")

// resolved keeps what the host's resolver said for a moment, and lets those who
// ask for the same name at the same time ask once.
type resolved struct {
	resolve func(name string) ([]netip.Addr, error)

	mu    sync.Mutex
	names map[string]*lookup
}

// A lookup is one question; done is closed when the rest is set.
type lookup struct {
	done  chan struct{}
	addrs []netip.Addr
	err   error
	until time.Time
}

// get gives the addresses of a name. It ends with ctx, the lookup does not.
func (r *resolved) get(ctx context.Context, name string) ([]netip.Addr, error) {
	l, first := r.join(name)
	if first {
		l.addrs, l.err = r.resolve(name)
		keep := knownFor
		if l.err != nil {
			keep = failedFor
		}
		r.mu.Lock()
		l.until = time.Now().Add(keep)
		r.mu.Unlock()
		close(l.done)
	}
	select {
	case <-l.done:
		return l.addrs, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// join gives the lookup of a name. first: the caller has to do it.
func (r *resolved) join(name string) (l *lookup, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.names[name]; l != nil && (l.until.IsZero() || time.Now().Before(l.until)) {
		return l, false
	}
	r.makeRoom()
	l = &lookup{done: make(chan struct{})}
	r.names[name] = l
	return l, true
}

// makeRoom forgets what is over, and if that is not enough, everything: those
// who wait for a lookup have it in hand.
func (r *resolved) makeRoom() {
	if r.names == nil {
		r.names = map[string]*lookup{}
	}
	if len(r.names) < maxResolved {
		return
	}
	for name, l := range r.names {
		if !l.until.IsZero() && time.Now().After(l.until) {
			delete(r.names, name)
		}
	}
	if len(r.names) >= maxResolved {
		clear(r.names)
	}
}

// lookup asks the host's resolver.
func (s *exitRun) lookup(name string) ([]netip.Addr, error) {
	select {
	case s.lookups <- struct{}{}:
		defer func() { <-s.lookups }()
	default:
		return nil, errBusy
	}
	ctx, cancel := context.WithTimeout(s.ctx, LookupTime)
	defer cancel()
	addrs, err := s.Resolve(ctx, name)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return addrs[:min(len(addrs), maxAddrs)], err
}

// exists answers the gate's question whether the world knows a name, and of
// which family its addresses are.
func (s *exitRun) exists(m message) {
	select {
	case s.asks <- struct{}{}:
		s.work.Go(func() {
			defer func() { <-s.asks }()
			s.post.send(s.known(m), nil)
		})
	default:
		s.post.send(message{Kind: msgKnown, ID: m.ID, Error: plain(errBusy)}, nil)
	}
}

func (s *exitRun) known(m message) message {
	out := message{Kind: msgKnown, ID: m.ID}
	if name, err := NormalName(m.Name); err != nil || name != m.Name || !s.Policy.MayResolve(name).OK {
		out.Error = "it is not allowed"
		return out
	}
	addrs, err := s.resolved.get(s.ctx, m.Name)
	var dns *net.DNSError
	if err != nil && !(errors.As(err, &dns) && dns.IsNotFound) {
		out.Error = plain(err)
	}
	for _, a := range addrs {
		if a.Unmap().Is4() {
			out.V4 = true
		} else {
			out.V6 = true
		}
	}
	return out
}
