package egress

import (
	"syscall"
	"time"
)

// Limits bound what one task can take of the host. A field that is 0 has its
// default.
type Limits struct {
	// Flows is how many flows are open at once; as many more wait for a second, and
	// are reset if no slot came free, which is told as KindFailed. Default 1024,
	// and never more than a tenth of the descriptors that this process may open,
	// less 128.
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
	// fail. Default 256, and never more than a twentieth of those descriptors.
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

// What descriptors are counted for.
const (
	// spareFiles are for the rest of the process.
	spareFiles = 128
	// flowFiles are those of a flow: two sockets, and up to four for the pipes that
	// splice(2) needs. While it is dialled it has one socket, and maxAttempts more
	// or lookupFiles. One is left for a flow that waits for its slot.
	flowFiles = 8
	// lookupFiles are those of one name being asked for: a socket for each family
	// of addresses, and files of /etc.
	lookupFiles = 4
)

// within lowers the limits to what this many descriptors are enough for: the
// addresses that a name has are chosen by a stranger, and shall not exhaust what
// the other flows and the link need.
func (l Limits) within(files uint64) Limits {
	const pair, most = 2*flowFiles + lookupFiles, 1 << 20 // two flows to a lookup
	pairs := int(min((max(files, spareFiles)-spareFiles)/pair, most))
	l.Flows = min(l.Flows, max(2*pairs, 1))
	l.Lookups = min(l.Lookups, max(pairs, 1))
	return l
}

// openFiles is how many descriptors this process may have.
func openFiles() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0 // it does not fail for a resource that there is (getrlimit(2))
	}
	return r.Cur
}
