package firewall

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Live is the table of ours that stands in the caller's network namespace.
type Live struct {
	// Counters are its counters by name.
	Counters []Counter
	// Accept are the exceptions that it says it has.
	Accept []Exception

	sets   map[string][]string // elements as text, sorted
	chains map[string]liveChain
}

// Counter is a counter of a table.
type Counter struct {
	Name    string `json:"name"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

type liveChain struct {
	head  string
	rules []liveRule
}

type liveRule struct {
	expressions []byte // NFTA_RULE_EXPRESSIONS
	comment     string
}

// Read looks at the table that is loaded; nil when there is none. It takes
// CAP_NET_ADMIN, as changing it does.
func Read() (*Live, error) {
	l, err := read()
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("cannot read the firewall rules: the kernel wants CAP_NET_ADMIN for it: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the firewall rules: %w", err)
	}
	return l, nil
}

func read() (*Live, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName })
	if i < 0 {
		return nil, nil
	}
	l := &Live{sets: map[string][]string{}, chains: map[string]liveChain{}}
	for _, step := range []func(*nftables.Conn, *nftables.Table) error{l.readCounters, l.readSets, l.readChains} {
		if err := step(c, tables[i]); err != nil {
			return nil, err
		}
	}
	return l, l.readRules()
}

func (l *Live) readCounters(c *nftables.Conn, t *nftables.Table) error {
	objects, err := c.GetNamedObjects(t)
	for _, o := range objects {
		if named, ok := o.(*nftables.NamedObj); ok && named.Type == nftables.ObjTypeCounter {
			n := named.Obj.(*expr.Counter)
			l.Counters = append(l.Counters, Counter{named.Name, n.Packets, n.Bytes})
		}
	}
	slices.SortFunc(l.Counters, func(a, b Counter) int { return strings.Compare(a.Name, b.Name) })
	return err
}

func (l *Live) readSets(c *nftables.Conn, t *nftables.Table) error {
	sets, err := c.GetSets(t)
	if err != nil {
		return err
	}
	for _, s := range sets {
		elements, err := c.GetSetElements(s)
		if err != nil {
			return err
		}
		l.sets[s.Name] = elementKeys(elements)
	}
	return nil
}

// elementKeys are the borders of a set's intervals. That nothing begins before
// the first is no border: the kernel tells it or not.
func elementKeys(elements []nftables.SetElement) []string {
	var out []string
	for _, e := range elements {
		key := hex.EncodeToString(e.Key)
		if e.IntervalEnd {
			if !slices.ContainsFunc(e.Key, func(b byte) bool { return b != 0 }) {
				continue
			}
			key += " end"
		}
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

func (l *Live) readChains(c *nftables.Conn, t *nftables.Table) error {
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	for _, ch := range chains {
		if ch.Table.Name == t.Name {
			l.chains[ch.Name] = liveChain{head: chainHead(ch)}
		}
	}
	return err
}

// chainHead is what a chain is besides its rules.
func chainHead(c *nftables.Chain) string {
	if c.Hooknum == nil || c.Priority == nil || c.Policy == nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d %d", c.Type, *c.Hooknum, *c.Priority, *c.Policy)
}

// readRules asks for the rules as bytes: the library leaves out expressions that
// it does not know, and some of ours are among them.
func (l *Live) readRules() error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	name, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: append([]byte(tableName), 0)}})
	if err != nil {
		return err
	}
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, name...), // struct nfgenmsg
	})
	if err != nil {
		return err
	}
	for _, m := range replies {
		if err := l.addRule(m); err != nil {
			return err
		}
	}
	return nil
}

func (l *Live) addRule(m netlink.Message) error {
	if len(m.Data) < 4 {
		return errors.New("the kernel's answer is too short")
	}
	attributes, err := netlink.UnmarshalAttributes(m.Data[4:])
	if err != nil {
		return err
	}
	var r liveRule
	var name string
	for _, a := range attributes {
		switch a.Type & netlinkType {
		case unix.NFTA_RULE_CHAIN:
			name = unix.ByteSliceToString(a.Data)
		case unix.NFTA_RULE_EXPRESSIONS:
			r.expressions = a.Data
		case unix.NFTA_RULE_USERDATA:
			r.comment, _ = userdata.GetString(a.Data, commentType)
		}
	}
	ch := l.chains[name]
	ch.rules = append(ch.rules, r)
	l.chains[name] = ch
	if e, err := ParseException(r.comment); err == nil {
		l.Accept = append(l.Accept, e)
	}
	return nil
}

// Remove takes the table of ours away; false when there was none. Either all of
// it goes or nothing.
func Remove() (bool, error) {
	l, err := Read()
	if l == nil {
		return false, err
	}
	c, err := nftables.New()
	if err == nil {
		c.DelTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet})
		err = c.Flush()
	}
	if err != nil {
		return false, fmt.Errorf("cannot remove the firewall rules: %w", err)
	}
	return true, nil
}
