package main

import (
	"fmt"
	"strconv"
	"strings"
)

// netFlags are the flags of the way out, as they were given. A task keeps them in
// its record: what they mean is worked out again whenever a sandbox is made.
type netFlags struct {
	Net     string    `json:"net,omitempty" help:"The way out: none, allow (what the lists allow) or public (all that is not private)." enum:"none,allow,public," default:"" placeholder:"KIND"`
	Allow   []string  `json:"allow,omitempty" help:"Let the task reach this as well: HOST, *.HOST, ADDRESS or CIDR, each with :PORT if need be." placeholder:"HOST[:PORT]"`
	Forward []uint16  `json:"forward,omitempty" help:"Let the task reach this port of the host's loopback, at its own." placeholder:"PORT"`
	Publish []publish `json:"publish,omitempty" help:"Show this port of the task on the host's loopback; 0:PORT picks a free one there." placeholder:"[HOST:]PORT"`
}

// none tells that no flag was given that needs a way out.
func (f netFlags) none() bool { return len(f.Allow)+len(f.Forward)+len(f.Publish) == 0 }

// A publish is a port of a task that is shown on the host's loopback.
type publish struct {
	Host uint16 // there; 0: a free one is picked
	Port uint16 // in the sandbox, never 0
}

// parsePublish reads "PORT", the same on both sides, or "HOST:PORT".
func parsePublish(s string) (publish, error) {
	host, port, two := strings.Cut(s, ":")
	if !two {
		port = host
	}
	h, okHost := parsePort(host)
	p, okPort := parsePort(port)
	switch {
	case !two && okPort && p == 0:
		return publish{}, fmt.Errorf("cannot publish port 0: 0:3000 picks a free port of the host for the task's port 3000")
	case !okHost, !okPort, p == 0:
		return publish{}, fmt.Errorf("cannot publish %s: it is PORT, HOSTPORT:PORT or 0:PORT, such as 8080:3000", shownText(s))
	}
	if p == 1 || p == 53 {
		return publish{}, fmt.Errorf("cannot publish port %d: in the sandbox it is rcc's own; let the service listen on another port", p)
	}
	return publish{Host: h, Port: p}, nil
}

// parsePort reads a port number in its one spelling; 0 is one here.
func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && strconv.FormatUint(n, 10) == s
}

func (p publish) String() string { return fmt.Sprintf("%d:%d", p.Host, p.Port) }

// MarshalText and UnmarshalText are the form of flags and records.
func (p publish) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what parsePublish reads.
func (p *publish) UnmarshalText(text []byte) (err error) {
	*p, err = parsePublish(string(text))
	return err
}

// checkForward refuses ports that are rcc's own in the sandbox: 1 takes the
// flows, and 53 is the resolver's.
func checkForward(port uint16) error {
	switch port {
	case 0:
		return fmt.Errorf("cannot forward port 0: name the port of the host's loopback, such as 5432")
	case 1, 53:
		return fmt.Errorf("cannot forward port %d: in the sandbox it is rcc's own; let the service on the host listen on another port", port)
	}
	return nil
}
