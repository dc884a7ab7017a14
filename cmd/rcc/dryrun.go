package main

import (
	"fmt"
	"strings"

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
	Timeout    string        `json:"timeout,omitempty"`
	From       []string      `json:"from"` // which file each setting came from
	Plan       *isolate.Plan `json:"plan"`
}

// dryRun prints the plan and makes nothing, not even a folder.
func (st *start) dryRun(env *surroundings, asJSON bool) error {
	s := &session{env: env, rec: st.record, repo: st.repo, task: st.store.task(st.record.ID)}
	kind := st.treeKind()
	mounts, err := st.repo.PlanMounts(s.task.dir, kind, env.dirs.cache(st.repo.Key()))
	if err != nil {
		return err
	}
	plan, err := isolate.NewPlan(isolate.Policy{Net: "none"}, s.job(s.task.path("home"), mounts), isolate.LookHost(env.environ))
	if err != nil {
		return err
	}
	plan.Env = append(plan.Env, s.programEnv()...)
	v := dryView{
		ID: st.record.ID, Repository: st.repo.Path, Base: st.record.Base, Dirty: st.record.Dirty,
		Tree: kind, Command: st.record.Command, Plan: plan,
		From: []string{
			"tree: " + st.config.Tree.Origin(), "net: " + st.config.Net.Origin(), "timeout: " + st.config.Timeout.Origin(),
			"dirty: " + st.config.Dirty.Origin(), "detach: " + st.config.Detach.Origin(), "carry: " + st.config.Carry.Origin(), "worktreeinclude: " + st.config.Include.Origin(), "default_agent: " + st.config.DefaultAgent.Origin(),
		},
	}
	if st.record.Timeout > 0 {
		v.Timeout = st.record.Timeout.String()
	}
	if asJSON {
		return printJSON(env, v)
	}
	return v.print(env)
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
	line("command", "%s", quoted(v.Command))
	if v.Timeout != "" {
		line("timeout", "%s", v.Timeout)
	}
	for _, f := range v.From {
		line("setting", "%s", f)
	}
	p := v.Plan
	line("user", "%d:%d inside, %d:%d on the host", p.UID, p.GID, p.HostUID, p.HostGID)
	line("network", "%s", p.Net)
	line("hostname", "%s", p.Hostname)
	for _, e := range p.Env {
		line("env", "%s", e)
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
		}
		if s.Writable {
			text += " (writable)"
		}
		line(string(s.Type), "%s", text)
	}
	_, err := env.stdout.WriteString(b.String())
	return err
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
