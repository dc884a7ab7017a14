package main

import (
	"context"
	"slices"
	"time"

	"rcc/hooks"
)

type allowCmd struct {
	Base                 string `help:"Allow it as it is at this commit (default: at HEAD, and in the checkout)." placeholder:"REV"`
	ImportFromDerivation bool   `help:"Let its evaluation build things and read them (import from derivation)."`
}

func (c *allowCmd) Help() string {
	return `rcc allow [--base REV]

Says that you have looked at the Nix code of this repository's dev shell and that
Nix may evaluate it, as you, on this machine. It is about that content, in this
repository: a change of it asks again. rcc deny takes it back.`
}

func (c *allowCmd) Run(env *surroundings) error {
	found, s, err := trustable(env, c.Base)
	if err != nil {
		return err
	}
	trust := s.trust()
	for _, t := range found {
		grant := hooks.Grant{Files: hookFiles(t.content.Asked), ImportFromDerivation: c.ImportFromDerivation, When: time.Now().UTC()}
		if err := trust.Allow(hooks.KindFlake, t.hash, grant); err != nil {
			return err
		}
		env.say("allowed %s, as %s", Inert(t.describe()), t.where)
	}
	return nil
}

type denyCmd struct {
	All bool `help:"All that was ever allowed in this repository."`
}

func (c *denyCmd) Help() string { return "rcc deny [--all]" }

func (c *denyCmd) Run(env *surroundings) error {
	if c.All {
		_, _, s, err := atRepository(context.Background(), env)
		if err != nil {
			return err
		}
		if err := s.trust().DenyAll(hooks.KindFlake); err != nil {
			return err
		}
		env.say("nothing of this repository is allowed any more")
		return nil
	}
	found, s, err := trustable(env, "")
	if err != nil {
		return err
	}
	for _, t := range found {
		if err := s.trust().Deny(hooks.KindFlake, t.hash); err != nil {
			return err
		}
		env.say("%s is not allowed any more, as %s", Inert(t.describe()), t.where)
	}
	return nil
}

// trustableContent is something that a user can allow.
type trustableContent struct {
	hash    string
	file    string
	content *shellContent
	where   string
}

func (t trustableContent) describe() string {
	if n := len(t.content.Asked) - 1; n > 0 {
		return t.file + " and " + plural(n, "other file")
	}
	return t.file
}

// trustable are the dev shells of the current folder: at a commit, or else at HEAD
// and in the checkout, each content once.
func trustable(env *surroundings, base string) ([]trustableContent, store, error) {
	ctx := context.Background()
	git, repo, s, err := atRepository(ctx, env)
	if err != nil {
		return nil, s, err
	}
	rev := base
	if rev == "" {
		rev = "HEAD"
	}
	_, sight, err := git.Look(ctx, env.dir, rev, "allow")
	if err != nil {
		return nil, s, err
	}
	config, err := readConfig(ctx, env, repo, sight)
	if err != nil {
		return nil, s, err
	}
	f := &shellFinder{env: env, repo: repo, store: s, config: config}
	f.start, _ = repo.InCheckout(env.dir)
	type place struct {
		where string
		files shellFiles
	}
	places := []place{{"it is at " + shortID(sight.Commit), &commitFiles{repo: repo, tree: sight.Tree}}}
	if base == "" && repo.Top != "" {
		places = append(places, place{"it is in the checkout", &checkoutFiles{repo: repo}},
			place{"it is in the checkout with untracked files", &checkoutFiles{repo: repo, untracked: true}})
	}
	var out []trustableContent
	for _, p := range places {
		f.files = p.files
		t, err := f.trustable(ctx, p.where)
		if err != nil {
			return nil, s, err
		}
		if t != nil && !slices.ContainsFunc(out, func(o trustableContent) bool { return o.hash == t.hash }) {
			out = append(out, *t)
		}
	}
	if len(out) == 0 {
		return nil, s, nothing("there is nothing to allow: neither flake.nix nor shell.nix is tracked here")
	}
	return out, s, nil
}

func (f *shellFinder) trustable(ctx context.Context, where string) (*trustableContent, error) {
	content, err := f.content(ctx)
	if err != nil || content.Kind == "" {
		return nil, err
	}
	return &trustableContent{hash: content.hash(), file: shellFile(content.Kind, content.Dir), content: content, where: where}, nil
}
