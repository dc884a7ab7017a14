package egress

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// A denial is what repeats are counted by.
type denial struct {
	proto  string
	name   string
	addr   netip.Addr // where there is no name
	port   uint16
	stream bool // asked over TCP, of "dns"
}

// tcpDenial is that of a flow to a name, or without one to an address.
func tcpDenial(name string, dest netip.AddrPort) denial {
	d := denial{proto: "tcp", name: name, port: dest.Port()}
	if name == "" {
		d.addr = dest.Addr()
	}
	return d
}

// A repeat is a denial that was told, and how often it came again since.
type repeat struct {
	message message
	count   int
}

// repeatTime is how long repeats of a denial are gathered before they are told.
const repeatTime = time.Second

func (r *gateRun) deniedMessage(d denial, client, dest netip.AddrPort, v Verdict) message {
	m := message{Kind: msgDenied, Proto: d.proto, Name: cut(d.name, maxText), Verdict: &v, Stream: d.stream}
	if client.IsValid() {
		m.Client = client.String()
	}
	if dest.IsValid() {
		m.Dest = dest.String()
	}
	return m
}

// refuse tells the exit what is refused. wait: it has a moment to find the
// program, unless this is a repeat.
func (r *gateRun) refuse(d denial, client, dest netip.AddrPort, v Verdict, wait bool) {
	m := r.deniedMessage(d, client, dest, v)
	if r.repeated(d, m, 0) {
		return
	}
	if !wait {
		r.post.send(m, nil)
		return
	}
	id, ch := r.calls.begin()
	defer r.calls.end(id, ch)
	m.ID = id
	if r.post.send(m, nil) != nil {
		return
	}
	late := time.NewTimer(ackWait)
	defer late.Stop()
	select {
	case <-ch:
	case <-late.C:
	case <-r.ctx.Done():
	}
}

// count counts a denial that is told with its repeats only.
func (r *gateRun) count(d denial, m message) {
	r.repeated(d, m, 1)
}

// repeated tells whether a denial is counted with an earlier one. If not, the
// counting of its own begins, at first.
func (r *gateRun) repeated(d denial, m message, first int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.repeats[d]; e != nil {
		e.count++
		return true
	}
	if len(r.repeats) >= maxRepeats {
		r.others++
		return true
	}
	r.repeats[d] = &repeat{message: m, count: first}
	time.AfterFunc(repeatTime, func() { r.tellRepeats(d) })
	return false
}

// tellRepeats tells the exit how often a denial came again.
func (r *gateRun) tellRepeats(d denial) {
	r.mu.Lock()
	e, others := r.repeats[d], r.others
	delete(r.repeats, d)
	r.others = 0
	r.mu.Unlock()
	if e == nil || r.ctx.Err() != nil { // told by settle
		return
	}
	if e.count > 0 {
		e.message.Count = e.count
		r.post.send(e.message, nil)
	}
	if others > 0 {
		r.post.send(message{Kind: msgDenied, Count: others}, nil)
	}
}

// settle tells all repeats now.
func (r *gateRun) settle() {
	r.mu.Lock()
	all := slices.Collect(maps.Keys(r.repeats))
	r.mu.Unlock()
	for _, d := range all {
		r.tellRepeats(d)
	}
}

// refusals tells of the packets that the network namespace's rules rejected.
func (r *gateRun) refusals() {
	for {
		f, err := r.Refused()
		if err != nil || r.ctx.Err() != nil {
			return
		}
		d := denial{proto: f.Proto, addr: f.Dest.Addr().Unmap(), port: f.Dest.Port()}
		if Synthetic(d.addr) { // as the first packet of QUIC to an allowed name
			d.name, _ = r.names.Lookup(d.addr)
		}
		r.refuse(d, f.Client, f.Dest, Verdict{Rule: "only TCP and DNS lead out of the sandbox"}, false)
	}
}
