package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rcc/worktree"
)

type demoCmd struct {
	Keep bool `help:"Leave the scratch repository and print its path."`
}

// demoFiles are a project with a test that fails: shell only, so that it works
// on a machine with git and nothing else.
var demoFiles = map[string]string{
	"sum.sh":  "# sum A B prints A + B.\nsum() {\n\techo $(($1 - $2))\n}\n",
	"test.sh": "#!/bin/sh\n. ./sum.sh\ngot=$(sum 2 3)\nif [ \"$got\" = 5 ]; then echo ok; else echo \"FAIL: sum 2 3 = $got, want 5\"; exit 1; fi\n",
	"README":  "A scratch repository of rcc demo.\n",
}

// demoAgent stands in for a coding agent: it runs the test, reads its output,
// edits the file, runs the test again and commits. It also tries what an agent
// should not be able to do, and says what came of it.
const demoAgent = `echo "agent: asked to: $RCC_PROMPT"
sh test.sh && exit 0
echo "agent: the sum subtracts; editing sum.sh"
sed -i 's/\$1 - \$2/$1 + $2/' sum.sh
sh test.sh || exit 1
git commit -qam "sum: add instead of subtracting" && echo "agent: committed"
ls -d ~root/.ssh /home/*/.ssh 2>/dev/null || echo "agent: there is no .ssh to see here"
`

func (c *demoCmd) Run(env *surroundings) error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "rcc-demo-")
	if err != nil {
		return fmt.Errorf("cannot make a scratch folder: %w", err)
	}
	d := &demo{env: env, dir: dir, repo: filepath.Join(dir, "project")}
	err = d.run(ctx)
	if c.Keep {
		fmt.Fprintln(env.stdout, d.repo)
		return err
	}
	return errors.Join(err, worktree.RemoveAll(dir))
}

type demo struct {
	env  *surroundings
	dir  string // scratch: the repository, and rcc's own folders
	repo string
}

// run does what a newcomer would type, through the same code, with folders of
// its own for rcc's state.
func (d *demo) run(ctx context.Context) error {
	git, err := worktree.NewGit(d.environ())
	if err != nil {
		return err
	}
	if err := git.Scratch(ctx, d.repo, demoFiles, "A project with a failing test"); err != nil {
		return err
	}
	d.title("a repository with a failing test, in " + d.repo)
	before, err := checksum(d.repo)
	if err != nil {
		return err
	}
	d.title("an agent is asked to fix it")
	if err := d.rcc("task", "fix the test", "--name", "fix-the-test", "--", "sh", "-c", demoAgent); err != nil {
		return err
	}
	after, err := checksum(d.repo)
	if err != nil {
		return err
	}
	if before != after {
		return errors.New("the checkout changed before the merge; please report this as a bug")
	}
	d.title("the checkout is what it was, byte for byte: " + before[:16])
	if err := d.rcc("list"); err != nil {
		return err
	}
	if err := d.rcc("diff", "fix-the-test"); err != nil {
		return err
	}
	if err := d.rcc("merge", "fix-the-test"); err != nil {
		return err
	}
	fixed, err := os.ReadFile(filepath.Join(d.repo, "sum.sh"))
	if err != nil {
		return err
	}
	if !strings.Contains(string(fixed), "$1 + $2") {
		return errors.New("the merge did not bring the fix; please report this as a bug")
	}
	after, err = checksum(d.repo)
	if err != nil {
		return err
	}
	d.title("only the merge changed it: " + after[:16])
	return nil
}

func (d *demo) environ() []string {
	var out []string
	for _, e := range d.env.environ {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "XDG_") {
			out = append(out, e)
		}
	}
	return append(out, "XDG_STATE_HOME="+filepath.Join(d.dir, "state"), "XDG_CACHE_HOME="+filepath.Join(d.dir, "cache"),
		"XDG_CONFIG_HOME="+filepath.Join(d.dir, "config"), "GIT_PAGER=cat")
}

func (d *demo) title(text string) { fmt.Fprintf(d.env.stdout, "\n== %s\n", text) }

// rcc runs a command line and shows it. The task sees no terminal: the demo is
// to be read, not typed into.
func (d *demo) rcc(args ...string) error {
	shown := args
	if i := len(args) - 1; args[i] == demoAgent {
		shown = append(append([]string{}, args[:i]...), "…")
	}
	fmt.Fprintf(d.env.stdout, "\n$ rcc %s\n", quoted(shown))
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	env := *d.env
	env.dir, env.environ, env.stdin = d.repo, d.environ(), null
	if status := run(&env, args); status != 0 {
		return fmt.Errorf("the demo stops here: rcc %s ended with status %d", args[0], status)
	}
	return nil
}
