package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"rcc/hooks"
	"rcc/isolate/egress"
	"rcc/worktree"
)

// A trustablePolicy is what one state of a repository asks for beyond what a task
// has by itself.
type trustablePolicy struct {
	hash  string        // of its rcc.toml
	asks  string        // what that would widen, "" for nothing
	hosts []egress.Rule // that its lock files alone name
	where string
}

func (p trustablePolicy) String() string { return repoConfigName + ": " + p.asks }

// trustablePolicies are those of the current folder's repository: at a commit, or
// else at HEAD and in the checkout. Nothing is told twice. Hosts are those that can
// be allowed, or else those that were.
func trustablePolicies(ctx context.Context, env *surroundings, base string, were bool) ([]trustablePolicy, error) {
	git, repo, s, err := atRepository(ctx, env)
	if err != nil {
		return nil, err
	}
	rev := base
	if rev == "" {
		rev = "HEAD"
	}
	var out []trustablePolicy
	add := func(n netSource, content []byte, where string) error {
		p, err := n.trustablePolicy(ctx, content, were)
		if err != nil {
			return err
		}
		for _, o := range out {
			if o.hash == p.hash {
				p.asks = ""
			}
			p.hosts = slices.DeleteFunc(p.hosts, func(r egress.Rule) bool { return hasRule(o.hosts, r) })
		}
		if p.where = where; p.asks != "" || len(p.hosts) > 0 {
			out = append(out, p)
		}
		return nil
	}
	n := netSource{env: env, repo: repo, sight: &worktree.Sight{}, store: s}
	_, sight, err := git.Look(ctx, env.dir, rev, "allow")
	if err != nil && (base != "" || repo.Top == "") {
		return nil, err
	}
	if err == nil { // there is a commit
		n.sight = sight
		var content []byte
		if sight.Has(repoConfigName) {
			if content, _, err = repo.ReadFile(ctx, sight.Commit, repoConfigName); err != nil {
				return nil, err
			}
		}
		if err := add(n, content, "it is at "+shortID(sight.Commit)); err != nil {
			return nil, err
		}
	}
	if base == "" && repo.Top != "" {
		content, err := readPlain(filepath.Join(repo.Top, repoConfigName))
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", repoConfigName, underlying(err))
		}
		n.here = true
		if err := add(n, content, "it is in the checkout"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// trustablePolicy is that of the state that n looks at, whose rcc.toml has this
// content.
func (n netSource) trustablePolicy(ctx context.Context, content []byte, were bool) (p trustablePolicy, err error) {
	path, err := UserConfigPath(n.env.getenv)
	if err != nil {
		return p, err
	}
	user, err := ReadUserConfig(path)
	if err != nil {
		return p, err
	}
	if n.config, err = LoadConfig(path, user, repoConfigName, content); err != nil {
		return p, err
	}
	p = trustablePolicy{hash: policyHash(content), asks: n.config.repoAsks()}
	if were {
		w, err := n.trustedHosts(worked{Named: n.named(ctx).Named})
		p.hosts = w.Rules
		return p, err
	}
	p.hosts, err = n.offered(ctx)
	return p, err
}

// errNothingToAllow says that neither a dev shell nor a policy asks for trust.
var errNothingToAllow = nothing("there is nothing to allow: neither flake.nix nor shell.nix is tracked here, no %s asks for more than a task has, and no lock file names a further host", repoConfigName)

// allowPolicies notes that the user allows these contents and hosts.
func allowPolicies(env *surroundings, trust *hooks.Trust, policies []trustablePolicy) error {
	for _, p := range policies {
		if p.asks != "" {
			if err := trust.Allow(hooks.KindPolicy, p.hash, hooks.Grant{}); err != nil {
				return err
			}
			env.say("allowed %s, as %s", Inert(p.String()), p.where)
		}
		for _, r := range p.hosts {
			if err := trust.Allow(hooks.KindHost, hostHash(r), hooks.Grant{}); err != nil {
				return err
			}
		}
		for _, g := range bySource(p.hosts) {
			env.say("allowed %s", Inert(g.String()))
		}
	}
	return nil
}

// denyPolicies takes it back.
func denyPolicies(env *surroundings, trust *hooks.Trust, policies []trustablePolicy) error {
	for _, p := range policies {
		if p.asks != "" {
			if err := trust.Deny(hooks.KindPolicy, p.hash); err != nil {
				return err
			}
			env.say("%s is not allowed any more, as %s", Inert(p.String()), p.where)
		}
		for _, r := range p.hosts {
			if err := trust.Deny(hooks.KindHost, hostHash(r)); err != nil {
				return err
			}
		}
		for _, g := range bySource(p.hosts) {
			env.say("not allowed any more: %s", Inert(g.String()))
		}
	}
	return nil
}
