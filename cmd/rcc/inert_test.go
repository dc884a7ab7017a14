package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestInert(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"fix the tests", "fix the tests"},
		{"größer — 日本語 🙂 é", "größer — 日本語 🙂 é"},
		{`C:\new\x1b`, `C:\new\x1b`},
		{"a\nb\r\n\tc", `a\nb\r\n\tc`},
		{"\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"\x1b]0;title\a", `\x1b]0;title\x07`},
		{"\x00\x7f", `\x00\x7f`},
		{"\u009b31m", `\u{9b}31m`},
		{"\x9b31m", `\x9b31m`},
		{"user\u202etxt.exe", `user\u{202e}txt.exe`},
		{"pay\u200bpal", `pay\u{200b}pal`},
		{"a\u2028b", `a\u{2028}b`},
		{"\ufeffx", `\u{feff}x`},
		{"\U000e0041", `\u{e0041}`},
		{"\xff\xc3", `\xff\xc3`},
		{"\xed\xa0\x80", `\xed\xa0\x80`},
		{"\ufffd", "\ufffd"},
	} {
		if got := Inert(tt.in); got != tt.want {
			t.Errorf("Inert(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// The table is searched by halves, so it must be in order.
func TestHiddenRangesInOrder(t *testing.T) {
	last := rune(0x7f)
	for _, h := range hiddenRanges {
		if h.first <= last || h.last < h.first {
			t.Errorf("range %x-%x does not follow %x", h.first, h.last, last)
		}
		if h.reason == "" {
			t.Errorf("range %x-%x has no reason", h.first, h.last)
		}
		last = h.last
	}
}

// Whatever Unicode calls a control, a format or a bidirectional character is
// in the table, with two exceptions that have a use and a glyph.
func TestHiddenCoversFormatCharacters(t *testing.T) {
	visible := map[rune]string{
		0x0600: "arabic number signs", 0x0601: "", 0x0602: "", 0x0603: "", 0x0604: "", 0x0605: "",
		0x06dd: "arabic end of ayah", 0x070f: "syriac abbreviation mark", 0x0890: "arabic pound mark", 0x0891: "", 0x08e2: "arabic disputed end of ayah",
		0x110bd: "kaithi number sign", 0x110cd: "kaithi number sign above",
	}
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			continue
		}
		if r >= 0x13430 && r <= 0x1343f {
			continue // egyptian hieroglyph joiners: drawn by what they join
		}
		if _, ok := visible[r]; ok {
			continue
		}
		if !isHidden(r) {
			t.Errorf("U+%04X is not hidden", r)
		}
	}
}

func TestInertWriter(t *testing.T) {
	for _, tt := range []struct {
		in, plain, sgr string
	}{
		{"a\tb\n", "a\tb\n", ""},
		{"a\r\n", `a\r` + "\n", ""},
		{"50%\r100%", `50%\r100%`, ""},
		{"\x1b[1;31mred\x1b[0m", `\x1b[1;31mred\x1b[0m`, "\x1b[1;31mred\x1b[0m"},
		{"\x1b[mx", `\x1b[mx`, "\x1b[mx"},
		{"\x1b[31mred", `\x1b[31mred`, "\x1b[31mred" + sgrReset},
		{"\x1b[2J", `\x1b[2J`, ""},
		{"\x1b[?25l", `\x1b[?25l`, ""},
		{"\x1b[38:2:1m", `\x1b[38:2:1m`, ""},
		{"\x1b]52;c;aGk=\a", `\x1b]52;c;aGk=\x07`, ""},
		{"\x1b\x1b[31m", `\x1b\x1b[31m`, `\x1b` + "\x1b[31m" + sgrReset},
		{"\x1bP$q\x1b\\", `\x1bP$q\x1b\`, ""},
		{"\x1b", `\x1b`, ""},
		{"\x1b[3", `\x1b[3`, ""},
		{"\u009b31m", `\u{9b}31m`, ""},
		{"é\xe2\x82", `é\xe2\x82`, ""},
		{"a\u202eb", `a\u{202e}b`, ""},
		{"\x1b[" + strings.Repeat("1;", 40) + "m", `\x1b[` + strings.Repeat("1;", 40) + "m", ""},
	} {
		if tt.sgr == "" {
			tt.sgr = tt.plain
		}
		for _, keep := range []bool{false, true} {
			want := tt.plain
			if keep {
				want = tt.sgr
			}
			if got := inertInPieces(t, tt.in, len(tt.in)+1, keep); got != want {
				t.Errorf("%q, keepSGR %v: %q, want %q", tt.in, keep, got, want)
			}
			if got := inertInPieces(t, tt.in, 1, keep); got != want {
				t.Errorf("%q byte by byte, keepSGR %v: %q, want %q", tt.in, keep, got, want)
			}
		}
	}
}

func TestInertWriterError(t *testing.T) {
	w := InertWriter(brokenWriter{}, false)
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("the error of the writer below is lost")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken") }

func inertInPieces(t testing.TB, in string, size int, keepSGR bool) string {
	t.Helper()
	var buf bytes.Buffer
	w := InertWriter(&buf, keepSGR)
	for rest := in; rest != ""; {
		n := min(size, len(rest))
		if m, err := w.Write([]byte(rest[:n])); m != n || err != nil {
			t.Fatalf("Write = %d, %v, want %d", m, err, n)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func FuzzInert(f *testing.F) {
	for _, s := range []string{
		"", "plain", "\x1b[31mx\x1b[0m", "a\r\n\tb", "\u202e\u200b\ufeff", "\xff\xe2\x82", "\x1b]0;t\a", "\u009b", "\x1b[1;2;",
	} {
		f.Add(s, uint8(1))
	}
	f.Fuzz(func(t *testing.T, s string, size uint8) {
		line := Inert(s)
		checkInertText(t, line, "")
		if again := Inert(line); again != line {
			t.Errorf("not stable: %q, then %q", line, again)
		}
		plain := inertInPieces(t, s, int(size)+1, false)
		checkInertText(t, plain, "\n\t")
		if whole := inertInPieces(t, s, len(s)+1, false); whole != plain {
			t.Errorf("pieces of %d change the result: %q, whole %q", size, plain, whole)
		}
		coloured := inertInPieces(t, s, int(size)+1, true)
		for i := strings.IndexByte(coloured, 0x1b); i >= 0; i = strings.IndexByte(coloured, 0x1b) {
			n, _ := scanSGR(coloured[i:])
			if n == 0 {
				t.Fatalf("a sequence other than a colour passed: %q", coloured[i:])
			}
			coloured = coloured[:i] + coloured[i+n:]
		}
		checkInertText(t, coloured, "\n\t")
	})
}

func checkInertText(t *testing.T, s, except string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("invalid UTF-8 passed: %q", s)
	}
	for _, r := range s {
		if isHidden(r) && !strings.ContainsRune(except, r) {
			t.Errorf("%U passed: %q", r, s)
		}
	}
}
