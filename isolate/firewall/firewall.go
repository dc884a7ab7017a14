// Package firewall holds rcc's nftables rules: those of a task's network
// namespace (Task), which leave a program no way out but rcc's gate, and those
// of the second wall on the host (Wall), which keep what rcc does for its tasks
// away from private networks.
//
// Rules are values. Each part of a rule is made by one function that gives both
// its text, as nft(8) prints it, and the kernel's expressions, so that what is
// shown is what is loaded. Nothing here starts a program, not even nft.
//
// A table is of the inet family, so that no rule is for IPv4 only, and is
// replaced as a whole in one transaction of the kernel: there is never half of
// one, and a packet meets either the old or the new rules (nft(8), "atomic rule
// replacement"). The package works on the network namespace of the caller's
// thread and touches no table but its own.
package firewall

import (
	"fmt"
	"net/netip"
	"strings"
)

// tableName is the name of every table of ours. Tables of one name in different
// network namespaces have nothing to do with each other.
const tableName = "rcc"

// Table is a table of the inet family: everything that rcc has in one network
// namespace.
type Table struct {
	counters []string
	sets     []set
	chains   []chain
}

// set is a named set of addresses that a rule can ask for.
type set struct {
	name     string
	prefixes []netip.Prefix // of one family, in order, apart from each other
}

// chain is a list of rules. With a hook the kernel starts there; without one,
// other chains jump to it.
type chain struct {
	name string
	hook *hook
	list []rule
}

// hook says where in the kernel's handling of packets a chain stands.
type hook struct {
	name   string // prerouting, input, forward or output
	mangle bool   // before the chains that filter, where tproxy belongs
	drop   bool   // what no rule decides is dropped, else accepted
}

// rule is what must hold of a packet, and then what is done with it.
type rule []part

// String is the table as nft(8) prints it, and reads it with `nft -f`. Counters
// stand at zero.
func (t Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", tableName)
	for _, c := range t.counters {
		fmt.Fprintf(&b, "\tcounter %s {\n\t}\n\n", c)
	}
	for _, s := range t.sets {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n\t\tflags interval\n\t\telements = {\n%s\t\t}\n\t}\n\n", s.name, s.keyType().Name, s.elementText())
	}
	for i, c := range t.chains {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(c.text())
	}
	b.WriteString("}\n")
	return b.String()
}

func (c chain) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\tchain %s {\n", c.name)
	if h := c.hook; h != nil {
		priority, policy := "filter", "accept"
		if h.mangle {
			priority = "mangle"
		}
		if h.drop {
			policy = "drop"
		}
		fmt.Fprintf(&b, "\t\ttype filter hook %s priority %s; policy %s;\n", h.name, priority, policy)
	}
	for _, r := range c.list {
		fmt.Fprintf(&b, "\t\t%s\n", r)
	}
	b.WriteString("\t}\n")
	return b.String()
}

func (r rule) String() string {
	words := make([]string, len(r))
	for i, p := range r {
		words[i] = p.text
	}
	return strings.Join(words, " ")
}

func (s set) elementText() string {
	var b strings.Builder
	for _, p := range s.prefixes {
		fmt.Fprintf(&b, "\t\t\t%s,\n", prefixText(p))
	}
	return b.String()
}

// prefixText writes one address without its length, as nft does.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
