package main

import (
	"context"
	"fmt"
	"io"
)

type attachCmd struct {
	ID string `arg:"" help:"Task, or the beginning of its name."`
}

func (c *attachCmd) Run(env *surroundings) error {
	t, rec, err := runningTask(env, c.ID)
	if err != nil {
		return err
	}
	conn, err := dial(t)
	if err != nil {
		return err
	}
	size := terminalSize(env)
	cl := &client{
		env: env, f: &frames{rw: conn}, stdout: env.stdout, stderr: env.stderr, detachable: true, signal: signalTo(t, ""),
		hello: hello{Want: "attach"},
	}
	switch {
	case rec.Terminal && size != nil:
		env.say("%s: Control-] leaves it running", rec.ID)
		cl.hello.Terminal, cl.hello.Input, cl.hello.Size = true, true, size
	case !rec.Terminal:
		cl.hello.Replay = true // there is no screen to show instead
	}
	return afterTask(env, t, cl, false)
}

func runningTask(env *surroundings, id string) (task, *Record, error) {
	_, _, s, err := atRepository(context.Background(), env)
	if err != nil {
		return task{}, nil, err
	}
	t, rec, err := s.find(id)
	if err != nil {
		return task{}, nil, err
	}
	if rec.State != stateRunning {
		return task{}, nil, fmt.Errorf("cannot reach %s: it does not run, it is %s; rcc log %s shows its output", rec.ID, rec.State, rec.ID)
	}
	return t, rec, nil
}

type stopCmd struct {
	ID string `arg:"" help:"Task, or the beginning of its name."`
}

func (c *stopCmd) Run(env *surroundings) error {
	t, _, err := runningTask(env, c.ID)
	if err != nil {
		return err
	}
	conn, err := dial(t)
	if err != nil {
		return err
	}
	cl := &client{env: env, f: &frames{rw: conn}, stdout: io.Discard, stderr: io.Discard, detachable: true, hello: hello{Want: "stop"}}
	o, err := cl.run()
	if err == errDetached {
		return nil
	}
	if err != nil {
		return err
	}
	rec, err := t.load()
	if err != nil {
		return err
	}
	if o.Error != "" {
		return fmt.Errorf("%s has ended, but: %s", rec.ID, Inert(o.Error))
	}
	env.say("%s has ended", rec.ID)
	summarize(env, rec)
	return nil
}
