package worktree

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// objectReader asks one git cat-file --batch for objects.
type objectReader struct {
	to   *os.File
	from *os.File
	r    *bufio.Reader
	wait func() error
}

func openObjects(ctx context.Context, g *Git, c call) (*objectReader, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		closeAll([]*os.File{inR, inW})
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	c.in, c.out = inR, outW
	wait, err := g.start(ctx, &c, "cat-file", "--batch")
	closeAll([]*os.File{inR, outW})
	if err != nil {
		closeAll([]*os.File{inW, outR})
		return nil, err
	}
	return &objectReader{to: inW, from: outR, r: bufio.NewReaderSize(outR, 1<<16), wait: wait}, nil
}

// maxTree bounds one tree object. The largest folders that people have hold some
// hundred thousand files.
const maxTree = 64 << 20

// read returns the content of an object, given by id or, for the tree of a
// commit, as id^{tree}.
func (o *objectReader) read(name, want string) ([]byte, error) {
	data, _, err := o.get(name, want)
	return data, err
}

// root is the id of a commit's tree.
func (o *objectReader) root(commit string) (string, error) {
	_, id, err := o.get(commit+"^{tree}", "tree")
	return id, err
}

func (o *objectReader) get(name, want string) ([]byte, string, error) {
	if _, err := o.to.WriteString(name + "\n"); err != nil {
		return nil, "", fmt.Errorf("cannot read objects: %w", err)
	}
	head, err := o.r.ReadString('\n')
	if err != nil {
		return nil, "", fmt.Errorf("cannot read objects: %w", err)
	}
	f := strings.Fields(head)
	if len(f) != 3 || f[1] != want {
		return nil, "", refuse("it lacks the %s %s", want, short(name))
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || size > maxTree {
		return nil, "", refuse("it has a %s larger than %d MiB", want, maxTree>>20)
	}
	data := make([]byte, size+1)
	if _, err := io.ReadFull(o.r, data); err != nil {
		return nil, "", fmt.Errorf("cannot read objects: %w", err)
	}
	if data[size] != '\n' {
		return nil, "", errors.New("cannot read objects: git cat-file broke off")
	}
	return data[:size], f[0], nil
}

func (o *objectReader) close() {
	o.to.Close()
	o.from.Close()
	_ = o.wait() // it ends by SIGPIPE or end of file, as it comes
}
