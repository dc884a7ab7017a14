package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"

	"rcc/worktree"
)

type listCmd struct {
	All  bool `help:"Tasks of all repositories."`
	JSON bool `name:"json" help:"Print an array of objects."`
}

// taskView is a task as rcc shows it in JSON. Its field names are stable.
type taskView struct {
	ID         string     `json:"id"`
	State      string     `json:"state"`
	Branch     string     `json:"branch"`
	Base       string     `json:"base"`
	Start      string     `json:"start"`
	Tip        string     `json:"tip"`
	Prompt     string     `json:"prompt"`
	Command    []string   `json:"command"`
	Created    time.Time  `json:"created"`
	Finished   *time.Time `json:"finished"`
	Exit       *int       `json:"exit"`
	Files      int        `json:"files"`
	Added      int        `json:"added"`
	Removed    int        `json:"removed"`
	Phase      string     `json:"phase,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Notes      []string   `json:"notes,omitempty"`
	Repository string     `json:"repository"`
	Dirty      bool       `json:"dirty"`
	MergedTo   string     `json:"mergedTo,omitempty"`
	// Tree is the kind of tree, "" before there is one; Layers are the folders
	// that an overlay stands on, the uppermost first.
	Tree   string   `json:"tree"`
	Shell  string   `json:"shell"` // the file of its dev shell, with #NAME; or "host"
	Layers []string `json:"layers,omitempty"`
	// Net is the way out: "none", "allow" or "public".
	Net   string `json:"net"`
	Ports []port `json:"ports,omitempty"` // of the sandbox that this machine's loopback has, while it runs
}

func viewOf(r *Record) taskView {
	v := taskView{
		ID: r.ID, State: r.State, Branch: r.Branch, Base: r.Base, Start: r.Start, Tip: r.Tip, Prompt: r.Prompt,
		Command: r.Command, Created: r.Created, Exit: r.Exit, Files: r.Files, Added: r.Added, Removed: r.Removed,
		Phase: r.Phase, Reason: r.Reason, Notes: r.Notes, Repository: r.Repository, Dirty: r.Dirty, MergedTo: r.MergedTo,
	}
	if r.Tree != nil {
		if v.Tree, v.Layers = r.Tree.Kind, r.Tree.Lower; v.Tree == "" {
			v.Tree = worktree.KindCheckout
		}
	}
	if v.Command == nil {
		v.Command = []string{}
	}
	v.Shell = r.Shell.String()
	v.Net = r.net()
	if r.State == stateRunning {
		v.Ports = r.Ports
	}
	if !r.Finished.IsZero() {
		v.Finished = &r.Finished
	}
	return v
}

func printJSON(env *surroundings, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	return writeJSONText(env, b.Bytes())
}

// writeJSONText writes JSON. A terminal would obey some of the characters that
// JSON leaves as they are.
func writeJSONText(env *surroundings, text []byte) error {
	if term.IsTerminal(int(env.stdout.Fd())) {
		text = escapeHidden(text)
	}
	_, err := env.stdout.Write(text)
	return err
}

// escapeHidden puts JSON's own escapes in the place of what Inert would show:
// the value stays the same. What makes the text's lines is left.
func escapeHidden(text []byte) []byte {
	var out []byte
	for _, r := range string(text) {
		switch {
		case r == '\n' || !isHidden(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

func (c *listCmd) Run(env *surroundings) error {
	ctx := context.Background()
	stores, err := listedStores(ctx, env, c.All)
	if err != nil {
		return err
	}
	views := []taskView{}
	for _, s := range stores {
		all, err := s.tasks()
		if err != nil {
			return err
		}
		for _, r := range all {
			if !r.Run {
				views = append(views, viewOf(r))
			}
		}
	}
	if c.JSON {
		return printJSON(env, views)
	}
	if len(views) == 0 {
		env.say("no tasks; start one with: rcc task \"fix tests\" -- COMMAND")
		return nil
	}
	return printTasks(env, views, c.All)
}

func listedStores(ctx context.Context, env *surroundings, all bool) ([]store, error) {
	if all {
		return env.dirs.stores()
	}
	_, _, s, err := atRepository(ctx, env)
	var none *worktree.NotRepositoryError
	if errors.As(err, &none) {
		return nil, fmt.Errorf("%w; rcc list --all shows the tasks of every repository", err)
	}
	return []store{s}, err
}

func printTasks(env *surroundings, views []taskView, all bool) error {
	w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	head := []string{"TASK", "STATE", "EXIT", "CHANGES", "AGE", "PROMPT"}
	if all {
		head = append(head, "REPOSITORY")
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, v := range views {
		what := "-"
		if v.Tip != "" {
			what = fmt.Sprintf("%df +%d -%d", v.Files, v.Added, v.Removed)
		}
		exit := "-"
		if v.Exit != nil {
			exit = fmt.Sprint(*v.Exit)
		}
		row := []string{v.ID, v.State, exit, what, age(v.Created), Inert(firstLine(v.Prompt, 50))}
		if all {
			row = append(row, Inert(v.Repository))
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

func age(t time.Time) string {
	switch d := time.Since(t); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// atRepository finds the repository that rcc was started in, and its tasks.
// gitHere is git for the repository of the current folder. It is not started in
// a task's own folder, which an agent wrote, with a git directory of its own.
func gitHere(env *surroundings) (*worktree.Git, error) {
	if inTask(env.dirs.State, env.dir) {
		return nil, fmt.Errorf("cannot work in %s: it is a task's own folder, which its agent wrote; rcc open makes a worktree of the result", Inert(env.dir))
	}
	return worktree.NewGit(env.environ)
}

// inTask tells whether a folder is a task's in the state folder, and not a
// worktree of rcc open. By whatever name: links are followed.
func inTask(state, dir string) bool {
	below := func(state, dir string) bool {
		rel, err := filepath.Rel(state, dir)
		parts := strings.Split(rel, "/")
		return err == nil && parts[0] != ".." && (len(parts) < 3 || parts[1] != openedName)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		real = dir
	}
	realState, err := filepath.EvalSymlinks(state)
	if err != nil {
		realState = state
	}
	return below(state, dir) || below(realState, real)
}

func atRepository(ctx context.Context, env *surroundings) (*worktree.Git, *worktree.Repo, store, error) {
	git, err := gitHere(env)
	if err != nil {
		return nil, nil, store{}, err
	}
	repo, err := git.Open(ctx, env.dir)
	if err != nil {
		return nil, nil, store{}, err
	}
	return git, repo, env.dirs.store(repo.Key()), nil
}
