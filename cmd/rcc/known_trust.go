package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"rcc/hooks"
	"rcc/isolate/egress"
)

// hostHash names a host and a port for trust in them. Each has its own: a lock file
// that names fewer of them, or changes without naming others, asks for nothing.
func hostHash(r egress.Rule) string {
	sum := sha256.Sum256([]byte(r.String()))
	return hex.EncodeToString(sum[:])
}

// trustedHosts moves what the user has allowed, in this repository, from what its
// content names to what counts.
func (n netSource) trustedHosts(w worked) (worked, error) {
	trust := n.store.trust()
	var named []egress.Rule
	for _, r := range w.Named {
		_, ok, err := trust.Allowed(hooks.KindHost, hostHash(r))
		switch {
		case err != nil:
			return w, err
		case ok:
			w.Rules = append(w.Rules, r)
		default:
			named = append(named, r)
		}
	}
	w.Named = named
	slices.SortStableFunc(w.Rules, byText)
	return w, nil
}

// offered are the hosts that a user can allow: all that the content names, if it
// counts at all what it names once its rcc.toml is allowed as well.
func (n netSource) offered(ctx context.Context) (hosts []egress.Rule, err error) {
	in, err := n.inputs(netFlags{}, "")
	if err != nil {
		return nil, err
	}
	in.Trusted = true
	in.Project = func(ctx context.Context) (worked, error) {
		hosts = n.named(ctx).Named
		return worked{}, ctx.Err()
	}
	_, err = buildNet(ctx, in)
	return hosts, err
}

// tellNamed tells of the hosts that content of the repository names in vain. What
// the lists decide by themselves, one way or the other, is not told.
func (b *netBuilder) tellNamed(context.Context) error {
	var asked []egress.Rule
	for _, r := range b.named {
		v := b.plan.Policy.MayConnect(r.Name, r.Low)
		if r.Name == "" {
			v = b.plan.Policy.MayReach(r.Prefix.Addr(), r.Low)
		}
		if v.OK || v.Mend == "" {
			continue
		}
		asked = append(asked, r)
		b.line("ignored", projectMark+": "+r.From, "%s: not allowed yet (rcc allow)", r)
	}
	if len(asked) == 0 {
		return nil
	}
	it := "it"
	if len(asked) > 1 {
		it = "them"
	}
	var told []string
	for _, g := range bySource(asked) {
		told = append(told, g.from+" names "+someOf(g.short()))
	}
	b.plan.Notes = append(b.plan.Notes, fmt.Sprintf("%s; rcc allow would add %s", strings.Join(told, "; "), it))
	return nil
}

// A hostGroup is what one file names.
type hostGroup struct {
	from  string
	hosts []string
}

func (g hostGroup) String() string { return strings.Join(g.hosts, ", ") + ", named by " + g.from }

// short are the hosts as people call them: that a host is reached by TLS goes
// without saying.
func (g hostGroup) short() (out []string) {
	for _, h := range g.hosts {
		out = append(out, strings.TrimSuffix(h, ":443"))
	}
	return out
}

// bySource puts together what the same file names.
func bySource(rules []egress.Rule) (out []hostGroup) {
	for _, r := range rules {
		i := slices.IndexFunc(out, func(g hostGroup) bool { return g.from == r.From })
		if i < 0 {
			i, out = len(out), append(out, hostGroup{from: r.From})
		}
		out[i].hosts = append(out[i].hosts, r.String())
	}
	return out
}
