package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rcc/isolate/egress"
	"rcc/worktree"
)

// Config is the user's configuration joined with that of the repository.
//
// The user's own file (config.toml) is trusted. The repository's file
// (rcc.toml, read from the base commit, never from a tree) was written by
// whoever commits: it may name agents and hooks, which run in a sandbox only, and
// choose defaults that the user left open, but it never widens what a task sees
// or how long it may run. What it says of the way out counts by the rules of
// buildNet.
type Config struct {
	DefaultAgent Setting[string]
	Agents       map[string]Agent
	repoDefault  bool // DefaultAgent is of the repository's file

	// Defaults of the flags of task and run.
	Tree    Setting[string]        // "auto", "overlay" or "checkout"
	Timeout Setting[time.Duration] // 0: none
	Detach  Setting[bool]
	Dirty   Setting[bool]
	Carry   Setting[[]string] // ignored files of the checkout that go along, as patterns of gitignore(5)
	Include Setting[bool]     // and those that its .worktreeinclude names
	Shell   Setting[string]   // as --shell has it; "auto"

	// Of the dev shell.
	Watch        Setting[[]string]      // further files that decide what it is, as patterns
	Ignore       Setting[[]string]      // files that do not, though Nix code names them
	ShellTimeout Setting[time.Duration] // how long Nix may take; an hour

	Hooks []hook // of both files, in the order that they run in

	// The way out, as each file has it, and the content of the repository's file.
	User, Repo netLayer
	RepoFile   []byte
}

// A Setting is a value and the place it came from.
type Setting[T any] struct {
	Value T
	From  string // "FILE:LINE"; empty when it is built in
}

// Origin says where the value came from, for a person.
func (s Setting[T]) Origin() string {
	if s.From == "" {
		return "built in"
	}
	return s.From
}

// An Agent is a command that can be given a prompt.
type Agent struct {
	Name    string
	Command []string // "{prompt}" stands for the prompt inside an argument
	From    string   // "FILE:LINE"

	Allow Setting[[]egress.Rule] // what it needs to reach, as in allow
	Env   []string               // names of variables of the caller that it is given; of the user's file only
	Repo  bool                   // the repository's file has it
}

// promptMark is what stands for the prompt in an agent's command.
const promptMark = "{prompt}"

// maxConfigSize bounds a configuration file, in bytes. The repository's may come
// from anybody.
const maxConfigSize = 256 << 10

// UserConfigPath is where the user's configuration lies: rcc/config.toml in
// $XDG_CONFIG_HOME, which is ~/.config when it is unset or not absolute.
func UserConfigPath(getenv func(string) string) (string, error) {
	dir := getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		home := getenv("HOME")
		if !filepath.IsAbs(home) {
			return "", errors.New("cannot find the configuration: neither XDG_CONFIG_HOME nor HOME is an absolute path; set HOME")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "rcc", "config.toml"), nil
}

// ReadUserConfig reads the user's file. A file that does not exist is empty.
func ReadUserConfig(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("cannot read the configuration: %s is not an ordinary file", Inert(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1)) // decode refuses what is over the limit
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return data, nil
}

// LoadConfig decodes and joins the two files; either may be empty. The names are
// used in errors and in Setting.From. An error is one line that begins with the
// file and the line, and tells the first thing in the file that is wrong.
func LoadConfig(userPath string, userBytes []byte, repoName string, repoBytes []byte) (*Config, error) {
	user, err := decodeConfig(Inert(userPath), userBytes, false)
	if err != nil {
		return nil, err
	}
	repo, err := decodeConfig(Inert(repoName), repoBytes, true)
	if err != nil {
		return nil, err
	}

	c := &Config{
		DefaultAgent: firstSet(user.DefaultAgent, repo.DefaultAgent),
		Agents:       repo.Agents,
		Tree:         firstSet(user.Tree, repo.Tree, Setting[string]{Value: defaultTree}),
		Timeout:      firstSet(user.Timeout, repo.Timeout),
		Detach:       firstSet(user.Detach, repo.Detach),
		Dirty:        user.Dirty,
		Carry:        user.Carry,
		Include:      firstSet(user.Include, Setting[bool]{Value: true}),
		Shell:        firstSet(user.Shell, repo.Shell, Setting[string]{Value: shellAuto}),
		ShellTimeout: firstSet(user.ShellTimeout, Setting[time.Duration]{Value: defaultShellTimeout}),
		Hooks:        append(user.Hooks, repo.Hooks...),
		User:         user.User,
		Repo:         repo.User,
		RepoFile:     repoBytes,
	}
	c.repoDefault = user.DefaultAgent.From == "" && repo.DefaultAgent.From != ""
	c.Watch, c.Ignore = bothLists(user.Watch, repo.Watch), bothLists(user.Ignore, repo.Ignore)
	for name, agent := range user.Agents {
		c.Agents[name] = agent // what the user means by a name stands
	}
	// A repository may only tighten: 0 would be no limit at all.
	if t := repo.Timeout; t.From != "" && (c.Timeout.Value == 0 || t.Value < c.Timeout.Value) {
		c.Timeout = t
	}

	if d := c.DefaultAgent; d.From != "" {
		if _, ok := c.Agents[d.Value]; !ok {
			return nil, fmt.Errorf("%s: default_agent names %s, and no agent has that name; %s", d.From, shownID(d.Value), c.knownAgents())
		}
	}
	return c, nil
}

// bothLists joins two lists. A repository may set them: Nix sees the files that
// a user has allowed, whatever these lists say.
func bothLists(user, repo Setting[[]string]) Setting[[]string] {
	if user.From == "" {
		return repo
	}
	return Setting[[]string]{append(slices.Clone(user.Value), repo.Value...), user.From}
}

// shellRules are what decides which files make a dev shell.
func (c *Config) shellRules() shellRules {
	return shellRules{Watch: c.Watch.Value, Ignore: c.Ignore.Value}
}

// firstSet is the first setting that a file made, or else the last.
func firstSet[T any](settings ...Setting[T]) Setting[T] {
	for _, s := range settings {
		if s.From != "" {
			return s
		}
	}
	return settings[len(settings)-1]
}

// AgentCommand is the command of the named agent, or of the default agent when
// name is empty, with prompt put in place of each {prompt}. The prompt is never
// split: it stays inside the argument that named it.
func (c *Config) AgentCommand(name, prompt string) ([]string, error) {
	const how = `put [agent.NAME] command = ["PROGRAM", "{prompt}"] into config.toml, or give a command after --`
	if name = c.agentName(name); name == "" {
		if len(c.Agents) == 0 {
			return nil, errors.New("cannot choose an agent: none is configured; " + how)
		}
		return nil, fmt.Errorf("cannot choose an agent: there is no default; use --agent NAME or set default_agent (%s)", c.knownAgents())
	}
	agent, ok := c.Agents[name]
	switch {
	case !ok && len(c.Agents) == 0:
		return nil, fmt.Errorf("cannot find agent %s: none is configured; %s", shownID(name), how)
	case !ok:
		return nil, fmt.Errorf("cannot find agent %s; %s", shownID(name), c.knownAgents())
	case strings.ContainsRune(prompt, 0):
		return nil, errors.New("cannot pass the prompt on: it has a NUL byte in it")
	}
	command := make([]string, len(agent.Command))
	for i, arg := range agent.Command {
		command[i] = strings.ReplaceAll(arg, promptMark, prompt)
	}
	return command, nil
}

// agentName is the agent that name means, which is the default one when it is
// empty; "" when there is none.
func (c *Config) agentName(name string) string {
	if name == "" {
		return c.DefaultAgent.Value
	}
	return name
}

// borrowedAgent is the default agent if the repository's file chose one of the
// user's that has variables or hosts of its own, else "": whoever commits would
// have them used.
func (c *Config) borrowedAgent() string {
	a := c.Agents[c.DefaultAgent.Value]
	if !c.repoDefault || a.Repo || len(a.Env)+len(a.Allow.Value) == 0 {
		return ""
	}
	return a.Name
}

// knownAgents lists the configured agents for an error.
func (c *Config) knownAgents() string {
	if len(c.Agents) == 0 {
		return "no agent is configured"
	}
	names := make([]string, 0, len(c.Agents))
	for name := range c.Agents {
		names = append(names, name)
	}
	slices.Sort(names)
	return "known: " + someIDs(names)
}

// The keys of the tables. rcc init explains each.
var (
	topKeys     = append([]string{"default_agent", "agent", "defaults", "shell", "hooks"}, layerKeys...)
	agentKeys   = []string{"command", "allow", "env"}
	defaultKeys = []string{"tree", "net", "timeout", "detach", "dirty", "carry", "worktreeinclude", "shell"}
	shellKeys   = []string{"watch", "ignore", "timeout"}
)

// decodeConfig reads one file. In the repository's, what would widen is refused.
func decodeConfig(name string, data []byte, isRepo bool) (*Config, error) {
	d, err := parseConfig(name, data)
	if err != nil {
		return nil, err
	}
	c := &Config{Agents: map[string]Agent{}}
	top := configSection{d, nil, d.root}
	top.known(topKeys...)
	c.User = decodeLayer(top, isRepo)

	c.DefaultAgent = configText(top, "default_agent", `the name of an agent, such as "claude"`, nil)
	if agents, ok := top.table("agent", "[agent.claude]"); ok {
		for agentName := range agents.values {
			if agent, ok := decodeAgent(agents, agentName, isRepo); ok {
				c.Agents[agentName] = agent
			}
		}
	}
	if defaults, ok := top.table("defaults", "[defaults]"); ok {
		defaults.known(defaultKeys...)
		c.Shell = configShell(defaults)
		c.Tree = configText(defaults, "tree", `"auto", "overlay" or "checkout"`, treeKinds)
		c.oldNet(defaults, top)
		c.Timeout = configDuration(defaults, "timeout")
		c.Detach = configTruth(defaults, "detach")
		c.Dirty = configTruth(defaults, "dirty")
		c.Include = configTruth(defaults, "worktreeinclude")
		if isRepo && c.Include.From != "" {
			defaults.problem("worktreeinclude", "worktreeinclude cannot be set by a repository, because it shows a task files that are not in it; set it in your own config.toml")
		}
		c.Carry = configList(defaults, "carry", `a list of patterns, such as ["node_modules", ".env"]`)
		if isRepo && c.Carry.From != "" {
			defaults.problem("carry", "carry cannot be set by a repository, because it shows a task files that are not in it; set it in your own config.toml, or name the files in %s", worktree.IncludeName)
		}
		if isRepo && c.Dirty.From != "" {
			defaults.problem("dirty", "dirty cannot be set by a repository, because it shows a task your uncommitted work; set it in your own config.toml")
		}
	}
	if shell, ok := top.table("shell", `[shell] watch = ["rust-toolchain.toml"]`); ok {
		shell.known(shellKeys...)
		c.Watch = configPaths(shell, "watch")
		c.Ignore = configPaths(shell, "ignore")
		c.ShellTimeout = configDuration(shell, "timeout")
		if isRepo && c.ShellTimeout.From != "" {
			shell.problem("timeout", "timeout of the shell cannot be set by a repository, because it bounds what its own files make Nix do; set it in your own config.toml")
		}
	}
	if hooks, ok := top.table("hooks", "[hooks]"); ok {
		c.Hooks = decodeHooks(hooks, isRepo)
	}
	if d.wrong != "" {
		return nil, fmt.Errorf("%s:%d: %s", d.name, d.wrongLine, d.wrong)
	}
	return c, nil
}

// oldNet reads net where it stood while there was only "none".
func (c *Config) oldNet(defaults, top configSection) {
	if _, ok := defaults.values["net"]; !ok {
		return
	}
	if _, both := top.values["net"]; both || defaults.values["net"] != netNone {
		defaults.problem("net", `net stands at the top of the file, above [defaults]: net = "allow"`)
		return
	}
	c.User.Net = Setting[string]{netNone, defaults.place("net")}
}

// configShell reads a choice as --shell takes it.
func configShell(s configSection) Setting[string] {
	out := configText(s, "shell", shellWanted, nil)
	if out.From == "" {
		return out
	}
	if _, err := parseShell(out.Value); err != nil {
		s.problem("shell", "shell must be %s, not %s", shellWanted, shownID(out.Value))
		return Setting[string]{}
	}
	return out
}

// decodeHooks reads [hooks].
func decodeHooks(s configSection, inside bool) (out []hook) {
	s.known(hookNames...)
	for _, name := range hookNames {
		text := configText(s, name, `a command line, such as "make lint"`, nil)
		switch {
		case text.From == "":
		case strings.ContainsRune(text.Value, 0):
			s.problem(name, "%s has a NUL byte in it; no program can be given one", name)
		case len(text.Value) > maxHook:
			s.problem(name, "%s is over %d KiB; put it into a script of its own", name, maxHook>>10)
		default:
			out = append(out, hook{Name: name, Run: text.Value, From: text.From, Inside: inside})
		}
	}
	return out
}

// decodeAgent reads [agent.NAME].
func decodeAgent(agents configSection, name string, isRepo bool) (Agent, bool) {
	if CheckID(name) != nil {
		agents.problem(name, "%s cannot be an agent's name: letters, digits and . _ - only, %d at most", shownID(name), maxIDLen)
		return Agent{}, false
	}
	s, ok := agents.table(name, "[agent."+name+"]")
	if !ok {
		return Agent{}, false
	}
	s.known(agentKeys...)
	const want = `command must be a list of strings, such as ["claude", "-p", "{prompt}"]`
	list, ok := s.values["command"].([]any)
	if _, set := s.values["command"]; !set {
		agents.problem(name, "[agent.%s] has no command; %s", name, want)
		return Agent{}, false
	}
	if !ok {
		s.problem("command", want)
		return Agent{}, false
	}
	agent := Agent{Name: name, From: s.place("command"), Repo: isRepo, Allow: configRules(s, "allow", wantedAllow), Env: configEnv(s, isRepo)}
	if isRepo {
		s.onlyPublic("allow", agent.Allow.Value)
	}
	for _, v := range list {
		arg, ok := v.(string)
		switch {
		case !ok:
			s.problem("command", want)
			return Agent{}, false
		case strings.ContainsRune(arg, 0):
			s.problem("command", "command has a NUL byte in it; no program can be given one")
			return Agent{}, false
		}
		agent.Command = append(agent.Command, arg)
	}
	switch {
	case len(agent.Command) == 0 || agent.Command[0] == "":
		s.problem("command", "command is empty; name a program, as in [\"claude\", \"-p\", \"{prompt}\"]")
	case strings.Contains(agent.Command[0], promptMark):
		s.problem("command", "command starts with {prompt}; the program itself cannot come from the prompt")
	}
	return agent, true
}
