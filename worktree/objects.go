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

// objectReader asks one git cat-file --batch-command (2.36, git-cat-file(1))
// for objects: whole ones one by one, and sizes by the thousand.
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
	// --buffer: it answers when it is told to flush, not line by line.
	wait, err := g.start(ctx, &c, "cat-file", "--batch-command", "--buffer")
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

// read returns the content of an object.
func (o *objectReader) read(id, want string) ([]byte, error) {
	data, _, err := o.get(id, want)
	return data, err
}

// root is the id of a commit's tree.
func (o *objectReader) root(commit string) (string, error) {
	_, id, err := o.get(commit+"^{tree}", "tree")
	return id, err
}

func (o *objectReader) get(name, want string) ([]byte, string, error) {
	if _, err := o.to.WriteString("contents " + name + "\nflush\n"); err != nil {
		return nil, "", fmt.Errorf("cannot read objects: %w", err)
	}
	id, size, err := o.head(name, want)
	if err != nil {
		return nil, "", err
	}
	if size > maxTree {
		return nil, "", refuse("it has a %s larger than %d MiB", want, maxTree>>20)
	}
	data := make([]byte, size+1)
	if _, err := io.ReadFull(o.r, data); err != nil {
		return nil, "", fmt.Errorf("cannot read objects: %w", err)
	}
	if data[size] != '\n' {
		return nil, "", errors.New("cannot read objects: git cat-file broke off")
	}
	return data[:size], id, nil
}

// head reads the line "id type size" of one object.
func (o *objectReader) head(name, want string) (string, int64, error) {
	line, err := o.r.ReadString('\n')
	if err != nil {
		return "", 0, fmt.Errorf("cannot read objects: %w", err)
	}
	f := strings.Fields(line)
	if len(f) != 3 || f[1] != want {
		return "", 0, &RefusedError{Reason: fmt.Sprintf("it lacks the %s %s", want, short(name)), missing: true}
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || size < 0 {
		return "", 0, errors.New("cannot read objects: git cat-file gave no size")
	}
	return f[0], size, nil
}

// sizes calls each with the size of every object of the list, which must all
// be there and of the type want. git reads all questions of a batch before it
// answers, so neither side waits for the other.
func (o *objectReader) sizes(ids []string, want string, each func(int64) error) error {
	const batch = 4096
	for len(ids) > 0 {
		part := ids[:min(batch, len(ids))]
		ids = ids[len(part):]
		var ask strings.Builder
		for _, id := range part {
			ask.WriteString("info " + id + "\n")
		}
		ask.WriteString("flush\n")
		if _, err := o.to.WriteString(ask.String()); err != nil {
			return fmt.Errorf("cannot read objects: %w", err)
		}
		for _, id := range part {
			_, size, err := o.head(id, want)
			if err != nil {
				return err
			}
			if err := each(size); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *objectReader) close() {
	o.to.Close()
	o.from.Close()
	_ = o.wait() // it ends by SIGPIPE or end of file, as it comes
}
