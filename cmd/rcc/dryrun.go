package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rcc/devshell"
	"rcc/isolate"
	"rcc/worktree"
)

// dryView is what --dry-run shows: everything that would decide the task.
type dryView struct {
	ID         string        `json:"id"`
	Repository string        `json:"repository"`
	Base       string        `json:"base"`
	Dirty      bool          `json:"dirty"`
	Tree       string        `json:"tree"`
	Command    []string      `json:"command"`
	Env        []string      `json:"env,omitempty"` // names of the caller's variables that the command is given
	Timeout    string        `json:"timeout,omitempty"`
	Shell      *dryShell     `json:"shell,omitempty"` // null for the host's tools
	From       []string      `json:"from"`            // which file each setting came from
	Hooks      []hook        `json:"hooks,omitempty"`
	Network    dryNetwork    `json:"network"`
	Plan       *isolate.Plan `json:"plan"`
}

// dryShell is the dev shell that a task would have. What is in it is known only
// when it has been evaluated before.
type dryShell struct {
	File    string   `json:"file"`
	Attr    string   `json:"attr,omitempty"`
	Files   []string `json:"files"` // that have to be allowed
	Allowed bool     `json:"allowed"`
	Cached  bool     `json:"cached"`
	Paths   int      `json:"paths,omitempty"`
	HostToo bool     `json:"hostToo,omitempty"`
}

// dryNetwork is what a task may reach.
type dryNetwork struct {
	Net   string    `json:"net"`
	Lines []netLine `json:"lines"` // each with where it stands
	Notes []string  `json:"notes,omitempty"`
}

// dryRun prints the plan and makes nothing, not even a folder. run says that it
// is for rcc run, which has no hooks.
func (st *start) dryRun(ctx context.Context, flags *startFlags, run bool) error {
	env := st.env
	s := &session{env: env, rec: st.record, repo: st.repo, task: st.store.task(st.record.ID)}
	shell, err := st.dryShell(ctx, flags.Shell, s)
	if err != nil {
		return err
	}
	defer s.leaveShell()
	kind := st.treeKind()
	mounts, err := st.repo.PlanMounts(s.task.dir, kind, env.dirs.cache(st.repo.Key()))
	if err != nil {
		return err
	}
	job := s.job(s.task.path("home"), mounts)
	s.dress(&job)
	plan, err := isolate.NewPlan(s.network(), job, isolate.LookHost(env.environ))
	if err != nil {
		return err
	}
	plan.Env = append(plan.Env, s.programEnv()...)
	v := dryView{
		ID: st.record.ID, Repository: st.repo.Path, Base: st.record.Base, Dirty: st.record.Dirty,
		Tree: kind, Command: st.record.Command, Env: st.record.Env, Shell: shell, Plan: plan,
		Network: dryNetwork{st.net.Policy.Net, st.net.Lines, st.net.Notes},
		From: []string{
			"tree: " + st.config.Tree.Origin(), "shell: " + st.config.Shell.Origin(), "timeout: " + st.config.Timeout.Origin(),
			"dirty: " + st.config.Dirty.Origin(), "detach: " + st.config.Detach.Origin(), "carry: " + st.config.Carry.Origin(), "worktreeinclude: " + st.config.Include.Origin(), "default_agent: " + st.config.DefaultAgent.Origin(),
		},
	}
	if !run {
		v.Hooks = st.config.Hooks
	}
	if st.record.Timeout > 0 {
		v.Timeout = st.record.Timeout.String()
	}
	if flags.JSON {
		return printJSON(env, v)
	}
	return v.print(env)
}

// dryShell tells of the dev shell as far as it is known, and puts it on when it
// is in the cache and allowed.
func (st *start) dryShell(ctx context.Context, wish string, s *session) (*dryShell, error) {
	f, found, err := st.findShell(ctx, wish)
	if err != nil || found == nil {
		return nil, err
	}
	src := found.source
	v := &dryShell{File: shellFile(src.Kind, src.Dir), Attr: src.Attr, HostToo: f.choice.host}
	for _, a := range found.content.Files {
		v.Files = append(v.Files, a.Path)
	}
	err = f.allowed(found, false)
	var untrusted *untrustedError
	if errors.As(err, &untrusted) {
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	v.Allowed = true
	sh, err := devshell.OpenCache(st.env.dirs.shellCache()).Cached(ctx, found.nix, found.source)
	if err != nil || sh == nil {
		return v, err
	}
	v.Cached, v.Paths = true, len(sh.Paths)
	s.shell, s.rec.Shell = sh, &shellRecord{Key: sh.Key, Kind: src.Kind, Dir: src.Dir, Attr: src.Attr, Host: f.choice.host}
	return v, nil
}

func (v *dryShell) String() string {
	if v == nil {
		return "the host's tools"
	}
	text := v.File
	if v.Attr != "" {
		text += "#" + v.Attr
	}
	switch {
	case !v.Allowed:
		text += ", not allowed yet (rcc allow): " + strings.Join(v.Files, ", ")
	case !v.Cached:
		text += ", to be evaluated"
	default:
		text += fmt.Sprintf(", evaluated, %s of the store", plural(v.Paths, "path"))
	}
	if v.HostToo {
		text += ", then the host's tools"
	}
	return text
}

func (v dryView) print(env *surroundings) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, Inert(fmt.Sprintf(format, args...)))
	}
	line("task", "%s", v.ID)
	line("repository", "%s", v.Repository)
	line("base", "%s", v.Base)
	line("tree", "%s", v.Tree)
	line("shell", "%s", v.Shell)
	line("command", "%s", quoted(v.Command))
	if v.Timeout != "" {
		line("timeout", "%s", v.Timeout)
	}
	for _, f := range v.From {
		line("setting", "%s", f)
	}
	for _, h := range v.Hooks {
		line("hook", "%s, %s: %s", h, h.where(), h.Run)
	}
	p := v.Plan
	line("user", "%d:%d inside, %d:%d on the host", p.UID, p.GID, p.HostUID, p.HostGID)
	for _, l := range v.Network.Lines {
		line(networkLabel(l.Kind), "%s (%s)", l.Text, l.From)
	}
	for _, n := range v.Network.Notes {
		line("note", "%s", n)
	}
	line("hostname", "%s", p.Hostname)
	for _, e := range p.Env {
		line("env", "%s", e)
	}
	for _, name := range v.Env {
		line("env", "%s as it is here", name)
	}
	for _, s := range p.Steps {
		text := s.Target
		switch s.Type {
		case isolate.StepBind:
			text += " <- " + s.Source
		case isolate.StepOverlay:
			for _, l := range s.Lower {
				text += " <- " + l.Source
			}
			text += " <- " + s.Upper
		case isolate.StepSymlink:
			text += " -> " + s.Content
		case isolate.StepStore:
			text += " <- " + plural(len(s.Names), "path") + " of " + s.Source
		}
		if s.Writable {
			text += " (writable)"
		}
		line(string(s.Type), "%s", text)
	}
	_, err := env.stdout.WriteString(b.String())
	return err
}

// networkLabel is how a kind of netLine is called in a plan, where other things
// are said as well.
func networkLabel(kind string) string {
	if kind == "net" {
		return "network"
	}
	return kind
}

// treeKind is the kind of tree that a task will have, as far as is known.
func (st *start) treeKind() string {
	switch {
	case st.record.Kind != treeAuto:
		return st.record.Kind
	case st.env.dirs.refused() != "":
		return worktree.KindCheckout
	}
	return worktree.KindOverlay
}
