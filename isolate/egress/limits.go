package egress

import (
	"syscall"
	"time"
)

// Limits bound what one task can take of the host. A field that is 0 has its
// default.
type Limits struct {
	// Flows is how many flows are open at once; the next is reset. Default 1024,
	// and never more than an eighth of the descriptors that this process may
	// open, less 128: a flow has one and up to maxAttempts while it is dialled,
	// then two, and up to four for the pipes that splice(2) needs.
	Flows int
	// Heads is how many connections wait at once for the client's first bytes
	// before anything is dialled; the next is reset. Default 1024.
	Heads int
	// Head is how long a client has for a whole head, from accept on ports 443
	// and 80, from its first byte on others. Default 10 s.
	Head time.Duration
	// Connect is how long it may take to reach a name, all its addresses
	// together. Default 10 s.
	Connect time.Duration
	// Idle is how long a flow may carry no byte either way. Default 1 h.
	Idle time.Duration
	// Dials is how many flows are being dialled at once, the others wait their
	// turn. Default 256.
	Dials int
	// Lookups is how many names are asked of the host's resolver at once; more
	// fail. Default 256.
	Lookups int
}

// whole fills in the defaults.
func (l Limits) whole() Limits {
	set(&l.Flows, 1024)
	set(&l.Heads, 1024)
	set(&l.Dials, 256)
	set(&l.Lookups, 256)
	set(&l.Head, 10*time.Second)
	set(&l.Connect, 10*time.Second)
	set(&l.Idle, time.Hour)
	return l
}

func set[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// mostFlows is how many flows the process's descriptors are enough for.
func mostFlows() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 16
	}
	const spare, each, most = 128, 8, 1 << 20
	if r.Cur < spare+each {
		return 1
	}
	return int(min((r.Cur-spare)/each, most))
}
