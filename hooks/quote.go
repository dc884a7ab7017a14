package hooks

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// quoter writes a string of any bytes but NUL as one word of a shell.
func quoter(shell string) (func(string) string, error) {
	switch shell {
	case "bash", "zsh":
		return quotePosix, nil
	case "fish":
		return quoteFish, nil
	}
	return nil, fmt.Errorf("cannot make code for the shell %q; there is bash, zsh and fish", shell)
}

// isSafe tells a character that no shell takes for anything else, anywhere in a word.
func isSafe(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-./:,@%+", c) >= 0
}

func allSafe(s string) bool {
	for i := range len(s) {
		if !isSafe(s[i]) {
			return false
		}
	}
	return s != ""
}

// quotePosix is for bash and zsh: $'…' (QUOTING in bash(1), zshmisc(1)), ASCII
// only. Other bytes are octal, so that no locale's idea of a character (a second
// byte that is a backslash, in some) comes between.
func quotePosix(s string) string {
	if allSafe(s) {
		return s
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c >= 0x7f || c == '!': // ! is history to an interactive zsh and bash
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// quoteFish: valid UTF-8 as it is, between single quotes; other bytes as \XHH,
// which is a byte in whatever locale ("Quotes" and "Escaping Characters" in fish-language(1)).
func quoteFish(s string) string {
	if allSafe(s) {
		return s
	}
	var b strings.Builder
	quoted := false
	quote := func(on bool) {
		if on != quoted {
			b.WriteByte('\'')
			quoted = on
		}
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch c := s[i]; {
		case r == utf8.RuneError && n == 1, c < ' ', c == 0x7f, r >= 0xe000 && r <= 0xf8ff: // the last: fish's own use
			quote(false)
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, `\X%02X`, c)
			}
		case c == '\'' || c == '\\':
			quote(true)
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			quote(true)
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	quote(false)
	if s == "" {
		return "''"
	}
	return b.String()
}
