package egress

import (
	"container/list"
	"encoding/binary"
	"net/netip"
	"sync"
)

// The addresses that stand for names in a sandbox. Prefix4 is for benchmarks of
// isolated networks and routed nowhere (RFC 2544, RFC 6890). Prefix6 is a
// unique-local /48 with subnet 0, whose global identifier is the first 40 bits
// of SHA-256("rcc, the way out"), in place of the random ones of RFC 4193.
var (
	Prefix4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 0, 0}), 15)
	Prefix6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x02, 0x04, 0x2c, 0xbe, 0x09}), 64)
)

// The numbers of Prefix4 that are given to names: not the first and last few,
// which somebody may take for a network's or a gateway's.
const (
	firstNumber = 16
	lastNumber  = 1<<17 - 17
)

// Synthetic tells whether an address is one that stands for a name.
func Synthetic(a netip.Addr) bool {
	a = a.Unmap()
	return Prefix4.Contains(a) || Prefix6.Contains(a)
}

// Names gives each name one IPv4 and one IPv6 address that stand for it. An
// address never stands for a second name, so a program that kept one for hours
// reaches what it asked for, or nothing. Names is safe for concurrent use.
type Names struct {
	mu      sync.Mutex
	limit   int
	next    uint32 // the number after the last one given
	byName  map[string]*list.Element
	byIndex map[uint32]*list.Element
	used    *list.List // of *named that may be forgotten, the least recently used last
}

type named struct {
	name   string
	number uint32
	kept   bool
}

// NewNames makes an empty table that holds limit names at most (of up to 253
// bytes each). Beyond it the least recently used ones are forgotten, except
// those that a rule spells out; about 131000 names in all can be given addresses.
func NewNames(limit int) *Names {
	return &Names{
		limit: limit, next: firstNumber,
		byName: map[string]*list.Element{}, byIndex: map[uint32]*list.Element{}, used: list.New(),
	}
}

// Assign gives the addresses of a name (in the form of NormalName), the same
// ones as before if it has some; false: there is no room or no address left.
func (n *Names) Assign(name string) (v4, v6 netip.Addr, ok bool) { return n.assign(name, false) }

// assign: a name that is kept is never forgotten.
func (n *Names) assign(name string, keep bool) (v4, v6 netip.Addr, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.byName[name]
	if e == nil {
		if n.next > lastNumber || len(name) > maxName || !n.makeRoom() {
			return netip.Addr{}, netip.Addr{}, false
		}
		e = n.used.PushFront(&named{name: name, number: n.next})
		n.byName[name], n.byIndex[n.next] = e, e
		n.next++
	}
	n.used.MoveToFront(e)
	entry := e.Value.(*named)
	entry.kept = entry.kept || keep
	v4, v6 = numbered(entry.number)
	return v4, v6, true
}

// makeRoom forgets the name that was not used for longest, if the table is full.
func (n *Names) makeRoom() bool {
	if len(n.byName) < n.limit {
		return true
	}
	for e := n.used.Back(); e != nil; e = e.Prev() {
		if entry := e.Value.(*named); !entry.kept {
			n.used.Remove(e)
			delete(n.byName, entry.name)
			delete(n.byIndex, entry.number)
			return true
		}
	}
	return false
}

// Lookup gives the name that an address stands for.
func (n *Names) Lookup(a netip.Addr) (name string, ok bool) {
	number, ok := numberOf(a.Unmap())
	if !ok {
		return "", false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.byIndex[number]
	if e == nil {
		return "", false
	}
	n.used.MoveToFront(e)
	return e.Value.(*named).name, true
}

// numbered gives the addresses of a number: Prefix4 and Prefix6 with it in their low bits.
func numbered(number uint32) (v4, v6 netip.Addr) {
	b4, b6 := Prefix4.Addr().As4(), Prefix6.Addr().As16()
	binary.BigEndian.PutUint32(b4[:], binary.BigEndian.Uint32(b4[:])+number)
	binary.BigEndian.PutUint32(b6[12:], number)
	return netip.AddrFrom4(b4), netip.AddrFrom16(b6)
}

// numberOf is the inverse of numbered.
func numberOf(a netip.Addr) (uint32, bool) {
	var number uint32
	switch {
	case Prefix4.Contains(a):
		first, b := Prefix4.Addr().As4(), a.As4()
		number = binary.BigEndian.Uint32(b[:]) - binary.BigEndian.Uint32(first[:])
	case Prefix6.Contains(a):
		b := a.As16()
		number = binary.BigEndian.Uint32(b[12:])
	default:
		return 0, false
	}
	v4, v6 := numbered(number)
	return number, number >= firstNumber && number <= lastNumber && (a == v4 || a == v6)
}
