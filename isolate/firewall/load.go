package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Load puts the table into the network namespace of the calling thread in place
// of one of that name, wholly or not at all. It takes CAP_NET_ADMIN over the
// user namespace that owns the network namespace.
func (t Table) Load() error { return t.load(t.queue) }

// Create is Load for a network namespace that has no such table; to one that is
// there it would add. It takes a fifth of the time: after a removal, even of
// nothing, the kernel closes the socket only when all its processors have let go
// of what they read, in some 10 ms (nft_rcv_nl_event and
// nf_tables_trans_destroy_work in net/netfilter/nf_tables_api.c).
func (t Table) Create() error { return t.load(t.fill) }

func (t Table) load(queue func(*nftables.Conn) error) error {
	c, err := nftables.New()
	if err != nil {
		return loadError(err)
	}
	if err := queue(c); err != nil {
		return loadError(err)
	}
	return loadError(c.Flush())
}

// queue writes the transaction: the old table goes, if there is one, and the new
// one comes. Adding it first makes the removal succeed when there is none.
func (t Table) queue(c *nftables.Conn) error {
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	c.AddTable(table)
	c.DelTable(table)
	return t.fill(c)
}

// fill writes the table and all that is in it.
func (t Table) fill(c *nftables.Conn) error {
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	c.AddTable(table)
	for _, name := range t.counters {
		c.AddObj(&nftables.CounterObj{Table: table, Name: name})
	}
	for i, s := range t.sets {
		// An id of our own: the library's would differ from run to run.
		if err := c.AddSet(&nftables.Set{Table: table, ID: uint32(i + 1), Name: s.name, Interval: true, KeyType: s.keyType()}, s.elements()); err != nil {
			return err
		}
	}
	chains := make([]*nftables.Chain, len(t.chains))
	for i, ch := range t.chains { // all of them first: rules name them
		chains[i] = ch.of(table)
		c.AddChain(chains[i])
	}
	for i, ch := range t.chains {
		for _, r := range ch.list {
			out := &nftables.Rule{Table: table, Chain: chains[i]}
			for _, p := range r {
				out.Exprs = append(out.Exprs, p.exprs...)
				if p.comment != "" {
					out.UserData = userdata.AppendString(nil, commentType, p.comment)
				}
			}
			c.AddRule(out)
		}
	}
	return nil
}

// commentType marks a rule's comment (NFTNL_UDATA_RULE_COMMENT of libnftnl's
// udata.h, which the library does not name).
const commentType = 0

// of is the chain as the library has it.
func (c chain) of(t *nftables.Table) *nftables.Chain {
	out := &nftables.Chain{Table: t, Name: c.name}
	if c.hook == nil {
		return out
	}
	policy := nftables.ChainPolicyAccept
	if c.hook.drop {
		policy = nftables.ChainPolicyDrop
	}
	out.Type, out.Priority, out.Policy = nftables.ChainTypeFilter, nftables.ChainPriorityFilter, &policy
	if c.hook.mangle {
		out.Priority = nftables.ChainPriorityMangle
	}
	switch c.hook.name {
	case "prerouting":
		out.Hooknum = nftables.ChainHookPrerouting
	case "input":
		out.Hooknum = nftables.ChainHookInput
	case "forward":
		out.Hooknum = nftables.ChainHookForward
	case "output":
		out.Hooknum = nftables.ChainHookOutput
	}
	return out
}

// loadError says what the kernel's answer means. It answers each message; the
// first refusal tells why nothing was done.
func loadError(err error) error {
	var first syscall.Errno
	if errors.As(err, &first) {
		err = first
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("cannot load the firewall rules: the kernel wants CAP_NET_ADMIN for it: %w", err)
	case errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("cannot load the firewall rules: this kernel has no nf_tables; load it with: modprobe -a nfnetlink nf_tables: %w", err)
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("cannot load the firewall rules: this kernel lacks a part of nf_tables; load them with: modprobe -a %s: %w", modules, err)
	}
	return fmt.Errorf("cannot load the firewall rules: %w", err)
}

// modules are the kernel's modules for what our rules use. It loads them by
// itself where that is not forbidden.
const modules = "nf_tables nft_tproxy nft_reject_inet nft_log nfnetlink_log nft_limit nft_objref nft_socket"

func (s set) v6() bool { return s.prefixes[0].Addr().Is6() }

func (s set) keyType() nftables.SetDatatype {
	if s.v6() {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// elements are the intervals as the kernel has them: where each begins, and the
// first address after it (net/netfilter/nft_set_rbtree.c).
func (s set) elements() []nftables.SetElement {
	var out []nftables.SetElement
	if first := s.prefixes[0].Addr(); !first.IsUnspecified() { // nft closes what is before, too
		out = append(out, nftables.SetElement{Key: make([]byte, addressLen(s.v6())), IntervalEnd: true})
	}
	for _, p := range s.prefixes {
		out = append(out, nftables.SetElement{Key: p.Addr().AsSlice()})
		if next := last(p).Next(); next.IsValid() { // else it reaches the last address of all
			out = append(out, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

// last is the last address of the prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func addressLen(v6 bool) int {
	if v6 {
		return 16
	}
	return 4
}
