package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A question is asked of a tool that alone knows its own default. The answer
// is remembered for as long as nothing that decides it has changed.
type question struct {
	args      []string // the program's name first
	files     []string // absolute paths that decide the answer
	beside    []string // the same, relative to the program's real folder
	variables []string // the same, of the caller's environment
	set       []string // variables for the program
}

const (
	askTime   = 5 * time.Second // a tool that takes longer is not waited for
	maxAnswer = 64 << 10        // bytes
)

// ask gives the lines of the answer to read, and takes what that finds; a tool
// that is not installed names nothing.
func (t *toolPlaces) ask(ctx context.Context, q question, read func(lines []string, found *placeSet)) {
	program, real := t.program(q.args[0])
	if program == "" {
		return
	}
	key := fmt.Sprintf("ask %q %s", q.args, stamp(real))
	for _, path := range q.files {
		key += stamp(path)
	}
	for _, path := range q.beside {
		key += stamp(filepath.Join(filepath.Dir(real), path))
	}
	for _, name := range q.variables {
		key += fmt.Sprintf(" %s=%q", name, t.env.getenv(name))
	}
	memo := rememberPlaces(t.env.dirs.known(), key, func() (placesMemo, bool) {
		out, err := q.run(ctx, program, t.env.environ)
		if err != nil {
			text := fmt.Sprintf("cannot ask %s: %s", strings.Join(q.args, " "), oneLine(err))
			return placesMemo{Failed: []netLine{{"ignored", text, projectMark}}}, false
		}
		var found placeSet
		read(strings.Split(strings.TrimRight(out, "\r\n"), "\n"), &found)
		return placesMemo{Places: found.list}, true
	})
	set := &t.found
	if t.decidedHere(q) {
		set = &t.committed
	}
	for _, p := range memo.Places {
		set.addPlace(p)
	}
	t.failed = append(t.failed, memo.Failed...)
}

// decidedHere tells whether a file of the checkout may have a say in the answer.
func (t *toolPlaces) decidedHere(q question) bool {
	paths := slices.Clone(q.files)
	for _, name := range q.variables {
		paths = append(paths, t.env.getenv(name))
	}
	return slices.ContainsFunc(paths, t.inCheckout)
}

// program finds a program on PATH, in absolute folders outside of the checkout,
// and gives its path without links as well: what is planted in a checkout is not
// run.
func (t *toolPlaces) program(name string) (path, real string) {
	environ := &surroundings{environ: pathOutside(t.env.environ, t.top)}
	for dir := range strings.SplitSeq(environ.getenv("PATH"), ":") {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, name)
		real, err := filepath.EvalSymlinks(path)
		if err != nil || t.inCheckout(real) {
			continue
		}
		if fi, err := os.Stat(real); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return path, real
		}
	}
	return "", ""
}

// stamp tells a file from one that has changed since.
func stamp(path string) string {
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Sprintf(" %q none", path)
	}
	return fmt.Sprintf(" %q %d %d", path, fi.Size(), fi.ModTime().UnixNano())
}

// run starts the program in the root folder, where no project has a say.
func (q question) run(ctx context.Context, program string, environ []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, q.args[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(append([]string{}, environ...), q.set...)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{&out, maxAnswer}, &limited{&problem, maxAnswer}
	// All that it starts ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", fmt.Errorf("it did not answer within %v", askTime)
	}
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(problem.String()), "\n")
		return "", fmt.Errorf("%w: %s", err, first)
	}
	return out.String(), nil
}

// limited writes the first bytes and takes the rest.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
