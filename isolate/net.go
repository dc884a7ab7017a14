package isolate

import (
	"errors"
	"fmt"
	"slices"
)

// Ports that the way out stands on, in the sandbox's network namespace. A
// program can bind neither: the namespace is not its own, and ports below 1024
// want a capability there (ip_unprivileged_port_start in
// Documentation/networking/ip-sysctl.rst).
const (
	flowPort = 1  // on the loopback addresses; the rules lead every flow there
	dnsPort  = 53 // on every address
)

// maxPorts bounds what is forwarded and what is published: each forwarded port
// is two listeners.
const maxPorts = 256

// checkNet refuses what is no network policy.
func checkNet(p Policy) error {
	switch p.Net {
	case NetNone:
		if len(p.Forward)+len(p.Publish) > 0 {
			return fmt.Errorf("cannot forward or publish ports: net is %s; ask for %s or %s", NetNone, NetAllow, NetPublic)
		}
	case NetAllow, NetPublic:
	default:
		return fmt.Errorf("cannot set up the network %q: known are %s, %s and %s", p.Net, NetNone, NetAllow, NetPublic)
	}
	if err := checkPorts("forward", p.Forward); err != nil {
		return err
	}
	return checkPorts("publish", p.Publish)
}

func checkPorts(verb string, ports []uint16) error {
	if len(ports) > maxPorts {
		return fmt.Errorf("cannot %s %d ports: at most %d", verb, len(ports), maxPorts)
	}
	if slices.Contains(ports, 0) {
		return errors.New("cannot " + verb + " port 0: name a port of the sandbox")
	}
	if slices.Contains(ports, flowPort) || slices.Contains(ports, dnsPort) {
		return fmt.Errorf("cannot %s ports %d and %d: the sandbox needs them for itself", verb, flowPort, dnsPort)
	}
	sorted := slices.Sorted(slices.Values(ports))
	if len(slices.Compact(sorted)) < len(ports) {
		return errors.New("cannot " + verb + " a port twice")
	}
	return nil
}

// resolvConf leads to the gate's resolver, which every address of the sandbox
// does; without a way out nothing answers.
func (p *Plan) resolvConf() string {
	if p.Net == NetNone {
		return "# no network\n"
	}
	return "nameserver 127.0.0.1\n"
}
