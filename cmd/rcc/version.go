package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// version is set by the linker for a release: -ldflags "-X main.version=1.2.3".
var version = "0.1.0-dev"

type versionCmd struct{}

func (c *versionCmd) Run(env *surroundings) error {
	_, err := fmt.Fprintf(env.stdout, "rcc %s%s %s/%s\n", version, revision(), runtime.GOOS, runtime.GOARCH)
	return err
}

// revision is the commit that the binary was built from, where the build knew.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return " (" + shortID(s.Value) + ")"
		}
	}
	return ""
}

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (c *completionCmd) Run(env *surroundings) error {
	script, err := CompletionScript(c.Shell)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(env.stdout, script)
	return err
}

// completeName is the hidden command that the completion scripts call.
const completeName = "__complete"

// complete prints what may stand at the end of words, a candidate a line.
func complete(env *surroundings, app *kong.Kong, words []string) int {
	for _, w := range Complete(app.Model, words, func() []string { return taskIDs(env) }) {
		fmt.Fprintln(env.stdout, w)
	}
	return 0
}

// taskIDs are the tasks of the repository that rcc was started in, if any.
func taskIDs(env *surroundings) []string {
	_, _, s, err := atRepository(context.Background(), env)
	if err != nil {
		return nil
	}
	all, err := s.tasks()
	if err != nil {
		return nil
	}
	var ids []string
	for _, r := range all {
		if !r.Run {
			ids = append(ids, r.ID)
		}
	}
	return ids
}
