package worktree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Refs of the quarantine.
const (
	baseRef = "refs/rcc/base"
	tipRef  = "refs/rcc/tip"
)

// makeIncoming makes the quarantine: a bare repository of ours that borrows
// the real one's objects and knows the base.
func (t *Tree) makeIncoming(r *Repo) error {
	dir := t.path(incomingName)
	if err := removeTree(dir, t.path(trashName)); err != nil {
		return err
	}
	shallow, err := r.shallowFile()
	if err != nil {
		return err
	}
	d := gitDir{
		head: "refs/heads/none", config: formatConfig(t.Format) + quarantineConfig, shallow: shallow,
		refs: map[string]string{baseRef: t.Base},
	}
	for _, s := range t.Stores {
		// Their own alternates are in the list already.
		d.alternates = append(d.alternates, s.Source)
	}
	return d.write(dir)
}

// quarantineConfig is all the configuration that receiving works with; the
// user's is not read. From git-config(1):
// fsckObjects checks every object that arrives, and a malformed one fails the fetch;
// unpackLimit=1 always keeps the pack, so that what arrived is one file;
// protocol.* leaves git no other way to reach anything than the descriptors it is given;
// bigFileThreshold streams what is larger instead of holding it in memory.
// No ref of the borrowed stores is offered as known: there may be thousands.
const quarantineConfig = `[core]
	bare = true
	protectHFS = true
	protectNTFS = true
	bigFileThreshold = 64m
	alternateRefsPrefixes = refs/rcc-none/
[fetch]
	fsckObjects = true
	unpackLimit = 1
[transfer]
	fsckObjects = true
[protocol]
	allow = never
[protocol "fd"]
	allow = always
`

// onIncoming makes a call work on the quarantine with its configuration alone.
func (t *Tree) onIncoming(c call) call {
	c.dir = t.path(incomingName)
	c.env = append(c.env, "GIT_DIR="+t.path(incomingName),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_ALLOC_LIMIT=2g", "GIT_NO_REPLACE_OBJECTS=1")
	return c
}

func (t *Tree) incoming(ctx context.Context, r *Repo, in io.Reader, args ...string) ([]byte, error) {
	return r.git.run(ctx, t.onIncoming(call{in: in}), args...)
}

// receive fetches the tip from the harvester as from any hostile server. The
// bytes pass through here and are counted.
func (t *Tree) receive(ctx context.Context, r *Repo, c *connection, tip string, lim Limits) error {
	rd, wr, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot make a pipe: %w", err)
	}
	over := make(chan bool, 1)
	go func() {
		n, _ := io.Copy(wr, io.LimitReader(c.fromWire, lim.Wire))
		wr.Close()
		more := false
		if n == lim.Wire {
			k, _ := c.fromWire.Read(make([]byte, 1))
			more = k > 0
		}
		c.fromWire.Close() // the sender gets SIGPIPE instead of waiting
		over <- more
	}()
	// Descriptors 3 and 4 of git fetch, and of the git-remote-fd(1) it starts.
	args := []string{"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance", "--no-write-commit-graph", "--no-show-forced-updates", "fd::3,4", "+refs/heads/tip:" + tipRef}
	_, err = r.git.run(ctx, t.onIncoming(call{files: []*os.File{rd, c.toWire}, apart: true}), args...)
	rd.Close()
	c.toWire.Close()
	c.fromWire.SetReadDeadline(past)
	tooMuch := <-over
	ended := c.end()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("cannot receive the result in time: %w", ctx.Err())
	case tooMuch:
		return refuse("it is larger than %d MiB on the wire", lim.Wire>>20)
	case err != nil && ended != nil:
		return fmt.Errorf("cannot receive the result: %w", errors.Join(ended, err))
	case err != nil:
		return refuse("%s", refusalOf(err))
	}
	got, err := t.incoming(ctx, r, nil, "rev-parse", "--verify", "--quiet", tipRef)
	if err != nil {
		return fmt.Errorf("cannot read what was received: %w", err)
	}
	if strings.TrimSpace(string(got)) != tip {
		return refuse("it is not the commit that was announced")
	}
	return nil
}

// refusalOf is the line in which git says what is wrong with an object.
func refusalOf(err error) string {
	text := stderrOf(err)
	for line := range strings.SplitSeq(text, "\n") {
		if _, why, ok := strings.Cut(line, "fsck error in packed object"); ok {
			return "a malformed object" + inert(why)
		}
		if i := strings.Index(line, "error: object "); i >= 0 { // "error: object <id>: <check>: <text>"
			return "a malformed object: " + inert(line[i+len("error: object "):])
		}
	}
	return lastLine(text)
}

// emptyIncoming throws away what was received.
func (t *Tree) emptyIncoming() error {
	return removeTree(t.path(incomingName), t.path(trashName))
}
