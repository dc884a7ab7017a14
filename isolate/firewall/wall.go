package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Wall is the second wall: rules of the host that refuse what goes from tasks to
// addresses that are not public. The first wall, rcc itself, refuses them
// already; this one holds when rcc is wrong, and only root can take it away.
//
// A task's flows come from sockets that rcc makes on the host. They are told by
// the user id they are made under, or by the cgroup they are made in.
type Wall struct {
	// UIDs are the first and the last user id that tasks of root's rcc have;
	// zero: none. Such a task has an id of its own that nobody else has.
	UIDs [2]uint32
	// Cgroups are paths in the cgroup v2 tree, relative to its root, that hold
	// nothing but tasks. Their sockets are told, and those of cgroups beneath.
	Cgroups []string
	// Accept are the private addresses that tasks may reach all the same.
	Accept []Exception
}

// Exception is a range of addresses, and of their TCP ports, that the second
// wall lets tasks reach. Low and High 0 mean all protocols and ports.
type Exception struct {
	Prefix    netip.Prefix
	Low, High uint16
}

// Counters of the second wall.
const (
	CounterRefused4 = "refused4" // packets to IPv4 addresses that are not public
	CounterRefused6 = "refused6"
	CounterExcepted = "excepted" // packets that an exception let pass
)

// ParseException reads an address or a prefix such as 10.1.2.0/24, with :PORT or
// :PORT-PORT behind it or not; IPv6 with ports is [fd00::/64]:5432.
func ParseException(text string) (Exception, error) {
	bad := fmt.Errorf("cannot read the exception %q: expected an address or a range such as 10.1.2.0/24, with :PORT or :PORT-PORT if it is for those alone", text)
	address, ports, hasPorts := text, "", false
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if address, ports, ok = strings.Cut(rest, "]"); !ok || ports != "" && ports[0] != ':' {
			return Exception{}, bad
		}
		ports, hasPorts = strings.CutPrefix(ports, ":")
	} else if strings.Count(text, ":") == 1 {
		address, ports, hasPorts = strings.Cut(text, ":")
	}
	var e Exception
	p, err := netip.ParsePrefix(address)
	if a, addrErr := netip.ParseAddr(address); addrErr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil || p.Addr().Is4In6() || p.Bits() == 0 {
		return Exception{}, bad
	}
	e.Prefix = p.Masked()
	if !hasPorts {
		return e, nil
	}
	low, high, isRange := strings.Cut(ports, "-")
	if !isRange {
		high = low
	}
	var errs [2]error
	e.Low, errs[0] = parsePort(low)
	e.High, errs[1] = parsePort(high)
	if errors.Join(errs[:]...) != nil || e.Low > e.High {
		return Exception{}, bad
	}
	return e, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// String is what ParseException reads back.
func (e Exception) String() string {
	address := prefixText(e.Prefix)
	switch {
	case e.Low == 0:
		return address
	case e.Prefix.Addr().Is6():
		address = "[" + address + "]"
	}
	if e.Low == e.High {
		return fmt.Sprintf("%s:%d", address, e.Low)
	}
	return fmt.Sprintf("%s:%d-%d", address, e.Low, e.High)
}

// Table gives the rules. It asks the kernel for the id of each cgroup; one that
// is not there is an error.
func (w Wall) Table() (Table, error) { return w.table(cgroupID) }

func (w Wall) table(idOf func(string) (uint64, error)) (Table, error) {
	private4, private6 := set{"private4", private4()}, set{"private6", private6()}
	t := Table{counters: []string{CounterExcepted, CounterRefused4, CounterRefused6}, sets: []set{private4, private6}}
	var output []rule
	if w.UIDs != [2]uint32{} {
		output = append(output, rule{user(w.UIDs[0], w.UIDs[1]), goTo("tasks")})
	}
	for _, p := range w.Cgroups {
		id, err := idOf(p)
		if err != nil {
			return Table{}, err
		}
		output = append(output, rule{cgroup(path.Clean(p), uint32(strings.Count(path.Clean(p), "/")+1), id), goTo("cgroups")})
	}
	if len(output) == 0 {
		return Table{}, errors.New("cannot make the rules: neither user ids nor cgroups tell which flows are of tasks")
	}
	var tasks []rule
	for _, e := range w.exceptions() {
		tasks = append(tasks, e.rule())
	}
	tasks = append(tasks,
		rule{toSet(private4), count(CounterRefused4), prohibit()},
		rule{toSet(private6), count(CounterRefused6), prohibit()})
	t.chains = []chain{{"tasks", nil, tasks}}
	if len(w.Cgroups) > 0 {
		t.chains = append(t.chains, chain{"cgroups", nil, []rule{
			// In the cgroup rcc also asks the host's resolver, and answers who
			// came to a published port. A task's own flows are none of both:
			// they are TCP, and begin with SYN.
			{destinationPort("udp", portDNS, portDNS), accept()},
			{goesOn(), accept()},
			{goTo("tasks")},
		}})
	}
	t.chains = append(t.chains, chain{"output", &hook{name: "output"}, output})
	return t, nil
}

// exceptions are in order and each once, so that equal walls are equal rules.
func (w Wall) exceptions() []Exception {
	return slices.Compact(slices.SortedFunc(slices.Values(w.Accept), compareExceptions))
}

func (e Exception) rule() rule {
	r := rule{to(e.Prefix)}
	if e.Low != 0 {
		r = append(r, destinationPort("tcp", e.Low, e.High))
	}
	return append(r, count(CounterExcepted), accept(), comment(e.String()))
}

func compareExceptions(a, b Exception) int {
	return cmp.Or(a.Prefix.Compare(b.Prefix), cmp.Compare(a.Low, b.Low), cmp.Compare(a.High, b.High))
}
