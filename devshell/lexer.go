package devshell

import "strings"

// The rules of Nix's lexer for what has slashes in it, or hides them.

func isPathChar(c byte) bool { return isAlnum(c) || strings.IndexByte("._-+", c) >= 0 }

// run is the number of such characters at the beginning of a text.
func run(text string, is func(byte) bool) (i int) {
	for i < len(text) && is(text[i]) {
		i++
	}
	return i
}

// pathLen is the length of the path at the beginning of a text (PATH and HPATH
// in lexer.l), and whether it goes on with ${…}. A slash is part of it only if
// one of its characters or ${ follows, or if it is the last.
func pathLen(text string) (length int, goesOn bool) {
	i, slashes := 0, 0
	if strings.HasPrefix(text, "~/") {
		i++
	}
	for i < len(text) {
		switch {
		case isPathChar(text[i]):
			i++
			continue
		case text[i] == '/' && i+1 < len(text) && isPathChar(text[i+1]):
			slashes++
			i += 2
			continue
		case strings.HasPrefix(text[i:], "/${"):
			return i + 1, true
		}
		break
	}
	if slashes == 0 {
		return 0, false
	}
	if strings.HasPrefix(text[i:], "/") {
		return i + 1, false
	}
	return i, strings.HasPrefix(text[i:], "${")
}

// identLen is that of an identifier (ID in lexer.l), or 0.
func identLen(text string) (i int) {
	for ; i < len(text); i++ {
		c := text[i]
		inside := '0' <= c && c <= '9' || c == '\'' || c == '-'
		if i == 0 && inside || !inside && !isAlnum(c) && c != '_' {
			break
		}
	}
	return i
}

// numberLen is that of digits, or 0.
func numberLen(text string) int {
	return len(text) - len(strings.TrimLeft(text, "0123456789"))
}

// uriLen is that of a URI without quotes, which old files have, or 0.
func uriLen(text string) int {
	scheme := run(text, isSchemeChar)
	if scheme == 0 || !isAlnum(text[0]) || numberLen(text) > 0 || !isURI(text[scheme:]) {
		return 0
	}
	return scheme + 1 + run(text[scheme+1:], isURIChar)
}

// isURI says whether a text goes on as a URI does after its scheme.
func isURI(text string) bool { return len(text) > 1 && text[0] == ':' && isURIChar(text[1]) }

func isSchemeChar(c byte) bool { return isAlnum(c) || strings.IndexByte("+-.", c) >= 0 }

func isURIChar(c byte) bool { return isAlnum(c) || strings.IndexByte("%/?:@&=+$,-_.!~*'", c) >= 0 }

// searchPathLen is that of <nixpkgs> or <nixpkgs/lib>, or 0.
func searchPathLen(text string) int {
	for i := 1; strings.HasPrefix(text, "<") && i < len(text); i++ {
		switch {
		case isPathChar(text[i]), text[i] == '/' && isPathChar(text[i-1]):
		case text[i] == '>' && isPathChar(text[i-1]):
			return i + 1
		default:
			return 0
		}
	}
	return 0
}
