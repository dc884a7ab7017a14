package egress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A Link carries messages and connections between gate and exit, in order. Send
// may be called by several goroutines, Receive by one. A Link bounds a message
// by MaxLinkMessage.
type Link interface {
	// Send passes a message and, unless c is nil, a connection, which it
	// duplicates: the caller keeps its own.
	Send(b []byte, c net.Conn) error
	// Receive gives the next message, and io.EOF when the other side is gone. A
	// connection that came with it is the caller's. With ErrLost there is a
	// message but not its connection, and the link goes on.
	Receive() (b []byte, c net.Conn, err error)
	// Close ends both sides; it makes Send and Receive return.
	Close() error
}

// ErrLost tells that a connection was sent and could not be taken over, as where
// there is no descriptor left.
var ErrLost = errors.New("the connection cannot be taken over")

// MaxLinkMessage bounds a message, in bytes: that with the policy. All others
// are far shorter.
const MaxLinkMessage = 8 << 20

// maxMessage bounds the messages after the policy, in bytes.
const maxMessage = 64 << 10

// A message is what gate and exit say to each other; which fields are set
// depends on Kind.
//
//	gate                                                exit
//	 │◀───────────────────────────────── policy(limits) │ first
//	 │── open(id, name, dest, checked) + connection ───▶│ decides again, dials
//	 │── head(id, verdict) | head(id, reset) ──────────▶│ of an open that was not checked: only now the client's bytes pass
//	 │◀───────────────────────────────────────── end(id)│ of such an open: the exit has done with it
//	 │── denied(id, proto, name, ends, verdict, count) ▶│ finds the program
//	 │◀───────────────────────────────────────── ack(id)│ it may be reset now
//	 │── exists(id, name) ─────────────────────────────▶│ asks the host's resolver
//	 │◀──────────────────────────── known(id, v4, v6) ──│
//	 │── forward(id, dest) + connection ───────────────▶│ dials the host's loopback
//	 │◀────────────────────────────── reach(id, port) ──│ a published port was connected to
//	 │── reached(id) + connection | reached(id, error) ▶│
//	 │◀──────────────────────────────────── settle(id) ─│ what was counted is to be told
//	 │── denied(count) …, settled(id) ─────────────────▶│
//	 │── error ────────────────────────────────────────▶│ the last: why the gate is gone, by who waited for it
//
// Where a connection comes from and was meant to go its socket knows. dest, beside
// one, is believed only if that is lost.
type message struct {
	Kind    string   `json:"kind"`
	ID      uint64   `json:"id,omitempty"` // chosen by who asks, never 0
	Policy  *Policy  `json:"policy,omitempty"`
	Limits  *Limits  `json:"limits,omitempty"`
	Proto   string   `json:"proto,omitempty"`
	Name    string   `json:"name,omitempty"`
	Client  string   `json:"client,omitempty"` // ADDRESS:PORT
	Dest    string   `json:"dest,omitempty"`   // ADDRESS:PORT
	Port    uint16   `json:"port,omitempty"`
	Checked bool     `json:"checked,omitempty"` // the head was seen and is good
	Reset   bool     `json:"reset,omitempty"`   // the client reset the connection
	Stream  bool     `json:"stream,omitempty"`  // the name was asked for over TCP
	Full    bool     `json:"full,omitempty"`    // denied for want of room, not by the policy
	Verdict *Verdict `json:"verdict,omitempty"`
	Count   int      `json:"count,omitempty"`
	V4      bool     `json:"v4,omitempty"`
	V6      bool     `json:"v6,omitempty"`
	Error   string   `json:"error,omitempty"`
}

const (
	msgPolicy  = "policy"
	msgOpen    = "open"
	msgHead    = "head"
	msgEnd     = "end"
	msgDenied  = "denied"
	msgAck     = "ack"
	msgExists  = "exists"
	msgKnown   = "known"
	msgForward = "forward"
	msgReach   = "reach"
	msgReached = "reached"
	msgSettle  = "settle"
	msgSettled = "settled"
	msgError   = "error"
)

// post sends messages over a link, one at a time.
type post struct {
	link Link
	mu   sync.Mutex
}

func (p *post) send(m message, c net.Conn) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	most := maxMessage
	if m.Kind == msgPolicy {
		most = MaxLinkMessage
	}
	if len(b) > most {
		return fmt.Errorf("message %q has %d bytes; at most %d can be sent", m.Kind, len(b), most)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link.Send(b, c)
}

// receive gives the next message, of at most most bytes. Any error but ErrLost,
// with which there is a message, ends the link; then the connection is closed.
func (p *post) receive(most int) (message, net.Conn, error) {
	b, c, err := p.link.Receive()
	if err == nil || errors.Is(err, ErrLost) {
		m, bad := decode(b, most)
		if bad == nil {
			return m, c, err
		}
		err = bad
	}
	if c != nil {
		c.Close()
	}
	return message{}, nil, err
}

// decode reads one message and nothing beside it.
func decode(b []byte, most int) (m message, err error) {
	if len(b) > most {
		return m, fmt.Errorf("a message has %d bytes; at most %d may come", len(b), most)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		if errors.Is(err, io.EOF) { // which would be the link's end
			err = io.ErrUnexpectedEOF
		}
		return message{}, fmt.Errorf("cannot read a message: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return message{}, errors.New("a message has more behind its end")
	}
	return m, nil
}
