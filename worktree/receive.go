package worktree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
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
	if err := RemoveAll(dir); err != nil {
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
// fsckObjects is for whoever fetches here: every object that arrives is checked
// (receive says so itself);
// protocol.* leaves git no way to reach anything;
// bigFileThreshold streams what is larger instead of holding it in memory.
// fsync=none: what lies here is received again after a crash of the machine; it is
// forced to the disk when it goes into the repository, as the user's settings say.
// No ref of the borrowed stores is offered as known: there may be thousands.
const quarantineConfig = `[core]
	bare = true
	protectHFS = true
	protectNTFS = true
	bigFileThreshold = 64m
	fsync = none
	alternateRefsPrefixes = refs/rcc-none/
[fetch]
	fsckObjects = true
[transfer]
	fsckObjects = true
[protocol]
	allow = never
`

// onIncoming makes a call work on the quarantine with its configuration alone.
func (t *Tree) onIncoming(c call) call {
	c.dir = t.path(incomingName)
	c.env = append(c.env, "GIT_DIR="+t.path(incomingName),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_ALLOC_LIMIT=2g")
	return c
}

// receive takes the pack that the harvester sends, as from any hostile server.
// The bytes pass through here and are counted. index-pack gets what git fetch
// would give it (fetch-pack.c, get_pack, with fetch.fsckObjects): --strict
// checks every object, and that all it names are there.
func (t *Tree) receive(ctx context.Context, r *Repo, c *connection, tip string, lim Limits) error {
	rd, wr, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot make a pipe: %w", err)
	}
	over := make(chan bool, 1)
	go func() {
		n, _ := io.Copy(wr, io.LimitReader(c.fromWire, lim.Wire))
		more := false
		if n == lim.Wire {
			k, _ := c.fromWire.Read(make([]byte, 1))
			more = k > 0
		}
		wr.Close()
		c.fromWire.Close() // the sender gets SIGPIPE instead of waiting
		over <- more
	}()
	limit := strconv.FormatInt(lim.Wire, 10)
	_, err = r.git.run(ctx, t.onIncoming(call{in: rd, apart: true}), "index-pack", "--stdin", "--strict", "--max-input-size="+limit)
	rd.Close()
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
	return nil
}

// setReceived notes what was received and checked; received reads it. The
// quarantine is ours alone, so its ref is a plain file.
func (t *Tree) setReceived(tip string) error {
	err := os.MkdirAll(filepath.Dir(filepath.Join(t.path(incomingName), tipRef)), 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(t.path(incomingName), tipRef), []byte(tip+"\n"), 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot note what was received: %w", err)
	}
	return nil
}

func (t *Tree) received() (string, error) {
	data, err := os.ReadFile(filepath.Join(t.path(incomingName), tipRef))
	return strings.TrimSpace(string(data)), err
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
