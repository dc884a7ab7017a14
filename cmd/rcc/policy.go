package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"rcc/isolate/egress"
)

// A netPlan is what a task may reach, and where each line of that came from.
type netPlan struct {
	Policy  *egress.Policy
	Publish []publish
	Notes   []string // what a user should know though everything works, such as that a file asks for more
	Lines   []netLine
}

// A netLine is one line of a plan, for a person.
type netLine struct {
	Kind string `json:"kind"` // "net", "allow", "deny", "forward", "publish", "ceiling" or "ignored"
	Text string `json:"text"`
	From string `json:"from"` // "FILE:LINE", "--allow", "built in", ...
}

// netInputs are the layers of a policy, from the outermost to the innermost.
type netInputs struct {
	System     *netLayer // the ceiling; nil: there is none
	User, Repo netLayer
	Trusted    bool  // the user has allowed the repository's file as it is
	Agent      Agent // that is used; the zero value for none
	Flags      netFlags
	// Project works out what projectMark stands for. It is asked only where the
	// answer counts.
	Project func(context.Context) (worked, error)
}

// Sources that are no line of a file.
const (
	fromBuiltIn = "built in"
	fromNet     = "--net"
	fromAllow   = "--allow"
	fromForward = "--forward"
	fromPublish = "--publish"
)

// buildNet joins the layers:
//
//   - The ceiling bounds all others: the widest net, what every flow must match
//     too, what is denied, and the ports that there may be.
//   - The user's file is what holds where nothing else is said; without a list of
//     its own, what is allowed is what the project needs.
//   - The repository's file may tighten (deny, a narrower net, an empty allow). What
//     would widen counts once the user has allowed its content, and private
//     addresses never do. Hosts that its lock files name count once they are allowed.
//   - Flags are the user's word for one task: they widen within the ceiling.
//
// What a file asks for in vain is a line of the kind "ignored"; a flag that cannot
// be followed is an error.
func buildNet(ctx context.Context, in netInputs) (*netPlan, error) {
	b := &netBuilder{netInputs: in, plan: &netPlan{Policy: &egress.Policy{}}}
	for _, step := range []func(context.Context) error{b.net, b.allow, b.deny, b.forward, b.publish, b.ceiling, b.tellNamed} {
		if err := step(ctx); err != nil {
			return nil, err
		}
		if b.plan.Policy.Net == netNone {
			break
		}
	}
	if len(b.asked) > 0 {
		b.plan.Notes = append(b.plan.Notes, "rcc.toml asks for more than the task has: "+strings.Join(b.asked, ", ")+"; rcc allow would add it")
	}
	return b.plan, nil
}

// netBuilder is a plan in the making.
type netBuilder struct {
	netInputs
	plan  *netPlan
	asked []string      // by a repository's file that is not trusted
	named []egress.Rule // by other content of it
}

func (b *netBuilder) line(kind, from, format string, args ...any) {
	b.plan.Lines = append(b.plan.Lines, netLine{kind, fmt.Sprintf(format, args...), from})
}

// untrusted notes what the repository's file asks for in vain.
func (b *netBuilder) untrusted(from, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.line("ignored", from, "%s: not allowed yet (rcc allow)", text)
	const most = 5
	switch len(b.asked) {
	case most:
		b.asked = append(b.asked, "more")
	case most + 1:
	default:
		b.asked = append(b.asked, text)
	}
}

// net settles how wide the way out is.
func (b *netBuilder) net(context.Context) error {
	net := firstSet(b.User.Net, Setting[string]{Value: netAllow})
	if r := b.Repo.Net; r.From != "" && (b.Trusted || wider(net.Value, r.Value)) {
		net = r
	} else if r.From != "" && wider(r.Value, net.Value) {
		b.untrusted(r.From, "net %s", r.Value)
	}
	if b.repoDeniesAll() && net.Value == netPublic {
		net = Setting[string]{netAllow, b.Repo.Allow.From}
	}
	if b.Flags.Net != "" {
		net = Setting[string]{b.Flags.Net, fromNet}
	}
	if b.System != nil && b.System.Net.From != "" && wider(net.Value, b.System.Net.Value) {
		most := b.System.Net
		if net.From == fromNet {
			return usage("cannot use --net %s: %s lets %q be the widest", net.Value, most.From, most.Value)
		}
		if net.From != "" {
			b.line("ignored", net.From, "net %s: %s lets %q be the widest", net.Value, most.From, most.Value)
		}
		net = most
	}
	b.plan.Policy.Net, b.plan.Policy.NetFrom = net.Value, net.Origin()
	b.line("net", net.Origin(), "%s", net.Value)
	if net.Value == netNone && !b.Flags.none() {
		return usage("cannot open anything for a task that has no way out: net is %q (%s); add --net allow", netNone, net.Origin())
	}
	return nil
}

// repoDeniesAll tells whether the repository's file has an empty list: that
// tightens, whether the file is trusted or not.
func (b *netBuilder) repoDeniesAll() bool {
	return b.Repo.Allow.From != "" && len(b.Repo.Allow.Value) == 0
}

// allow joins the lists of what is allowed.
func (b *netBuilder) allow(ctx context.Context) error {
	user := b.User.Allow
	if user.From == "" {
		user = Setting[[]egress.Rule]{Value: []egress.Rule{{Name: projectMark, From: fromBuiltIn}}}
	}
	list, from := user.Value, user.Origin()
	if b.Trusted || !b.Agent.Repo {
		list = append(slices.Clone(list), b.Agent.Allow.Value...)
	} else {
		b.ignoreAllow(b.Agent.Allow.Value)
	}
	switch {
	case b.repoDeniesAll():
		list, from = nil, b.Repo.Allow.From
	case b.Trusted:
		list = append(slices.Clone(list), b.Repo.Allow.Value...)
	default:
		b.ignoreAllow(b.Repo.Allow.Value)
	}
	for _, text := range b.Flags.Allow {
		r, err := parseAllowed(text)
		if err != nil {
			return usage("cannot use --allow %s: %w", shownText(text), err)
		}
		r.From = fromAllow
		list = append(slices.Clip(list), r)
	}
	if err := b.expand(ctx, list); err != nil {
		return err
	}
	p := b.plan.Policy
	if len(p.Allow) == 0 && p.Net == netAllow {
		if len(list) > 0 {
			b.line("allow", list[0].From, "nothing: %s names no host", projectMark)
		} else {
			b.line("allow", from, "nothing")
		}
	}
	return nil
}

// ignoreAllow notes entries of a file that is not trusted.
func (b *netBuilder) ignoreAllow(list []egress.Rule) {
	for _, r := range list {
		if r.Name != projectMark {
			b.untrusted(r.From, "allow %s", r)
		}
	}
}

// expand adds the rules of a list to the policy, each once, and in the place of
// projectMark what was worked out. Where all that is public is allowed, the
// latter adds nothing.
func (b *netBuilder) expand(ctx context.Context, list []egress.Rule) error {
	p, seen := b.plan.Policy, map[string]bool{}
	add := func(r egress.Rule) {
		if text := r.String(); !seen[text] {
			seen[text] = true
			p.Allow = append(p.Allow, r)
			b.line("allow", r.From, "%s", text)
		}
	}
	asked := p.Net == netPublic || b.Project == nil
	for _, r := range list {
		if r.Name != projectMark {
			add(r)
			continue
		}
		if asked {
			continue
		}
		asked = true
		w, err := b.Project(ctx)
		if err != nil {
			return err
		}
		for _, r := range w.Rules {
			r.From = projectMark + ": " + r.From
			add(r)
		}
		b.plan.Lines = append(b.plan.Lines, w.LeftOut...)
		b.plan.Notes = append(b.plan.Notes, w.Notes...)
		b.named = w.Named
	}
	return nil
}

// deny adds what any layer denies.
func (b *netBuilder) deny(context.Context) error {
	var lists [][]egress.Rule
	if b.System != nil {
		lists = append(lists, b.System.Deny.Value)
	}
	for _, list := range append(lists, b.User.Deny.Value, b.Repo.Deny.Value) {
		for _, r := range list {
			b.plan.Policy.Deny = append(b.plan.Policy.Deny, r)
			b.line("deny", r.From, "%s", r)
		}
	}
	return nil
}

// forward joins the ports of the host that the task reaches.
func (b *netBuilder) forward(context.Context) error {
	p := b.plan.Policy
	add := func(ports []uint16, from string) error {
		for _, port := range ports {
			if err := checkForward(port); err != nil {
				return usage("%w", err)
			}
			if may := b.mayForward(); may.From != "" && !slices.Contains(may.Value, port) {
				if from == fromForward {
					return usage("cannot forward port %d: %s does not list it", port, may.From)
				}
				b.line("ignored", from, "forward %d: %s does not list it", port, may.From)
				continue
			}
			if !slices.Contains(p.Forward, port) {
				p.Forward = append(p.Forward, port)
				b.line("forward", from, "%d", port)
			}
		}
		return nil
	}
	if err := add(b.User.Forward.Value, b.User.Forward.From); err != nil {
		return err
	}
	if b.Trusted {
		if err := add(b.Repo.Forward.Value, b.Repo.Forward.From); err != nil {
			return err
		}
	} else {
		for _, port := range b.Repo.Forward.Value {
			b.untrusted(b.Repo.Forward.From, "forward %d", port)
		}
	}
	return add(b.Flags.Forward, fromForward)
}

func (b *netBuilder) mayForward() (none Setting[[]uint16]) {
	if b.System == nil {
		return none
	}
	return b.System.Forward
}

// publish joins the ports of the task that are shown on the host.
func (b *netBuilder) publish(context.Context) error {
	if err := b.addPublish(b.User.Publish.Value, b.User.Publish.From); err != nil {
		return err
	}
	if b.Trusted {
		if err := b.addPublish(b.Repo.Publish.Value, b.Repo.Publish.From); err != nil {
			return err
		}
	} else {
		for _, p := range b.Repo.Publish.Value {
			b.untrusted(b.Repo.Publish.From, "publish %s", p)
		}
	}
	return b.addPublish(b.Flags.Publish, fromPublish)
}

func (b *netBuilder) addPublish(ports []publish, from string) error {
	for _, p := range ports {
		if !b.mayPublish(p) {
			if from == fromPublish {
				return usage("cannot publish %s: %s does not list it", p, b.System.Publish.From)
			}
			b.line("ignored", from, "publish %s: %s does not list it", p, b.System.Publish.From)
			continue
		}
		if slices.Contains(b.plan.Publish, p) {
			continue
		}
		if slices.Contains(b.plan.Policy.Forward, p.Port) {
			return usage("cannot publish %s (%s): port %d of the sandbox is the host's own, since it is forwarded", p, from, p.Port)
		}
		if p.Host != 0 {
			for _, other := range b.plan.Publish {
				if other.Host == p.Host {
					return fmt.Errorf("cannot publish %s (%s): port %d of the host is that of %s; 0:%d picks a free one", p, from, p.Host, other, p.Port)
				}
			}
		}
		b.plan.Publish = append(b.plan.Publish, p)
		b.line("publish", from, "%s", p)
	}
	return nil
}

// mayPublish holds a port against the ceiling, in whose list 0:PORT stands for
// that port of a task at any port of the host.
func (b *netBuilder) mayPublish(p publish) bool {
	if b.System == nil || b.System.Publish.From == "" {
		return true
	}
	return slices.ContainsFunc(b.System.Publish.Value, func(may publish) bool {
		return may.Port == p.Port && (may.Host == 0 || may.Host == p.Host)
	})
}

// ceiling puts the list that every flow must match above the policy. Without a
// list there is nothing to put there: what else a ceiling says is in the policy. A
// repository that denies everything is one, too: no entry of the user's file would
// change what it denies, so none is ever offered.
func (b *netBuilder) ceiling(context.Context) error {
	above := &b.plan.Policy.Above
	if p := b.plan.Policy; b.repoDeniesAll() && p.Net == netAllow {
		*above = &egress.Policy{Net: netAllow, NetFrom: b.Repo.Allow.From, Allow: slices.Clone(p.Allow)}
		above = &(*above).Above
	}
	if b.System == nil || b.System.Allow.From == "" {
		return nil
	}
	list := b.System.Allow
	*above = &egress.Policy{Net: netAllow, NetFrom: list.From, Allow: list.Value, Forward: b.System.Forward.Value}
	for _, r := range list.Value {
		b.line("ceiling", r.From, "allow %s", r)
	}
	if len(list.Value) == 0 {
		b.line("ceiling", list.From, "allow nothing")
	}
	return nil
}
