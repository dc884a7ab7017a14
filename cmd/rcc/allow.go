package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"rcc/hooks"
	"rcc/worktree"
)

type allowCmd struct {
	Base                 string `help:"Allow it as it is at this commit (default: at HEAD, and in the checkout)." placeholder:"REV"`
	ImportFromDerivation bool   `help:"Let its evaluation build things and read them (import from derivation)."`
}

func (c *allowCmd) Help() string {
	return `rcc allow [--base REV]

Says that you have looked at the Nix code of this repository's dev shell, at the
files that it names, and at the .envrc here; that Nix may evaluate and build it, as you, on this
machine; and that rcc hook and direnv may enter it, which runs its shellHook.
Says as well that tasks may reach what its rcc.toml asks for, and the hosts that
its lock files name, which are shown. It is about that content and those hosts, in
this repository: a change of it asks again. rcc deny takes it back.`
}

func (c *allowCmd) Run(env *surroundings) error {
	policies, err := trustablePolicies(context.Background(), env, c.Base, false)
	if err != nil {
		return err
	}
	found, s, err := trustable(env, c.Base)
	if err != nil {
		return err
	}
	if len(policies)+len(found) == 0 {
		return errNothingToAllow
	}
	trust := s.trust()
	if err := allowPolicies(env, trust, policies); err != nil {
		return err
	}
	for _, t := range found {
		grant := hooks.Grant{Files: hookFiles(t.content.Files), ImportFromDerivation: c.ImportFromDerivation, When: time.Now().UTC()}
		if err := trust.Allow(hooks.KindFlake, t.hash, grant); err != nil {
			return err
		}
		env.say("allowed %s, as %s", Inert(t.describe()), t.where)
	}
	if c.Base != "" {
		return nil
	}
	envrc, hash, err := envrcHere(env)
	if err != nil || hash == "" {
		return err
	}
	if err := trust.Allow(hooks.KindEnvrc, hash, hooks.Grant{When: time.Now().UTC()}); err != nil {
		return err
	}
	env.say("allowed %s", Inert(envrc))
	return nil
}

// envrcHere is the .envrc that counts in the current folder, if the shells' hooks
// can use it.
func envrcHere(env *surroundings) (path, hash string, err error) {
	for dir := env.dir; ; dir = filepath.Dir(dir) {
		path = filepath.Join(dir, envrcName)
		content, err := readPlain(path)
		if err != nil {
			return "", "", fmt.Errorf("cannot read %s: %w", path, underlying(err))
		}
		if content != nil {
			if uses, plain := hooks.ParseEnvrc(content); !plain || len(uses) == 0 {
				return path, "", nil
			}
			return path, envrcHash(content), nil
		}
		if dir == "/" {
			return "", "", nil
		}
	}
}

// envrcHash names the content of an .envrc for trust in it.
func envrcHash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
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
		for _, kind := range []string{hooks.KindFlake, hooks.KindEnvrc, hooks.KindPolicy, hooks.KindHost} {
			if err := s.trust().DenyAll(kind); err != nil {
				return err
			}
		}
		env.say("nothing of this repository is allowed any more")
		return nil
	}
	policies, err := trustablePolicies(context.Background(), env, "", true)
	if err != nil {
		return err
	}
	found, s, err := trustable(env, "")
	if err != nil {
		return err
	}
	if len(policies)+len(found) == 0 {
		return errNothingToAllow
	}
	if err := denyPolicies(env, s.trust(), policies); err != nil {
		return err
	}
	for _, t := range found {
		if err := s.trust().Deny(hooks.KindFlake, t.hash); err != nil {
			return err
		}
		env.say("%s is not allowed any more, as %s", Inert(t.describe()), t.where)
	}
	_, hash, err := envrcHere(env)
	if err != nil || hash == "" {
		return err
	}
	return s.trust().Deny(hooks.KindEnvrc, hash)
}

// trustableContent is something that a user can allow.
type trustableContent struct {
	hash    string
	file    string
	content *shellContent
	where   string
}

func (t trustableContent) describe() string {
	if n := len(t.content.Files) - 1; n > 0 {
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
	if err != nil && (base != "" || repo.Top == "") {
		return nil, s, err
	}
	if err != nil { // no commit yet
		sight = &worktree.Sight{}
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
	var places []place
	if sight.Tree != "" {
		places = append(places, place{"it is at " + shortID(sight.Commit), &commitFiles{repo: repo, tree: sight.Tree}})
	}
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
	return out, s, nil
}

func (f *shellFinder) trustable(ctx context.Context, where string) (*trustableContent, error) {
	content, err := f.content(ctx)
	if err != nil || content.Kind == "" {
		return nil, err
	}
	return &trustableContent{hash: content.hash(), file: shellFile(content.Kind, content.Dir), content: content, where: where}, nil
}
