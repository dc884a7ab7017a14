package devshell

import "strings"

// scanner walks over a nix file as Nix's lexer does (src/libexpr/lexer.l), as
// far as strings, comments and paths go.
type scanner struct {
	text  string
	at    int
	found []literalPath
	open  []enclosure // what encloses the place, the innermost last

	// base is what has just ended and a string may go on from: a path literal, or
	// self. plus says that a + followed it.
	base literalPath
	plus bool

	// Up to there no path, and no URI, begins: so that a long run of their
	// characters is gone through once.
	pathless, schemeless int
}

// enclosure is what was opened: '{' for braces, '$' for an interpolation in a
// string, '"' and '\” for the two kinds of strings.
type enclosure struct {
	kind byte
	// Of a string: what its text goes on from, whether by a +, and where it begins.
	base  literalPath
	added bool
	from  int
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
	return s.open[len(s.open)-1].kind
}

// push opens something. A string after a + goes on from what was before it.
func (s *scanner) push(kind byte, size int) {
	plus, base := s.plus, s.base
	s.skip(size)
	e := enclosure{kind: kind, from: s.at}
	if plus {
		e.base, e.added = base, true
	}
	s.open = append(s.open, e)
}

// pop closes what is open. The text of a string after an interpolation goes on
// from what that ended with.
func (s *scanner) pop(size int) {
	kind, base := s.top(), s.base
	s.skip(size)
	s.open = s.open[:len(s.open)-1]
	if kind == '$' && len(s.open) > 0 {
		e := &s.open[len(s.open)-1]
		e.base, e.added, e.from = base, false, s.at
	}
}

// skip goes over a piece of code that no string goes on from.
func (s *scanner) skip(size int) {
	s.at += size
	s.base, s.plus = literalPath{}, false
}

func (s *scanner) rest() string { return s.text[s.at:] }

func (s *scanner) has(prefix string) bool { return strings.HasPrefix(s.rest(), prefix) }

func (s *scanner) inString() {
	switch {
	case s.has(`\`), s.has("$$"):
		s.at += 2
	case s.has(`"`):
		s.endText(1)
	case s.has("${"):
		s.takeText(true)
		s.push('$', 2)
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
		s.endText(2)
	case s.has("${"):
		s.takeText(true)
		s.push('$', 2)
	default:
		s.at++
	}
	s.at = min(s.at, len(s.text))
}

// endText ends a string. Another may go on from it: ./. + "/a" + "/b".
func (s *scanner) endText(size int) {
	named := s.takeText(false)
	s.pop(size)
	s.base = named
}

// takeText notes what the text that ends here names with what it goes on from.
// There may be more in it than the path, as in a script: then the path is as far
// as its characters go, or all of the line.
func (s *scanner) takeText(goesOn bool) literalPath {
	e := &s.open[len(s.open)-1]
	base, text := e.base, s.text[e.from:s.at]
	if base.from == 0 || !strings.HasPrefix(text, "/") {
		return literalPath{}
	}
	e.base = literalPath{}
	end := 0
	for end < len(text) && (isPathChar(text[end]) || text[end] == '/') {
		end++
	}
	if goesOn && end == len(text) {
		end = strings.LastIndexByte(text, '/') + 1
	}
	if len(base.rest)+end > pathCap {
		return literalPath{}
	}
	if n := len(s.found); e.added && n > 0 && s.found[n-1] == base {
		s.found = s.found[:n-1] // ./lib + "/x" is x alone; "${./lib}/x" is a copy of lib
	}
	if !goesOn && end < len(text) && len(base.rest)+len(text) <= pathCap && !strings.Contains(text, "\n") {
		s.take(literalPath{base.from, base.rest + text})
	}
	named := literalPath{base.from, base.rest + text[:end]}
	s.take(named)
	return named
}

func (s *scanner) take(p literalPath) {
	if len(s.found) < literalCap {
		s.found = append(s.found, p)
	}
}

func (s *scanner) inCode() bool {
	c := s.text[s.at]
	switch {
	case strings.IndexByte(" \t\r\n", c) >= 0:
		s.at++
	case c == '#':
		// Nix ends it at a CR too.
		if end := strings.IndexAny(s.rest(), "\r\n"); end >= 0 {
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
		s.push('"', 1)
	case s.has("''"):
		s.push('\'', 2)
	case c == '{':
		s.push('{', 1)
	case s.has("${"):
		s.push('{', 2)
	case c == '}':
		if t := s.top(); t != '{' && t != '$' {
			return false
		}
		s.pop(1)
	case s.word():
	case s.has("++"): // joins lists
		s.skip(2)
	case c == '+' && s.base.from != 0:
		s.at++
		s.plus = true
	case c == ')': // (self) + "/x"
		s.at++
		s.plus = false
	default:
		s.skip(1)
	}
	return true
}

// word takes an identifier, a number, a URI, a path or <nixpkgs>, if one begins
// here: the longest that there is, as flex does.
func (s *scanner) word() bool {
	text := s.rest()
	length, goesOn := 0, false
	if s.at >= s.pathless {
		if length, goesOn = pathLen(text); length == 0 {
			s.pathless = s.at + run(text, isPathChar)
		}
	}
	uri := 0
	if s.at >= s.schemeless {
		if uri = uriLen(text); uri == 0 && !isURI(text[run(text, isSchemeChar):]) {
			s.schemeless = s.at + run(text, isSchemeChar)
		}
	}
	ident := identLen(text)
	if n := max(uri, numberLen(text), searchPathLen(text)); n > max(length, ident) {
		s.skip(n)
		return true
	}
	if ident > 0 && ident >= length {
		s.skip(ident)
		if text[:ident] == "self" {
			s.base = literalPath{from: self}
			if s.has(".outPath") && identLen(s.rest()[1:]) == len("outPath") {
				s.at += len(".outPath")
			}
		}
		return true
	}
	if length == 0 {
		return false
	}
	s.skip(length)
	literal := text[:length]
	if literal[0] == '/' || literal[0] == '~' {
		return true // not relative
	}
	if goesOn {
		literal = literal[:strings.LastIndexByte(literal, '/')+1]
	}
	p := literalPath{here, literal}
	s.take(p)
	if !goesOn {
		s.base = p
	}
	return true
}
