package main

import (
	"fmt"
	"slices"
	"strings"

	"rcc/isolate/egress"
)

// Ways out, from the narrowest to the widest.
const (
	netNone   = egress.NetNone   // a loopback device and nothing else
	netAllow  = egress.NetAllow  // what the lists allow
	netPublic = egress.NetPublic // all that is not private
)

var netKinds = []string{netNone, netAllow, netPublic}

// wider tells whether a lets through more than b.
func wider(a, b string) bool { return slices.Index(netKinds, a) > slices.Index(netKinds, b) }

const wantedNet = `"none", "allow" or "public"`

// projectMark stands, in a list of what is allowed, for what the project needs
// as far as that can be worked out: see known. It is no name (a name has no "@").
const projectMark = "@project"

// A netLayer is what one file says of the way out. A zero Setting was not set.
type netLayer struct {
	Net     Setting[string]
	Allow   Setting[[]egress.Rule] // one of the name projectMark stands for the worked-out list
	Deny    Setting[[]egress.Rule]
	Forward Setting[[]uint16]  // ports of the host's loopback that a task reaches
	Publish Setting[[]publish] // ports of the task on the host's loopback
}

// layerKeys are the keys that a layer has in every file.
var layerKeys = []string{"net", "allow", "deny", "forward", "publish"}

// Bounds of one list: more is a mistake, and each flow is held against them all.
const (
	maxRules = 1024
	maxPorts = 64
)

const (
	wantedAllow = `a list of HOST, *.HOST, ADDRESS or CIDR, each with :PORT if need be, such as ["@project", "example.org:443"]`
	wantedDeny  = `a list of HOST, *.HOST, ADDRESS or CIDR, each with :PORT if need be, such as ["*.example.org"]`
)

// decodeLayer reads the keys of the way out. A repository may not open private
// addresses: whoever commits would choose what a task reaches in the user's own
// network.
func decodeLayer(s configSection, isRepo bool) netLayer {
	l := netLayer{
		Net:     configText(s, "net", wantedNet, netKinds),
		Allow:   configRules(s, "allow", wantedAllow),
		Deny:    configRules(s, "deny", wantedDeny),
		Forward: configForward(s),
		Publish: configPublish(s),
	}
	for i, r := range l.Deny.Value {
		if r.Name == projectMark {
			s.itemProblem("deny", i, "deny cannot have %s: that is a list of what is allowed", projectMark)
		}
	}
	if isRepo {
		s.onlyPublic("allow", l.Allow.Value)
	}
	return l
}

// onlyPublic makes every rule that opens private addresses a problem.
func (s configSection) onlyPublic(key string, rules []egress.Rule) {
	for i, r := range rules {
		if r.Private() {
			s.itemProblem(key, i, "%s has %s, and a repository cannot open a private address; put it into your own config.toml", key, r)
		}
	}
}

// configRules reads a list of rules, each with the place of its own line.
func configRules(s configSection, key, want string) (out Setting[[]egress.Rule]) {
	list := configList(s, key, want)
	if list.From == "" {
		return out
	}
	if len(list.Value) > maxRules {
		s.problem(key, "%s has %d entries; %d at most", key, len(list.Value), maxRules)
		return out
	}
	rules := make([]egress.Rule, len(list.Value))
	for i, text := range list.Value {
		r, err := parseAllowed(text)
		if err != nil {
			s.itemProblem(key, i, "%s has %s: %s", key, shownText(text), oneLine(err))
			return out
		}
		r.From = s.itemPlace(key, i)
		rules[i] = r
	}
	return Setting[[]egress.Rule]{rules, list.From}
}

// parseAllowed reads one entry of allow.
func parseAllowed(text string) (egress.Rule, error) {
	if text == projectMark {
		return egress.Rule{Name: projectMark}, nil
	}
	if strings.HasPrefix(text, "@") {
		return egress.Rule{}, fmt.Errorf("the only word with an @ is %s", projectMark)
	}
	return egress.ParseRule(text)
}

// shownText quotes a value of a file, cut to what fits on a line.
func shownText(text string) string {
	const most = 100
	if len(text) > most {
		text = text[:most] + "…"
	}
	return `"` + Inert(text) + `"`
}

func configForward(s configSection) (out Setting[[]uint16]) {
	const want = "a list of ports on the host's loopback, such as [5432]"
	list, ok := configItems(s, "forward", want)
	if !ok {
		return out
	}
	ports := []uint16{}
	for i, v := range list {
		n, ok := v.(int64)
		if !ok || n < 1 || n > 65535 {
			s.itemProblem("forward", i, "forward must be %s", want)
			return out
		}
		if err := checkForward(uint16(n)); err != nil {
			s.itemProblem("forward", i, "%s", oneLine(err))
			return out
		}
		ports = append(ports, uint16(n))
	}
	return Setting[[]uint16]{ports, s.place("forward")}
}

func configPublish(s configSection) (out Setting[[]publish]) {
	const want = `a list of ports of the task, such as ["3000", "8080:3000", "0:3000"]`
	list, ok := configItems(s, "publish", want)
	if !ok {
		return out
	}
	ports := []publish{}
	for i, v := range list {
		if n, isNumber := v.(int64); isNumber {
			v = fmt.Sprint(n)
		}
		text, ok := v.(string)
		if !ok {
			s.itemProblem("publish", i, "publish must be %s", want)
			return out
		}
		p, err := parsePublish(text)
		if err != nil {
			s.itemProblem("publish", i, "%s", oneLine(err))
			return out
		}
		ports = append(ports, p)
	}
	return Setting[[]publish]{ports, s.place("publish")}
}

// configItems is a list of anything, within bounds.
func configItems(s configSection, key, want string) ([]any, bool) {
	v, ok := s.values[key]
	if !ok {
		return nil, false
	}
	list, ok := v.([]any)
	switch {
	case !ok:
		s.problem(key, "%s must be %s%s", key, want, butIs(v))
	case len(list) > maxPorts:
		s.problem(key, "%s has %d entries; %d at most", key, len(list), maxPorts)
		ok = false
	}
	return list, ok
}
