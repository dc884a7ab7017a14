package worktree

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// ignoreAsker asks one git-check-ignore(1) process which paths are ignored. It
// answers each path as it comes; the process starts with the first question.
type ignoreAsker struct {
	h    *harvester
	ctx  context.Context
	to   *os.File
	from *os.File
	r    *bufio.Reader
	wait func() error
}

func (q *ignoreAsker) start() error {
	inR, inW, err := os.Pipe()
	if err != nil {
		return err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		inR.Close()
		inW.Close()
		return err
	}
	// --no-index: what is tracked is known here already, and the paths asked
	// about are not.
	c := q.h.onH(call{in: inR, out: outW})
	q.wait, err = q.h.git.start(q.ctx, &c, "check-ignore", "-z", "--stdin", "--verbose", "--non-matching", "--no-index")
	inR.Close()
	outW.Close()
	if err != nil {
		inW.Close()
		outR.Close()
		return err
	}
	q.to, q.from, q.r = inW, outR, bufio.NewReaderSize(outR, 1<<16)
	return nil
}

// ask returns for each path whether it is ignored.
func (q *ignoreAsker) ask(paths []string) ([]bool, error) {
	if err := q.h.pipes.check(); err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, nil
	}
	if q.to == nil {
		if err := q.start(); err != nil {
			return nil, fmt.Errorf("cannot ask git what is ignored: %w", err)
		}
	}
	written := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(q.to, 1<<16)
		for _, p := range paths {
			// check-ignore takes pathspecs; "./" keeps a leading ":" from being
			// read as magic (gitglossary(7), "pathspec").
			w.WriteString("./" + p)
			w.WriteByte(0)
		}
		written <- w.Flush()
	}()
	answers := make([]bool, len(paths))
	for i, p := range paths {
		ignored, err := q.answer(p)
		if err != nil {
			q.from.Close() // the writer must not wait for a reader that has given up
			return nil, errors.Join(fmt.Errorf("cannot ask git what is ignored: %w", err), q.end())
		}
		answers[i] = ignored
	}
	return answers, <-written
}

// answer reads one record: source, line number, pattern, path; the first three
// are empty when nothing matches. A pattern that begins with "!" takes the path
// out again.
func (q *ignoreAsker) answer(p string) (bool, error) {
	var f [4]string
	for i := range f {
		s, err := q.r.ReadString(0)
		if err != nil {
			return false, err
		}
		f[i] = s[:len(s)-1]
	}
	if f[3] != "./"+p {
		return false, fmt.Errorf("git check-ignore answered for %s instead of %s", quotePath(f[3]), quotePath(p))
	}
	return f[2] != "" && !strings.HasPrefix(f[2], "!"), nil
}

// end ends the process and returns its error; status 1 means that no path was
// ignored.
func (q *ignoreAsker) end() error {
	if q.to == nil {
		return nil
	}
	q.to.Close()
	q.from.Close()
	q.to = nil
	if err := q.wait(); status(err) != 1 {
		return err
	}
	return nil
}

func (q *ignoreAsker) close() { _ = q.end() }
