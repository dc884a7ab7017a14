package main

import (
	"bytes"
	"io"
	"strconv"
	"strings"
)

// patchColours colours a patch by what each line is. git could do that, but
// then its colour sequences and those that stand in the files would be the same
// bytes: a line could be made invisible. Here the patch is inert before the
// first colour comes in.
type patchColours struct {
	w        io.Writer
	line     []byte
	old, new int // lines that the hunk still has
}

// Colours as git has them by default (color.diff.<slot> in git-config(1)).
const (
	sgrHead    = "\x1b[1m"
	sgrHunk    = "\x1b[36m"
	sgrRemoved = "\x1b[31m"
	sgrAdded   = "\x1b[32m"
	sgrPlain   = "\x1b[m"
)

func (c *patchColours) Write(p []byte) (int, error) {
	c.line = append(c.line, p...)
	var out bytes.Buffer
	for {
		i := bytes.IndexByte(c.line, '\n')
		if i < 0 {
			break
		}
		c.colour(&out, string(c.line[:i]))
		out.WriteByte('\n')
		c.line = c.line[i+1:]
	}
	if _, err := c.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close writes what has no line end.
func (c *patchColours) Close() error {
	var out bytes.Buffer
	if len(c.line) > 0 {
		c.colour(&out, string(c.line))
	}
	_, err := c.w.Write(out.Bytes())
	return err
}

func (c *patchColours) colour(out *bytes.Buffer, line string) {
	sgr := ""
	switch {
	case c.old+c.new == 0 && strings.HasPrefix(line, "@@ "):
		c.old, c.new = hunkSize(line)
		sgr = sgrHunk
	case c.old+c.new == 0:
		sgr = sgrHead
	case strings.HasPrefix(line, "+"):
		c.new, sgr = max(c.new-1, 0), sgrAdded
	case strings.HasPrefix(line, "-"):
		c.old, sgr = max(c.old-1, 0), sgrRemoved
	case strings.HasPrefix(line, " "):
		c.old, c.new = max(c.old-1, 0), max(c.new-1, 0)
	}
	if sgr == "" || line == "" {
		out.WriteString(line)
		return
	}
	out.WriteString(sgr + line + sgrPlain)
}

// hunkSize reads "@@ -1,4 +1,5 @@": how many lines follow of each side.
func hunkSize(line string) (before, after int) {
	f := strings.Fields(line)
	if len(f) < 3 {
		return 0, 0
	}
	count := func(r string) int {
		_, n, ok := strings.Cut(r, ",")
		if !ok {
			return 1
		}
		v, err := strconv.Atoi(n)
		if err != nil || v < 0 {
			return 0
		}
		return v
	}
	return count(f[1]), count(f[2])
}
