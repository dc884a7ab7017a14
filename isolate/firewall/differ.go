package firewall

import (
	"bytes"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Differs names what of the loaded table is not as t has it, in words such as
// "chain output", sorted; empty when all is as it should be. Counters' values do
// not count.
func (l *Live) Differs(t Table) ([]string, error) {
	var out []string
	if !slices.EqualFunc(l.Counters, slices.Sorted(slices.Values(t.counters)), func(c Counter, name string) bool { return c.Name == name }) {
		out = append(out, "counters")
	}
	// What is there and should not be differs as well.
	same := map[string]bool{}
	for name := range l.sets {
		same["set "+name] = false
	}
	for name := range l.chains {
		same["chain "+name] = false
	}
	for _, s := range t.sets {
		same["set "+s.name] = slices.Equal(l.sets[s.name], elementKeys(s.elements()))
	}
	for _, c := range t.chains {
		var err error
		if same["chain "+c.name], err = c.same(l); err != nil {
			return nil, err
		}
	}
	for name, ok := range same {
		if !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (c chain) same(l *Live) (bool, error) {
	live, ok := l.chains[c.name]
	if !ok || live.head != chainHead(c.of(nil)) || len(live.rules) != len(c.list) {
		return false, nil
	}
	for i, r := range c.list {
		same, err := r.same(live.rules[i].expressions)
		if !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// same tells whether the kernel's expressions are those of the rule.
func (r rule) same(live []byte) (bool, error) {
	theirs, err := netlink.UnmarshalAttributes(live)
	if err != nil {
		return false, err
	}
	var ours [][]byte
	for _, p := range r {
		for _, e := range p.exprs {
			b, err := expr.Marshal(byte(nftables.TableFamilyINet), e)
			if err != nil {
				return false, err
			}
			ours = append(ours, b)
		}
	}
	if len(ours) != len(theirs) {
		return false, nil
	}
	for i := range ours {
		if !sameAttributes(ours[i], theirs[i].Data) {
			return false, nil
		}
	}
	return true, nil
}

// netlinkType is the part of an attribute's type that tells what it is
// (NLA_TYPE_MASK); the rest are flags.
const netlinkType = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)

// sameAttributes compares what is sent with what the kernel tells of it. Either
// may leave out what is zero, order the attributes in its own way, and end a
// name with a zero byte.
func sameAttributes(sent, told []byte) bool {
	a, err := netlink.UnmarshalAttributes(sent)
	if err != nil {
		return false
	}
	b, err := netlink.UnmarshalAttributes(told)
	if err != nil {
		return false
	}
	rest := map[uint16][]byte{}
	for _, x := range b {
		rest[x.Type&netlinkType] = x.Data
	}
	for _, x := range a {
		y := rest[x.Type&netlinkType]
		delete(rest, x.Type&netlinkType)
		if x.Type&unix.NLA_F_NESTED != 0 && sameAttributes(x.Data, y) {
			continue
		}
		if !bytes.Equal(bytes.TrimRight(x.Data, "\x00"), bytes.TrimRight(y, "\x00")) {
			return false
		}
	}
	for _, y := range rest {
		if len(bytes.TrimRight(y, "\x00")) > 0 {
			return false
		}
	}
	return true
}
