package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

type logCmd struct {
	ID     string `arg:"" help:"Task, or the beginning of its name."`
	Follow bool   `short:"f" help:"Go on until the task ends."`
	Events bool   `help:"What rcc did, instead of what the command printed."`
	JSON   bool   `name:"json" help:"The events, as JSON lines."`
}

func (c *logCmd) Run(env *surroundings) error {
	ctx := context.Background()
	_, _, s, err := atRepository(ctx, env)
	if err != nil {
		return err
	}
	t, rec, err := s.find(c.ID)
	if err != nil {
		return err
	}
	if c.Events || c.JSON {
		if c.Follow {
			return usage("cannot follow events; leave out -f")
		}
		return showEvents(env, t, c.JSON)
	}
	// A terminal obeys what it is sent, and the command may have printed
	// anything: only colours pass. A file gets the bytes as they were.
	out := io.WriteCloser(nopWriteCloser{env.stdout})
	if term.IsTerminal(int(env.stdout.Fd())) {
		out = InertWriter(env.stdout, env.getenv("NO_COLOR") == "")
	}
	if c.Follow && rec.State == stateRunning {
		err = follow(env, t, out)
	} else {
		err = copyKept(out, t.path("output.log"))
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}

type nopWriteCloser struct{ io.Writer }

func (nopWriteCloser) Close() error { return nil }

// follow is a client that gets what was kept, and then all that comes.
func follow(env *surroundings, t task, out io.Writer) error {
	conn, err := dial(t)
	if err != nil {
		return err
	}
	cl := &client{
		env: env, f: &frames{rw: conn}, stdout: out, stderr: out, detachable: true,
		hello: hello{Want: "attach", Replay: true},
	}
	_, err = cl.run()
	if err == errDetached {
		return nil
	}
	return err
}

func showEvents(env *surroundings, t task, asJSON bool) error {
	if asJSON {
		return copyKept(env.stdout, t.path("events.jsonl"))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	failed := make(chan error, 1)
	go func() { failed <- copyKept(w, t.path("events.jsonl")); w.Close() }()
	for sc := bufio.NewScanner(r); sc.Scan(); {
		var ev event
		if json.Unmarshal(sc.Bytes(), &ev) != nil {
			continue // a line that a crash cut off
		}
		line := ev.Time.Local().Format("2006-01-02 15:04:05.000") + " " + ev.Event
		if ev.Text != "" {
			line += " " + Inert(ev.Text)
		}
		if ev.Tip != "" {
			line += " " + shortID(ev.Tip)
		}
		if ev.Exit != nil {
			line += fmt.Sprintf(" (exit %d)", *ev.Exit)
		}
		if ev.Millis > 0 {
			line += fmt.Sprintf(" after %.1f ms", ev.Millis)
		}
		if _, err := fmt.Fprintln(env.stdout, line); err != nil {
			return err
		}
	}
	return <-failed
}
