package main

import (
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text that an agent wrote (prompts, file names, messages, output) reaches a
// person's terminal only through this file. What follows is shown in a form
// that the terminal does not act on and that the eye cannot miss; everything
// else, a literal backslash included, is unchanged:
//
//	newline, CR, tab       \n \r \t
//	other control bytes    \x1b
//	invisible characters   \u{202e}
//	invalid UTF-8          \xff
//
// The notation is for reading, not for decoding: text that spells `\n` itself
// looks the same as a newline.

// A hiddenRange is a span of characters that are never shown as they are,
// because a reader would see something other than what the bytes say.
type hiddenRange struct {
	first, last rune
	reason      string
}

// hiddenRanges is in ascending order; isHidden relies on it.
var hiddenRanges = [...]hiddenRange{
	{0x0080, 0x009f, "C1 controls: a terminal may take U+009B for ESC ["},
	{0x00ad, 0x00ad, "soft hyphen: shown only at a line's end"},
	{0x034f, 0x034f, "combining grapheme joiner: no glyph"},
	{0x061c, 0x061c, "arabic letter mark: changes direction, no glyph"},
	{0x115f, 0x1160, "hangul fillers: letters without a glyph, valid in identifiers"},
	{0x17b4, 0x17b5, "khmer inherent vowels: no glyph"},
	{0x180b, 0x180f, "mongolian selectors and vowel separator: no glyph"},
	{0x200b, 0x200d, "zero-width space, non-joiner and joiner"},
	{0x200e, 0x200f, "left-to-right and right-to-left marks"},
	{0x2028, 0x2029, "line and paragraph separators: a new line to some programs, none to others"},
	{0x202a, 0x202e, "bidirectional embeddings and overrides: text is read in another order (CVE-2021-42574)"},
	{0x2060, 0x2064, "word joiner and invisible operators"},
	{0x2066, 0x2069, "bidirectional isolates (CVE-2021-42574)"},
	{0x206a, 0x206f, "deprecated format controls"},
	{0x2800, 0x2800, "braille blank: looks like a space and is none"},
	{0x3164, 0x3164, "hangul filler: a letter without a glyph, valid in identifiers"},
	{0xfe00, 0xfe0d, "variation selectors without a use in plain text: they carry hidden bytes"},
	{0xfeff, 0xfeff, "zero-width no-break space, byte order mark"},
	{0xffa0, 0xffa0, "halfwidth hangul filler: a letter without a glyph"},
	{0xfff9, 0xfffb, "interlinear annotation: hides the annotated text"},
	{0x1bca0, 0x1bca3, "shorthand format controls"},
	{0x1d173, 0x1d17a, "musical format controls"},
	{0xe0000, 0xe007f, "tags: whole sentences without a glyph"},
	{0xe0100, 0xe01ef, "variation selectors supplement: they carry hidden bytes"},
}

// shortNames are the control bytes with a familiar short form.
var shortNames = map[rune]string{
	'\n': `\n`,
	'\r': `\r`,
	'\t': `\t`,
}

// isHidden reports whether r, from a valid encoding, must not be shown as it is.
func isHidden(r rune) bool {
	if r < 0x80 {
		return r < 0x20 || r == 0x7f
	}
	lo, hi := 0, len(hiddenRanges)
	for lo < hi {
		mid := (lo + hi) / 2
		switch {
		case r < hiddenRanges[mid].first:
			hi = mid
		case r > hiddenRanges[mid].last:
			lo = mid + 1
		default:
			return true
		}
	}
	return false
}

// Inert gives s as one line of text that does nothing to a terminal.
func Inert(s string) string {
	i := 0
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if isHidden(r) || (r == utf8.RuneError && size == 1) {
			break
		}
		i += size
	}
	if i == len(s) {
		return s
	}
	out := make([]byte, 0, len(s)+16)
	out = append(out, s[:i]...)
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		out = appendInert(out, s[i:i+size], r)
		i += size
	}
	return string(out)
}

// appendInert appends one character, decoded as r from raw.
func appendInert(out []byte, raw string, r rune) []byte {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		return appendHexByte(out, raw[0])
	case !isHidden(r):
		return append(out, raw...)
	case shortNames[r] != "":
		return append(out, shortNames[r]...)
	case r < 0x80:
		return appendHexByte(out, byte(r))
	default:
		out = append(out, `\u{`...)
		out = strconv.AppendInt(out, int64(r), 16)
		return append(out, '}')
	}
}

func appendHexByte(out []byte, b byte) []byte {
	const digits = "0123456789abcdef"
	return append(out, '\\', 'x', digits[b>>4], digits[b&15])
}

// InertWriter gives a writer that passes text on to w with everything shown
// inert but newlines and tabs. A carriage return is shown as \r wherever it
// stands, at the end of a line too.
//
// With keepSGR the colour and weight sequences ESC [ digits ; … m pass, and
// nothing else that starts with ESC. Colours can hide text (black on black):
// keepSGR is for output that was asked for as output, never for a review.
//
// Characters and sequences may be split over writes. Close shows what was left
// incomplete and takes back colours that are still on; it does not close w.
func InertWriter(w io.Writer, keepSGR bool) io.WriteCloser {
	return &inertWriter{w: w, keepSGR: keepSGR}
}

type inertWriter struct {
	w       io.Writer
	keepSGR bool
	pending []byte // an incomplete character or sequence, shorter than maxSGR
	out     []byte // reused between writes
	colours bool   // an SGR other than a reset passed last
}

// maxSGR is the longest colour sequence that passes, in bytes. The longest in
// use (two 24-bit colours and a few attributes) has about 45.
const maxSGR = 64

const sgrReset = "\x1b[0m"

func (w *inertWriter) Write(p []byte) (int, error) {
	in := string(p)
	if len(w.pending) > 0 {
		in = string(w.pending) + in
		w.pending = w.pending[:0]
	}
	w.out = w.out[:0]
	for in != "" {
		n := w.one(in, false)
		if n == 0 {
			w.pending = append(w.pending, in...)
			break
		}
		in = in[n:]
	}
	return len(p), w.flush()
}

// Close shows what is incomplete. The writer below stays open.
func (w *inertWriter) Close() error {
	in := string(w.pending)
	w.pending, w.out = w.pending[:0], w.out[:0]
	for in != "" {
		in = in[w.one(in, true):]
	}
	if w.colours {
		w.out = append(w.out, sgrReset...)
		w.colours = false
	}
	return w.flush()
}

func (w *inertWriter) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.w.Write(w.out)
	return err
}

// one takes one character or colour sequence from the start of in and says how
// many bytes that were: 0 when the rest of it may still come.
func (w *inertWriter) one(in string, last bool) int {
	switch c := in[0]; {
	case c == '\n' || c == '\t':
		w.out = append(w.out, c)
		return 1
	case c == 0x1b && w.keepSGR:
		n, complete := scanSGR(in)
		if !complete && !last {
			return 0
		}
		if n > 0 {
			w.out = append(w.out, in[:n]...)
			w.colours = !isSGRReset(in[:n])
			return n
		}
	case c >= 0x80 && !last && !utf8.FullRuneInString(in):
		return 0
	}
	r, size := utf8.DecodeRuneInString(in)
	w.out = appendInert(w.out, in[:size], r)
	return size
}

// scanSGR reads ESC [ digits ; … m at the start of in. It gives the length, 0
// when something else stands there, and false when in ends before that is known.
func scanSGR(in string) (n int, complete bool) {
	for i := 1; i < len(in); i++ {
		switch c := in[i]; {
		case i >= maxSGR:
			return 0, true
		case i == 1:
			if c != '[' {
				return 0, true
			}
		case c == 'm':
			return i + 1, true
		case (c < '0' || c > '9') && c != ';':
			return 0, true
		}
	}
	return 0, false
}

// isSGRReset reports whether the sequence ends with everything switched off.
func isSGRReset(seq string) bool {
	params := seq[len("\x1b[") : len(seq)-1]
	return strings.Trim(params, "0;") == ""
}
