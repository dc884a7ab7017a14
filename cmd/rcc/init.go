package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

type initCmd struct {
	User bool `help:"Your own configuration, for all repositories, in place of this repository's."`
}

func (c *initCmd) Help() string {
	return `rcc init [--user]

Writes rcc.toml at the top of the checkout, or config.toml with --user, with every
key explained and none set, and prints its path. A file that is there stays.`
}

func (c *initCmd) Run(env *surroundings) error {
	path, text, mode, err := c.file(env)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write %s: it is there already; edit it", Inert(path))
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", Inert(path), underlying(err))
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", Inert(path), underlying(err)), os.Remove(path))
	}
	if !c.User {
		env.say("commit it: a task has %s as it is in the commit that it starts from", repoConfigName)
	}
	fmt.Fprintln(env.stdout, path)
	return nil
}

// file is what is to be written, and where.
func (c *initCmd) file(env *surroundings) (path, text string, mode os.FileMode, err error) {
	if !c.User {
		_, repo, _, err := atRepository(context.Background(), env)
		if err == nil && repo.Top == "" {
			err = fmt.Errorf("cannot write %s: the repository is bare; change to a checkout", repoConfigName)
		}
		if err != nil {
			return "", "", 0, err
		}
		return filepath.Join(repo.Top, repoConfigName), initRepo, 0o644, nil
	}
	if path, err = UserConfigPath(env.getenv); err != nil {
		return "", "", 0, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", "", 0, fmt.Errorf("cannot write %s: %w", Inert(path), underlying(err))
	}
	return path, initUser, 0o600, nil
}

// In these texts a line that begins with "# " is prose, and one that begins with
// "#" alone is a setting: without the "#" it holds.

const initNet = `# What a task may reach: HOST, *.HOST (any name below it), ADDRESS or CIDR, each
# with :PORT or :PORT-PORT if need be. "@project" stands for what the project needs
# as far as rcc can tell: its remotes, the registries of your tools and, once rcc
# allow has shown them, the hosts that its lock files name besides. rcc task --dry-run
# shows what results, and rcc why what was denied.
`

const initRepo = `# rcc.toml: what rcc does in this repository. A task has it as it is in the commit
# that it starts from. Every key is shown; what is commented out does not hold.

# The way out: "none", "allow" (what the lists allow) or "public" (all that is not
# private). Narrower than the user's own counts at once, wider after rcc allow.
#net = "allow"

` + initNet + `# These are added to the user's own list after rcc allow; an empty list denies
# everything at once. Private addresses cannot be opened here.
#allow = ["@project", "example.org:443", "*.example.org"]

# What a task may never reach, whatever else is allowed. Counts at once.
#deny = ["ads.example.org"]

# Ports of the host's loopback that a task reaches at its own, such as a data base.
# Counts after rcc allow.
#forward = [5432]

# Ports of a task that are shown on the host's loopback: "PORT", "HOSTPORT:PORT", or
# "0:PORT", which picks a free one. Counts after rcc allow.
#publish = ["0:3000"]

# The agent that rcc task runs. The user's own choice comes first; an agent of the
# user's that is given variables or hosts takes rcc allow.
#default_agent = "example"

# Agents: the command, in which {prompt} stands for the prompt, and what it needs to
# reach (after rcc allow).
#[agent.example]
#command = ["example-agent", "--prompt", "{prompt}"]
#allow = ["api.example.org:443"]

# Defaults of the flags of rcc task and rcc run, where the user has none. A shorter
# timeout than the user's counts.
#[defaults]
#tree = "auto"
#timeout = "2h"
#detach = false
#shell = "auto"

# The dev shell: further files that decide what it is, and files that do not though
# its Nix code names them.
#[shell]
#watch = ["rust-toolchain.toml"]
#ignore = ["docs"]

# Command lines around a task, each in a sandbox of its own.
#[hooks]
#before_task = "make deps"
#after_task = "make lint"
#before_merge = "make test"
#after_merge = "make clean"
`

const initUser = `# config.toml: what rcc does for you, in every repository. Every key is shown; what
# is commented out does not hold.

# The way out: "none", "allow" (what the lists allow) or "public" (all that is not
# private).
#net = "allow"

` + initNet + `# Without a list of your own it is ["@project"]; an empty list denies everything.
# An address or CIDR of a private range opens that range.
#allow = ["@project", "example.org:443", "10.1.2.0/24:5432"]

# What a task may never reach, whatever else is allowed.
#deny = ["*.example.org"]

# Ports of the host's loopback that a task reaches at its own, such as a data base.
#forward = [5432]

# Ports of a task that are shown on the host's loopback: "PORT", "HOSTPORT:PORT", or
# "0:PORT", which picks a free one.
#publish = ["0:3000"]

# The agent that rcc task runs without --agent.
#default_agent = "example"

# Agents: the command, in which {prompt} stands for the prompt; what it needs to
# reach; and the variables of yours that it is given, such as its key.
#[agent.example]
#command = ["example-agent", "--prompt", "{prompt}"]
#allow = ["api.example.org:443"]
#env = ["EXAMPLE_API_KEY"]

# Defaults of the flags of rcc task and rcc run, and which ignored files go along:
# carry has patterns as .gitignore has them, and worktreeinclude says whether those
# that a repository's .worktreeinclude names go along too.
#[defaults]
#tree = "auto"
#timeout = "2h"
#detach = false
#dirty = false
#shell = "auto"
#carry = ["node_modules", ".env"]
#worktreeinclude = true

# Dev shells: how long Nix may take, further files that decide what they are, and
# files that do not though their Nix code names them.
#[shell]
#timeout = "1h"
#watch = ["rust-toolchain.toml"]
#ignore = ["docs"]

# Command lines around a task, on the host.
#[hooks]
#before_task = "echo $RCC_TASK begins"
#after_task = "echo $RCC_TASK is over"
#before_merge = "rcc run --base $RCC_TIP -- make test"
#after_merge = "echo $RCC_TASK is merged"
`
