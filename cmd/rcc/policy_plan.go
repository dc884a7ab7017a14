package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rcc/hooks"
	"rcc/worktree"
)

// repoConfigName is the repository's configuration, in its top folder.
const repoConfigName = "rcc.toml"

// A netSource is what the policy of a task is made from.
type netSource struct {
	env    *surroundings
	repo   *worktree.Repo
	sight  *worktree.Sight // of the base commit
	store  store
	config *Config
	here   bool // lock files are those of the checkout, not of the commit
}

// plan works out what a task may reach. agent names the configured agent that it
// runs, "" for another command.
func (n netSource) plan(ctx context.Context, flags netFlags, agent string) (*netPlan, error) {
	in, err := n.inputs(flags, agent)
	if err != nil {
		return nil, err
	}
	return buildNet(ctx, in)
}

func (n netSource) inputs(flags netFlags, agent string) (in netInputs, err error) {
	in = netInputs{User: n.config.User, Repo: n.config.Repo, Agent: n.config.Agents[agent], Flags: flags, Project: n.project}
	if in.System, err = readSystemPolicy(systemPolicyPath, 0); err != nil {
		return in, err
	}
	in.Trusted, err = n.trusted()
	return in, err
}

// trusted tells whether the user has allowed the repository's file as it is. It
// is not asked for a file that has nothing to be allowed.
func (n netSource) trusted() (bool, error) {
	if n.config.repoAsks() == "" {
		return false, nil
	}
	_, ok, err := n.store.trust().Allowed(hooks.KindPolicy, policyHash(n.config.RepoFile))
	return ok, err
}

// mayUse refuses the agent that the repository's file chose for the user, as long
// as the user has not allowed that file. name is what --agent says.
func (n netSource) mayUse(name string) error {
	agent := n.config.borrowedAgent()
	if name != "" || agent == "" {
		return nil
	}
	trusted, err := n.trusted()
	if trusted || err != nil {
		return err
	}
	return fmt.Errorf("cannot take the agent %s, which has variables or hosts of yours, because the repository says so (%s): use --agent %[1]s, or rcc allow", agent, n.config.DefaultAgent.From)
}

// policyHash names the content of a repository's file for trust in it.
func policyHash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// repoAsks says what the repository's file would widen, or could, "" if nothing:
// that is what a user allows.
func (c *Config) repoAsks() string {
	var asks []string
	add := func(format string, args ...any) { asks = append(asks, fmt.Sprintf(format, args...)) }
	if name := c.borrowedAgent(); name != "" {
		add("default_agent %s of yours", name)
	}
	if n := c.Repo.Net; n.From != "" && n.Value != netNone {
		add("net %s", n.Value)
	}
	for _, r := range c.Repo.Allow.Value {
		add("allow %s", r)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Agents)) {
		if a := c.Agents[name]; a.Repo {
			for _, r := range a.Allow.Value {
				add("allow %s for the agent %s", r, name)
			}
		}
	}
	for _, p := range c.Repo.Forward.Value {
		add("forward %d", p)
	}
	for _, p := range c.Repo.Publish.Value {
		add("publish %s", p)
	}
	return strings.Join(asks, ", ")
}

// netSource is that of a task that is about to start.
func (st *start) netSource() netSource {
	return netSource{env: st.env, repo: st.repo, sight: st.sight, store: st.store, config: st.config}
}
