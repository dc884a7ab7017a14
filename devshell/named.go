package devshell

import (
	"path"
	"slices"
	"strings"
)

// Named lists the paths in the tree that a nix file at path names by relative
// path literals, such as ./x, ../y and a/b ("Literals" in the Nix language
// manual). A literal that goes on with ${…} counts as far as the last slash
// before it. Folders that hold the nix file itself are left out: ./. is usually
// the source of a package, and not what a dev shell depends on; whoever wants
// them puts them on the watch list. So are paths outside of the tree. Sorted.
//
// Comments and strings are skipped. Where they cannot be told apart, since the
// file does not end as a nix file does, everything that looks like ./x or ../y
// is taken.
func Named(file string, content []byte) []string {
	s := &scanner{text: string(content)}
	if !s.scan() {
		s.found = rawLiterals(s.text)
	}
	dir := path.Dir(path.Clean("/" + file))
	var out []string
	for _, literal := range s.found {
		// Joined by hand: path.Clean would let ../../x of a top-level file stay in the tree.
		name, ok := resolve(dir, literal)
		if !ok || name == "" || (dir+"/") == "/"+name+"/" || strings.HasPrefix(dir+"/", "/"+name+"/") {
			continue
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// resolve is a relative literal as a path in the tree, without the first slash.
func resolve(dir, literal string) (string, bool) {
	var parts []string
	for part := range strings.SplitSeq(dir+"/"+literal, "/") {
		switch part {
		case "", ".":
		case "..":
			if len(parts) == 0 {
				return "", false
			}
			parts = parts[:len(parts)-1]
		default:
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/"), true
}

// literalCap bounds what one file can name.
const literalCap = 10000

// scanner walks over a nix file as Nix's lexer does (src/libexpr/lexer.l), as
// far as strings, comments and paths go.
type scanner struct {
	text  string
	at    int
	found []string
	// open has what encloses the place: '{' for braces, '$' for an interpolation
	// in a string, '"' and '\'' for the two kinds of strings.
	open []byte
}

// scan says whether everything that was opened was closed.
func (s *scanner) scan() bool {
	for s.at < len(s.text) {
		switch s.top() {
		case '"':
			s.inString()
		case '\'':
			s.inIndented()
		default:
			if !s.inCode() {
				return false
			}
		}
	}
	return len(s.open) == 0
}

func (s *scanner) top() byte {
	if len(s.open) == 0 {
		return 0
	}
	return s.open[len(s.open)-1]
}

func (s *scanner) push(c byte) { s.open = append(s.open, c) }
func (s *scanner) pop()        { s.open = s.open[:len(s.open)-1] }
func (s *scanner) rest() string {
	return s.text[s.at:]
}

func (s *scanner) has(prefix string) bool { return strings.HasPrefix(s.rest(), prefix) }

func (s *scanner) inString() {
	switch {
	case s.has(`\`), s.has("$$"):
		s.at += 2
	case s.has(`"`):
		s.at++
		s.pop()
	case s.has("${"):
		s.at += 2
		s.push('$')
	default:
		s.at++
	}
	s.at = min(s.at, len(s.text))
}

func (s *scanner) inIndented() {
	switch {
	case s.has("''$"), s.has("'''"):
		s.at += 3
	case s.has(`''\`):
		s.at += 4
	case s.has("$$"):
		s.at += 2
	case s.has("''"):
		s.at += 2
		s.pop()
	case s.has("${"):
		s.at += 2
		s.push('$')
	default:
		s.at++
	}
	s.at = min(s.at, len(s.text))
}

func (s *scanner) inCode() bool {
	switch c := s.text[s.at]; {
	case c == '#':
		if end := strings.IndexByte(s.rest(), '\n'); end >= 0 {
			s.at += end
		} else {
			s.at = len(s.text)
		}
	case s.has("/*"):
		end := strings.Index(s.rest()[2:], "*/")
		if end < 0 {
			return false
		}
		s.at += 2 + end + 2
	case c == '"':
		s.at++
		s.push('"')
	case s.has("''"):
		s.at += 2
		s.push('\'')
	case c == '{':
		s.at++
		s.push('{')
	case s.has("${"):
		s.at += 2
		s.push('{')
	case c == '}':
		if t := s.top(); t != '{' && t != '$' {
			return false
		}
		s.at++
		s.pop()
	case isPathChar(c) || c == '/' || c == '~':
		s.word()
	case c == '<':
		s.searchPath()
	default:
		s.at++
	}
	return true
}

func isPathChar(c byte) bool { return isAlnum(c) || strings.IndexByte("._-+", c) >= 0 }

// word takes an identifier, a number, a URI or a path.
func (s *scanner) word() {
	start := s.at
	for s.at < len(s.text) && (isPathChar(s.text[s.at]) || s.text[s.at] == '/' || s.text[s.at] == '~') {
		s.at++
	}
	word := s.text[start:s.at]
	// A URI without quotes, which old files have: scheme:rest.
	if s.has(":") && !strings.ContainsAny(word, "/~") && s.at+1 < len(s.text) && isURIChar(s.text[s.at+1]) {
		for s.at++; s.at < len(s.text) && isURIChar(s.text[s.at]); s.at++ {
		}
		return
	}
	slash := strings.IndexByte(word, '/')
	if slash < 0 || word[0] == '/' || word[0] == '~' || strings.HasPrefix(word[slash:], "//") || len(s.found) == literalCap {
		return // "//" joins sets
	}
	if s.has("${") {
		word = word[:strings.LastIndexByte(word, '/')+1]
	}
	s.found = append(s.found, word)
}

func isURIChar(c byte) bool { return isAlnum(c) || strings.IndexByte("%/?:@&=+$,-_.!~*'", c) >= 0 }

// searchPath takes <nixpkgs> or <nixpkgs/lib>.
func (s *scanner) searchPath() {
	end := s.at + 1
	for end < len(s.text) && (isPathChar(s.text[end]) || s.text[end] == '/') {
		end++
	}
	if end < len(s.text) && s.text[end] == '>' && end > s.at+1 {
		s.at = end + 1
		return
	}
	s.at++
}

// rawLiterals finds everything that looks like ./x or ../y.
func rawLiterals(text string) (out []string) {
	for i := 0; i < len(text) && len(out) < literalCap; {
		if !isPathChar(text[i]) && text[i] != '/' {
			i++
			continue
		}
		start := i
		for i < len(text) && (isPathChar(text[i]) || text[i] == '/') {
			i++
		}
		if word := text[start:i]; strings.HasPrefix(word, "./") || strings.HasPrefix(word, "../") {
			out = append(out, word)
		}
	}
	return out
}
