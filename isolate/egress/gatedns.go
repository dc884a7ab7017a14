package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

const (
	maxPacket     = 4096             // of a query over UDP, in bytes
	streamIdle    = 10 * time.Second // of a DNS connection (RFC 7766, section 6.2.3)
	existsTimeout = LookupTime + time.Second
)

// asker says who asks the resolver, for Denied.
type asker struct {
	client, local netip.AddrPort
	stream        bool
}

type askerKey struct{}

// packets answers the queries of one UDP socket. While all slots are taken the
// next ones wait in the kernel, which drops what is too much.
func (r *gateRun) packets(c PacketConn) {
	var pause backoff
	buf := make([]byte, maxPacket)
	for {
		n, q, err := c.ReadQuery(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !pause.wait(r.ctx) {
				return
			}
			continue
		}
		pause = 0
		query := append([]byte(nil), buf[:n]...)
		select {
		case r.queries <- struct{}{}:
		case <-r.ctx.Done():
			return
		}
		r.work.Go(func() {
			defer func() { <-r.queries }()
			ctx := context.WithValue(r.ctx, askerKey{}, asker{client: q.Client, local: q.Local})
			if b := r.resolver.Answer(ctx, query, false); b != nil {
				c.WriteReply(b, q)
			}
		})
	}
}

// stream answers the queries of one DNS connection, one after the other, each
// with its length before it (RFC 1035, section 4.2.2).
func (r *gateRun) stream(c net.Conn) {
	defer c.Close()
	ctx := context.WithValue(r.ctx, askerKey{}, asker{addrPort(c.RemoteAddr()), addrPort(c.LocalAddr()), true})
	for {
		c.SetDeadline(time.Now().Add(streamIdle))
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		b := r.resolver.Answer(ctx, query, true)
		if b == nil || len(b) > 1<<16-1 {
			return
		}
		c.SetDeadline(time.Now().Add(streamIdle))
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
			return
		}
	}
}

// exists asks the exit whether the world knows a name.
func (r *gateRun) exists(ctx context.Context, name string) (v4, v6 bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, existsTimeout)
	defer cancel()
	id, ch := r.calls.begin()
	defer r.calls.end(id, ch)
	if err := r.post.send(message{Kind: msgExists, ID: id, Name: name}, nil); err != nil {
		return false, false, err
	}
	select {
	case a := <-ch:
		if a.Error != "" {
			return false, false, errors.New(a.Error)
		}
		return a.V4, a.V6, nil
	case <-ctx.Done():
		return false, false, ctx.Err()
	}
}

// deniedName is the resolver's word that it is about to refuse a name.
func (r *gateRun) deniedName(ctx context.Context, name string, v Verdict) {
	who, _ := ctx.Value(askerKey{}).(asker)
	d := denial{proto: "dns", name: name, stream: who.stream}
	r.refuse(d, who.client, who.local, v, true)
}
