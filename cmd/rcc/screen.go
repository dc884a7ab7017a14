package main

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hinshun/vt10x"

	"rcc/isolate"
)

// screen follows what a program shows on its terminal, so that a client that
// attaches later sees the same. It reads hostile bytes: an emulator that
// cannot cope with them is dropped, and the client sees an empty screen until
// the program draws again.
type screen struct {
	term  vt10x.Terminal
	limit csiLimit
	rest  []byte // the beginning of a character whose end is yet to come
}

// The largest screen that is followed; a terminal may be larger, and a program
// may ask for one that is.
const (
	maxRows = 500
	maxCols = 1000
)

func newScreen(size isolate.Size) *screen {
	return &screen{term: vt10x.New(vt10x.WithSize(min(max(int(size.Cols), 1), maxCols), min(max(int(size.Rows), 1), maxRows)))}
}

func (s *screen) Write(p []byte) (n int, err error) {
	if s.term == nil {
		return len(p), nil
	}
	defer s.guard()
	b := s.limit.filter(s.rest, p)
	whole := len(b) - cutRune(b)
	s.rest = bytes.Clone(b[whole:])
	s.term.Write(b[:whole])
	return len(p), nil
}

// cutRune is how many bytes at the end of b begin a character and do not end it.
func cutRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// csiLimit shortens the numbers in control sequences (ESC [ …; ECMA-48, 5.4)
// before the emulator counts up to them: three digits are more lines and columns
// than a screen has, private modes have four. Longer sequences are cut off.
type csiLimit struct {
	state  int // 0: text, 1: after ESC, 2: in a sequence
	length int
	digits int // of the present number
	most   int // digits that pass
}

const longestCSI = 64

func (l *csiLimit) filter(out, p []byte) []byte {
	for _, c := range p {
		if l.pass(c) {
			out = append(out, c)
		}
	}
	return out
}

func (l *csiLimit) pass(c byte) bool {
	switch {
	case c == 0x1b:
		l.state = 1
		return true
	case l.state == 1 && c == '[':
		*l = csiLimit{state: 2, most: 3}
		return true
	case l.state != 2:
		l.state = 0
		return true
	case c >= 0x40 && c <= 0x7e: // the final byte
		l.state = 0
		return true
	}
	l.length++
	switch {
	case l.length > longestCSI:
		return false
	case c == '?' || c == '>' || c == '<' || c == '=':
		l.most = 4
	case c >= '0' && c <= '9':
		l.digits++
		return l.digits <= l.most
	default:
		l.digits = 0
	}
	return true
}

func (s *screen) resize(size isolate.Size) {
	if s.term == nil || size.Cols == 0 || size.Rows == 0 {
		return
	}
	defer s.guard()
	s.term.Resize(min(int(size.Cols), maxCols), min(int(size.Rows), maxRows))
}

func (s *screen) guard() {
	if recover() != nil {
		s.term = nil
	}
}

// Bits of a glyph's mode in vt10x, which does not export them.
const (
	glyphReverse = 1 << iota
	glyphUnderline
	glyphBold
	_
	glyphItalic
	glyphBlink
)

// render gives the bytes that bring a terminal to show this screen.
func (s *screen) render() (out []byte) {
	if s.term == nil {
		return nil
	}
	defer func() {
		if recover() != nil {
			s.term, out = nil, nil
		}
	}()
	s.term.Lock()
	defer s.term.Unlock()
	cols, rows := s.term.Size()
	var b strings.Builder
	if s.term.Mode()&vt10x.ModeAltScreen != 0 {
		b.WriteString("\x1b[?1049h")
	}
	b.WriteString("\x1b[0m\x1b[H\x1b[2J")
	last := vt10x.Glyph{FG: vt10x.DefaultFG, BG: vt10x.DefaultBG}
	for y := range rows {
		width := lastInk(s.term, y, cols)
		if width == 0 {
			continue
		}
		fmt.Fprintf(&b, "\x1b[%d;1H", y+1)
		for x := range width {
			g := s.term.Cell(x, y)
			if g.Mode != last.Mode || g.FG != last.FG || g.BG != last.BG {
				b.WriteString(rendition(g))
				last = g
			}
			if g.Char < ' ' || g.Char == 0x7f {
				g.Char = ' '
			}
			b.WriteRune(g.Char)
		}
	}
	c := s.term.Cursor()
	fmt.Fprintf(&b, "\x1b[0m\x1b[%d;%dH", c.Y+1, c.X+1)
	if !s.term.CursorVisible() {
		b.WriteString("\x1b[?25l")
	}
	return []byte(b.String())
}

// lastInk is how many cells of a line must be drawn.
func lastInk(t vt10x.Terminal, y, cols int) int {
	for x := cols - 1; x >= 0; x-- {
		g := t.Cell(x, y)
		if g.Char != ' ' && g.Char != 0 || g.BG != vt10x.DefaultBG || g.Mode&(glyphReverse|glyphUnderline) != 0 {
			return x + 1
		}
	}
	return 0
}

// rendition is the SGR sequence for a cell (ECMA-48, 8.3.117).
func rendition(g vt10x.Glyph) string {
	p := []string{"0"}
	for _, m := range []struct {
		bit int16
		sgr string
	}{{glyphBold, "1"}, {glyphItalic, "3"}, {glyphUnderline, "4"}, {glyphBlink, "5"}} {
		if g.Mode&m.bit != 0 {
			p = append(p, m.sgr)
		}
	}
	// vt10x swaps the colours of a reversed cell when it is drawn.
	p = append(p, colour(g.FG, 30), colour(g.BG, 40))
	return "\x1b[" + strings.Join(p, ";") + "m"
}

func colour(c vt10x.Color, base int) string {
	switch {
	case c >= vt10x.DefaultFG:
		if (c == vt10x.DefaultBG) != (base == 40) { // reversed defaults
			return fmt.Sprint(map[int]int{30: 30, 40: 47}[base])
		}
		return fmt.Sprint(base + 9)
	case c < 8:
		return fmt.Sprint(base + int(c))
	case c < 16:
		return fmt.Sprint(base + 52 + int(c))
	case c < 256:
		return fmt.Sprintf("%d;5;%d", base+8, c)
	}
	return fmt.Sprintf("%d;2;%d;%d;%d", base+8, c>>16&0xff, c>>8&0xff, c&0xff)
}
