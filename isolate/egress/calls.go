package egress

import (
	"net"
	"sync"
)

// calls matches the answers of the other side with who waits for them.
type calls struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]chan answer
}

// An answer is a message and the connection that came with it, if any.
type answer struct {
	message
	conn net.Conn
}

// id gives a number that was not used before.
func (c *calls) id() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	return c.last
}

// begin gives the number of a new call and where its answer will come.
func (c *calls) begin() (uint64, <-chan answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[uint64]chan answer{}
	}
	c.last++
	ch := make(chan answer, 1)
	c.open[c.last] = ch
	return c.last, ch
}

// answer hands an answer over. Nobody may be waiting for it: it came late,
// twice, or unasked; then its connection is closed.
func (c *calls) answer(a answer) {
	c.mu.Lock()
	ch := c.open[a.ID]
	delete(c.open, a.ID)
	if ch != nil {
		ch <- a // has room: it is the first and the last
	}
	c.mu.Unlock()
	if ch == nil && a.conn != nil {
		a.conn.Close()
	}
}

// end forgets a call. An answer that nobody took is closed.
func (c *calls) end(id uint64, ch <-chan answer) {
	c.mu.Lock()
	delete(c.open, id)
	c.mu.Unlock()
	select {
	case a := <-ch:
		if a.conn != nil {
			a.conn.Close()
		}
	default:
	}
}
