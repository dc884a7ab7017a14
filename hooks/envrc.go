package hooks

import (
	"bytes"
	"strings"
)

// maxEnvrc bounds an .envrc that is looked at, in bytes.
const maxEnvrc = 64 << 10

// ParseEnvrc reads an .envrc as bash would, as far as it is made of "use rcc"
// lines, comments and empty lines. uses has, for each such line, the name of the
// dev shell ("" for the default): NAME, .#NAME and "#NAME" are the same. plain tells
// that there is nothing else in it. An unquoted #NAME is a comment, to bash and here: see EnvrcHint.
func ParseEnvrc(content []byte) (uses []string, plain bool) {
	if len(content) > maxEnvrc || bytes.IndexByte(content, 0) >= 0 {
		return nil, false
	}
	plain = true
	for line := range strings.SplitSeq(string(content), "\n") {
		line = strings.Trim(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, ok := useLine(line)
		if !ok {
			plain = false
			continue
		}
		uses = append(uses, name)
	}
	return uses, plain
}

// EnvrcHint is one line about something in an .envrc that does not do what it
// seems to, "" for nothing.
func EnvrcHint(content []byte) string {
	for line := range strings.SplitSeq(string(content[:min(len(content), maxEnvrc)]), "\n") {
		words := strings.Fields(line)
		if len(words) >= 3 && words[0] == "use" && words[1] == "rcc" && len(words[2]) > 1 && words[2][0] == '#' {
			if name, ok := useName(words[2][1:]); ok {
				return "in .envrc, bash takes " + words[2] + " for a comment; write: use rcc " + name
			}
		}
	}
	return ""
}

// useLine reads: use rcc [NAME] [# comment].
func useLine(line string) (name string, ok bool) {
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(words) < 2 || words[0] != "use" || words[1] != "rcc" {
		return "", false
	}
	if len(words) == 2 || words[2][0] == '#' {
		return "", true
	}
	if len(words) > 3 && words[3][0] != '#' {
		return "", false
	}
	arg := words[2]
	if n := len(arg); n >= 2 && (arg[0] == '"' || arg[0] == '\'') && arg[n-1] == arg[0] {
		arg = arg[1 : n-1]
	}
	return useName(arg)
}

// useName is the name in NAME, #NAME or .#NAME. Only characters that bash takes
// as they are, quoted or not, are part of one.
func useName(arg string) (string, bool) {
	if arg == "." {
		return "", true
	}
	if rest, ok := strings.CutPrefix(arg, ".#"); ok {
		arg = rest
	} else if rest, ok := strings.CutPrefix(arg, "#"); ok {
		arg = rest
	}
	for _, c := range []byte(arg) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-.+", c) >= 0) {
			return "", false
		}
	}
	return arg, len(arg) <= 256
}
