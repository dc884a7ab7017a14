package devshell

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What Nix and its builders say, and the names of files and folders, are
// somebody else's text. In messages and in the log file what a terminal would
// act on, and what the eye would not see, is written out:
//
//	control bytes, and such that are no UTF-8   \x1b
//	C1 controls, invisible characters, bidi     \u{202e}

// hidden says whether a character is written out: controls, format characters
// (which have those that turn the direction), separators of lines, and what has
// no glyph. The last are Unicode's default ignorable code points, among them
// the hangul fillers, and the braille blank. An emoji's own selectors stay.
func hidden(r rune) bool {
	if r < 0x7f {
		return r < ' '
	}
	if r < 0xa0 {
		return true
	}
	if r == 0xfe0e || r == 0xfe0f {
		return false
	}
	return r == 0x2800 || r == 0x17b4 || r == 0x17b5 ||
		unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// visible is text in one line with what is hidden written out. A tab and a
// newline are hidden too.
func visible(text string) string {
	var out strings.Builder
	for text != "" {
		r, size := utf8.DecodeRuneInString(text)
		out.WriteString(glyph(text[:size], r))
		text = text[size:]
	}
	return out.String()
}

// glyph is one character, or byte that is none, as it is shown.
func glyph(char string, r rune) string {
	switch {
	case r == utf8.RuneError && len(char) == 1, len(char) == 1 && hidden(r):
		return fmt.Sprintf(`\x%02x`, char[0])
	case hidden(r):
		return fmt.Sprintf(`\u{%04x}`, r)
	}
	return char
}
