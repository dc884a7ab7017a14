package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// worldNameServers are the addresses that answer questions. An answer must come
// from the address that was asked, so each has a socket.
var worldNameServers = map[string][]string{
	"internet": {"93.184.216.53", "1.1.1.1", "2606:2800:220::53"},
	"company":  {"10.1.2.53"},
}

// zone is what the name servers know.
type zone struct {
	mu    sync.Mutex
	names map[string]map[uint16][][]string // name, type: what to answer in turn
	asked map[string]int
}

var dnsTypes = map[string]uint16{"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "SVCB": 64, "HTTPS": 65, "ANY": 255}

// parseZone reads lines of NAME TYPE VALUE[,VALUE...] [| VALUE...]: what stands
// between bars is answered in turn, from the beginning again at the end. A name
// may begin with "*."; types are A, AAAA, CNAME and TXT. TTLs are 0.
func parseZone(text string) (*zone, error) {
	z := &zone{names: map[string]map[uint16][][]string{}, asked: map[string]int{}}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 3 || dnsTypes[f[1]] == 0 {
			return nil, fmt.Errorf("zone: cannot read %q", line)
		}
		if z.names[f[0]] == nil {
			z.names[f[0]] = map[uint16][][]string{}
		}
		var turns [][]string
		for turn := range strings.SplitSeq(strings.Join(f[2:], " "), "|") {
			turns = append(turns, strings.Split(strings.TrimSpace(turn), ","))
		}
		z.names[f[0]][dnsTypes[f[1]]] = turns
	}
	return z, nil
}

// find gives what to answer, and whether there is such a name.
func (z *zone) find(name string, kind uint16) (values []string, cname string, ok bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	types := z.names[name]
	for rest := name; types == nil; {
		_, below, found := strings.Cut(rest, ".")
		if !found {
			return nil, "", false
		}
		types, rest = z.names["*."+below], below
	}
	if turns := types[dnsTypes["CNAME"]]; turns != nil {
		return nil, turns[0][0], true
	}
	turns := types[kind]
	if turns == nil {
		return nil, "", true
	}
	key := name + strconv.Itoa(int(kind))
	z.asked[key]++
	return turns[(z.asked[key]-1)%len(turns)], "", true
}

func (c worldConfig) serveNames(hits worldHits) error {
	z, err := parseZone(c.Zone)
	if err != nil {
		return err
	}
	for _, addr := range worldNameServers[c.Role] {
		addr = net.JoinHostPort(addr, "53")
		packets, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		streams, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go func() {
			b := make([]byte, 4096)
			for {
				n, from, err := packets.ReadFrom(b)
				if err != nil {
					return
				}
				if answer := z.answer(hits, b[:n], 512); answer != nil {
					packets.WriteTo(answer, from)
				}
			}
		}()
		go serveConns(streams, func(conn net.Conn) { z.stream(hits, conn) })
	}
	return nil
}

// serveConns serves each connection in a goroutine, for at most a minute.
func serveConns(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute))
			serve(c)
		}()
	}
}

func (z *zone) stream(hits worldHits, conn net.Conn) {
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		answer := z.answer(hits, query, 65535)
		if answer == nil {
			return
		}
		conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	}
}

// answer is that of a recursive server (RFC 1035, 4.1), nil for what is no question.
func (z *zone) answer(hits worldHits, query []byte, limit int) []byte {
	if len(query) < 12 || query[2]&0x80 != 0 {
		return nil
	}
	name, rest, ok := dnsName(query[12:])
	if !ok || len(rest) < 4 {
		return nil
	}
	kind := binary.BigEndian.Uint16(rest)
	kindName := strconv.Itoa(int(kind))
	for text, number := range dnsTypes {
		if number == kind {
			kindName = text
		}
	}
	shown := strings.ReplaceAll(strings.Trim(strconv.QuoteToASCII(name), `"`), `\\`, `\`)
	hits.add("dns %s %s", shown, kindName)

	question := query[12 : len(query)-len(rest)+4]
	var records []byte
	count, code := 0, byte(0)
	add := func(owner string, kind uint16, data []byte) {
		records = append(records, dnsWire(owner)...)
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 0)
		records = binary.BigEndian.AppendUint16(records, uint16(len(data)))
		records = append(records, data...)
		count++
	}
	owner := strings.ToLower(name)
	for range 8 {
		values, cname, found := z.find(owner, kind)
		if !found && count == 0 {
			code = 3 // no such name
		}
		for _, v := range values {
			add(owner, kind, dnsData(kind, v))
		}
		if cname == "" {
			break
		}
		add(owner, dnsTypes["CNAME"], dnsWire(cname))
		owner = cname
	}
	head := []byte{query[0], query[1], 0x84 | query[2]&1, 0x80 | code, 0, 1, byte(count >> 8), byte(count), 0, 0, 0, 0}
	if out := append(append(head, question...), records...); len(out) <= limit {
		return out
	}
	head[2] |= 2 // truncated
	head[6], head[7] = 0, 0
	return append(head[:12:12], question...)
}

// dnsName reads an uncompressed name.
func dnsName(b []byte) (name string, rest []byte, ok bool) {
	var labels []string
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 {
			return strings.Join(labels, "."), b[1:], true
		}
		if n > 63 || len(b) < n+1 {
			break
		}
		labels = append(labels, strings.ReplaceAll(string(b[1:n+1]), ".", `\.`))
		b = b[n+1:]
	}
	return "", nil, false
}

func dnsWire(name string) (b []byte) {
	for label := range strings.SplitSeq(name, ".") {
		if label != "" {
			b = append(append(b, byte(len(label))), label...)
		}
	}
	return append(b, 0)
}

func dnsData(kind uint16, value string) []byte {
	if kind == dnsTypes["TXT"] {
		return append([]byte{byte(len(value))}, value...)
	}
	if a, err := netip.ParseAddr(value); err == nil {
		return a.AsSlice()
	}
	return nil
}
