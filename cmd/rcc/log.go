package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

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
	all, err := allEvents(t)
	if err != nil {
		return fmt.Errorf("cannot read the task's events: %w", underlying(err))
	}
	for _, ev := range all {
		if asJSON {
			b, err := json.Marshal(ev)
			if err == nil {
				err = writeJSONText(env, append(b, '\n'))
			}
			if err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintln(env.stdout, ev); err != nil {
			return err
		}
	}
	return nil
}

// String is the event in a line, for a terminal.
func (ev event) String() string {
	line := ev.Time.Local().Format("2006-01-02 15:04:05.000") + " " + ev.Event
	if ev.Text != "" {
		line += " " + Inert(ev.Text)
	}
	if ev.Net != nil {
		line += " " + Inert(ev.Net.text(ev.Event))
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
	return line
}
