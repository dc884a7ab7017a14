package firewall

import "net/netip"

// TaskRules are what the rules of a task's network namespace depend on.
type TaskRules struct {
	// Listener is the port of the gate's transparent listeners on 127.0.0.1 and
	// ::1. The agent must not be able to bind it: take one below 1024.
	Listener uint16
	// LogGroup is the NFLOG group that tells of refused packets.
	LogGroup uint16
}

// What every task has.
const (
	TaskListener = 1
	TaskLogGroup = 1
)

// Counters of a task's rules.
const (
	CounterFlows    = "flows"    // TCP packets that were given to the gate
	CounterNames    = "names"    // DNS queries over UDP
	CounterRefused  = "refused"  // packets that are neither TCP nor DNS
	CounterListener = "listener" // attempts to reach the gate's listener itself
)

// Refused packets are told by their first bytes, which hold all addresses and
// ports, and at most so often: the rest is counted.
const (
	logBytes  = 128 // an IPv6 header with options, and ports
	logRate   = 20  // a second
	logBurst  = 40
	portDNS   = 53
	loopback4 = "127.0.0.0/8"
	loopback6 = "::1/128"
)

// Task gives the rules of a task's network namespace. There, every address is
// local (the routes `local 0.0.0.0/0 dev lo` and `local ::/0 dev lo`), and lo is
// the only device, so a packet passes output, prerouting and input in turn.
//
//   - Loopback is the task's own, but for the gate's listener.
//   - TCP to any other address is given to the gate's listener. No address is
//     rewritten and no connection is tracked, so no table can fill up. Replies
//     come by there too; they belong to the program's own socket, which tproxy
//     leaves alone.
//   - DNS reaches the gate by itself: it has port 53 of all addresses, and
//     nobody else can bind that.
//   - Anything else is refused when it is sent, told and counted.
func Task(r TaskRules) Table {
	v4, v6 := netip.MustParsePrefix(loopback4), netip.MustParsePrefix(loopback6)
	listener := func(a netip.Addr) part { return divert(netip.AddrPortFrom(a, r.Listener)) }
	return Table{
		counters: []string{CounterFlows, CounterListener, CounterNames, CounterRefused},
		chains: []chain{
			{"prerouting", &hook{name: "prerouting", mangle: true}, []rule{
				{to(v4), accept()},
				{to(v6), accept()},
				{destinationPort("tcp", portDNS, portDNS), accept()},
				{familyPart(false), protocol("tcp"), listener(netip.MustParseAddr("127.0.0.1")), count(CounterFlows)},
				{familyPart(true), protocol("tcp"), listener(netip.IPv6Loopback()), count(CounterFlows)},
			}},
			{"input", &hook{name: "input", drop: true}, []rule{
				{arriving("lo"), accept()},
			}},
			// Nothing is forwarded, whatever devices and settings there are.
			{"forward", &hook{name: "forward", drop: true}, nil},
			{"output", &hook{name: "output"}, []rule{
				// A connection to the listener itself would have no destination.
				{to(v4), destinationPort("tcp", r.Listener, r.Listener), count(CounterListener), reset()},
				{to(v6), destinationPort("tcp", r.Listener, r.Listener), count(CounterListener), reset()},
				{destinationPort("udp", portDNS, portDNS), count(CounterNames), accept()},
				{to(v4), accept()},
				{to(v6), accept()},
				{protocol("tcp"), accept()},
				{sourcePort("udp", portDNS), accept()}, // the gate's answers
				// The refusals below come by here as well. A program cannot send
				// these: that takes a raw socket.
				{unreachable(false), accept()},
				{unreachable(true), accept()},
				{atMost(logRate, logBurst), logTo(r.LogGroup, logBytes)},
				{count(CounterRefused), prohibit()},
			}},
		},
	}
}
