package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rcc/devshell"
	"rcc/isolate"
	"rcc/worktree"
)

type doctorCmd struct {
	JSON bool `name:"json" help:"Print an array of objects."`
}

// finding is one thing that rcc needs, and whether it is there.
type finding struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Needed is false for what only makes rcc better.
	Needed bool   `json:"needed"`
	Detail string `json:"detail,omitempty"`
	// Mend is a command, or a sentence, that puts it right.
	Mend string `json:"mend,omitempty"`
	// Cache is what the cache folder holds.
	Cache []cacheView `json:"cache,omitempty"`
}

func (c *doctorCmd) Run(env *surroundings) error {
	findings := []finding{checkGit(env), checkState(env)}
	for _, p := range isolate.Probe() {
		findings = append(findings, finding{Name: p.Name, OK: p.OK, Needed: true, Detail: p.Detail, Mend: p.Mend})
	}
	findings = append(findings, checkSandbox(env))
	findings = append(findings, checkNetwork(env)...)
	findings = append(findings, checkTrees(env), checkCache(env), checkNix(env), checkAgent(env))
	broken := false
	for _, f := range findings {
		broken = broken || f.Needed && !f.OK
	}
	if c.JSON {
		if err := printJSON(env, findings); err != nil {
			return err
		}
	} else {
		printFindings(env, findings)
	}
	if broken {
		return &statusError{status: exitFailed}
	}
	return nil
}

func printFindings(env *surroundings, findings []finding) {
	for _, f := range findings {
		mark := "ok     "
		switch {
		case !f.OK && f.Needed:
			mark = "MISSING"
		case !f.OK:
			mark = "note   "
		}
		fmt.Fprintf(env.stdout, "%s  %-18s %s\n", mark, f.Name, Inert(f.Detail))
		if f.Mend != "" && !f.OK {
			fmt.Fprintf(env.stdout, "         %-18s mend: %s\n", "", Inert(f.Mend))
		}
	}
}

func checkGit(env *surroundings) finding {
	f := finding{Name: "git", Needed: true}
	git, err := worktree.NewGit(env.environ)
	if err == nil {
		f.Detail, err = git.Version(context.Background())
	}
	if err != nil {
		f.Detail, f.Mend = oneLine(err), "install git 2.38 or newer"
		return f
	}
	f.OK = true
	return f
}

// checkState tries to write where tasks are kept.
func checkState(env *surroundings) finding {
	f := finding{Name: "state folder", Needed: true, Detail: env.dirs.State}
	err := os.MkdirAll(env.dirs.State, 0o700)
	if err == nil {
		probe := filepath.Join(env.dirs.State, ".probe")
		err = errors.Join(os.WriteFile(probe, nil, 0o600), os.Remove(probe))
	}
	if err != nil {
		f.Detail = fmt.Sprintf("%s: %v", env.dirs.State, underlying(err))
		f.Mend = "make it writable, or set XDG_STATE_HOME to a folder that is"
		return f
	}
	f.OK = true
	return f
}

// checkSandbox does the whole thing: it is the one check that nothing else can
// stand in for.
func checkSandbox(env *surroundings) finding {
	f := finding{Name: "sandbox", Needed: true}
	if _, err := trySandbox(env, isolate.NetNone); err != nil {
		f.Detail = oneLine(err)
		f.Mend = isolate.Mend(err)
		return f
	}
	f.OK, f.Detail = true, "a program ran in it"
	return f
}

// checkNetwork makes one with a way out, which nobody is asked to open anything for.
func checkNetwork(env *surroundings) []finding {
	f := finding{Name: "network", Needed: true}
	degraded, err := trySandbox(env, isolate.NetAllow)
	if err != nil {
		f.Detail = oneLine(err)
		if f.Mend = isolate.Mend(err); f.Mend == "" {
			f.Mend = "--net none does without"
		}
		return []finding{f}
	}
	f.OK, f.Detail = true, "the way out is guarded"
	return []finding{f, gateFinding(degraded)}
}

// gateFinding tells what the kernel's Landlock lacks to hold the gate, the process
// that reads what a task asks for. seccomp holds it, too, so a task has its way out
// all the same.
func gateFinding(degraded []string) finding {
	f := finding{Name: "gate", OK: len(degraded) == 0, Detail: "held by seccomp and Landlock"}
	if !f.OK {
		f.Detail = "held by seccomp; " + strings.Join(degraded, "; ")
	}
	return f
}

// trySandbox runs a program in a sandbox, and tells what that lacks.
func trySandbox(env *surroundings, net string) (degraded []string, err error) {
	rec := &Record{ID: "doctor"}
	if err := taskUser(rec, "doctor"); err != nil {
		return nil, err
	}
	job := isolate.Job{Dir: "/", UID: rec.UID, GID: rec.GID, HostUID: rec.HostUID, HostGID: rec.HostGID, User: userName(env)}
	plan, err := isolate.NewPlan(isolate.Policy{Net: net}, job, isolate.LookHost(env.environ))
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	sb, err := isolate.Start(ctx, plan)
	if err != nil {
		return nil, err
	}
	defer sb.Close()
	return sb.Degraded(), runQuietly(ctx, sb, []string{"/bin/sh", "-c", "exit 0"})
}

// checkTrees tries what kind of tree tasks get, and forgets what was remembered
// of it when an overlay can be had by now.
func checkTrees(env *surroundings) finding {
	f := finding{Name: "trees"}
	rec := &Record{ID: "doctor"}
	err := taskUser(rec, "doctor")
	if err == nil {
		err = tryOverlay(context.Background(), env, rec, env.dirs.Cache, env.dirs.State)
	}
	if err != nil {
		f.Detail = "checkouts, which cost the size of the repository: " + oneLine(err)
		f.Mend = "use Linux 5.11 or newer (root: 5.19), and a file system with extended attributes for " + env.dirs.State + ", such as ext4, xfs or btrfs"
		return f
	}
	f.OK, f.Detail = true, "overlays"
	env.dirs.forgetRefusal()
	return f
}

func checkCache(env *surroundings) finding {
	f := finding{Name: "cache", Detail: env.dirs.Cache}
	var err error
	if f.Cache, err = cacheViews(env.dirs); err != nil {
		f.Detail, f.Mend = oneLine(err), "make it readable, or set XDG_CACHE_HOME to another folder"
		return f
	}
	var bytes int64
	bases := 0
	for _, c := range f.Cache {
		if bytes += c.Bytes; c.Kind == "base" {
			bases++
		}
	}
	f.OK = true
	f.Detail += fmt.Sprintf(": %d bases of trees, %s; rcc gc removes what no task uses", bases, sizeText(bytes))
	return f
}

// checkNix tells what Nix adds.
func checkNix(env *surroundings) finding {
	f := finding{Name: "nix", Mend: "install Nix, for example: apt install nix-bin"}
	nix, err := devshell.Find(env.environ)
	if errors.Is(err, devshell.ErrAbsent) {
		f.Detail = "not on PATH: tasks have the host's tools; with Nix, a task in a repository with a flake.nix or shell.nix has that dev shell, and nothing else of the machine"
		return f
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cache := devshell.OpenCache(env.dirs.shellCache())
	var version string
	if err == nil {
		version, err = cache.Version(ctx, nix)
	}
	var entries []devshell.Entry
	if err == nil {
		entries, err = cache.Entries()
	}
	if err != nil {
		f.Detail, f.Mend = oneLine(err), "put that right, or use --shell host"
		return f
	}
	f.OK, f.Detail, f.Mend = true, fmt.Sprintf("%s; %s in the cache", version, plural(len(entries), "dev shell")), ""
	return f
}

func checkAgent(env *surroundings) finding {
	f := finding{Name: "agent", Mend: "name one in " + filepath.Join(env.dirs.Config, "config.toml") + `: default_agent = "NAME" and [agent.NAME] command = ["PROGRAM", "{prompt}"]`}
	path, err := UserConfigPath(env.getenv)
	if err != nil {
		f.Detail = oneLine(err)
		return f
	}
	b, err := ReadUserConfig(path)
	var c *Config
	if err == nil {
		c, err = LoadConfig(path, b, "rcc.toml", nil)
	}
	if err != nil {
		f.Detail, f.Needed, f.Mend = oneLine(err), true, "put that line right"
		return f
	}
	command, err := c.AgentCommand("", "")
	if err != nil {
		f.Detail = "none is configured; rcc task PROMPT -- COMMAND works without"
		return f
	}
	f.OK, f.Detail, f.Mend = true, strings.TrimSpace(quoted(command)), ""
	return f
}
