package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"rcc/hooks"
)

// A trustablePolicy is a repository's file that asks for more than a task has by
// itself.
type trustablePolicy struct {
	hash  string
	asks  string // what it would widen
	where string
}

func (p trustablePolicy) String() string { return repoConfigName + ": " + p.asks }

// trustablePolicies are those of the current folder's repository: at a commit, or
// else at HEAD and in the checkout, each content once.
func trustablePolicies(ctx context.Context, env *surroundings, base string) ([]trustablePolicy, error) {
	git, repo, _, err := atRepository(ctx, env)
	if err != nil {
		return nil, err
	}
	rev := base
	if rev == "" {
		rev = "HEAD"
	}
	var out []trustablePolicy
	add := func(content []byte, where string) error {
		p, err := policyIn(env, content)
		if err != nil || p.asks == "" || slices.ContainsFunc(out, func(o trustablePolicy) bool { return o.hash == p.hash }) {
			return err
		}
		p.where = where
		out = append(out, p)
		return nil
	}
	_, sight, err := git.Look(ctx, env.dir, rev, "allow")
	switch {
	case err != nil && (base != "" || repo.Top == ""):
		return nil, err
	case err == nil && sight.Has(repoConfigName):
		content, _, err := repo.ReadFile(ctx, sight.Commit, repoConfigName)
		if err == nil {
			err = add(content, "it is at "+shortID(sight.Commit))
		}
		if err != nil {
			return nil, err
		}
	}
	if base == "" && repo.Top != "" {
		content, err := readPlain(filepath.Join(repo.Top, repoConfigName))
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", repoConfigName, underlying(err))
		}
		if err := add(content, "it is in the checkout"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// policyIn is what a content of the repository's file asks for.
func policyIn(env *surroundings, content []byte) (p trustablePolicy, err error) {
	path, err := UserConfigPath(env.getenv)
	if err != nil {
		return p, err
	}
	user, err := ReadUserConfig(path)
	if err != nil {
		return p, err
	}
	c, err := LoadConfig(path, user, repoConfigName, content)
	if err != nil {
		return p, err
	}
	return trustablePolicy{hash: policyHash(content), asks: c.repoAsks()}, nil
}

// errNothingToAllow says that neither a dev shell nor a policy asks for trust.
var errNothingToAllow = nothing("there is nothing to allow: neither flake.nix nor shell.nix is tracked here, and no %s asks for more than a task has", repoConfigName)

// allowPolicies notes that the user allows these contents.
func allowPolicies(env *surroundings, trust *hooks.Trust, policies []trustablePolicy) error {
	for _, p := range policies {
		if err := trust.Allow(hooks.KindPolicy, p.hash, hooks.Grant{}); err != nil {
			return err
		}
		env.say("allowed %s, as %s", Inert(p.String()), p.where)
	}
	return nil
}

// denyPolicies takes it back.
func denyPolicies(env *surroundings, trust *hooks.Trust, policies []trustablePolicy) error {
	for _, p := range policies {
		if err := trust.Deny(hooks.KindPolicy, p.hash); err != nil {
			return err
		}
		env.say("%s is not allowed any more, as %s", Inert(p.String()), p.where)
	}
	return nil
}
