package worktree

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// includeCap bounds IncludeName, in bytes.
const includeCap = 1 << 20

// patterns are the lines of gitignore(5) to carry by: those of IncludeName
// first, so that the configuration has the last word.
func (f *carryFinder) patterns(spec CarrySpec) ([]string, error) {
	var lines []string
	if spec.Include {
		lines = f.include()
	}
	positive := len(lines) > 0
	for _, p := range spec.Patterns {
		if why := badPattern(p); why != "" {
			return nil, fmt.Errorf("cannot carry %q along: %s; correct it in carry", inert(p), why)
		}
		positive = positive || p[0] != '!'
		if p[0] == '#' { // in the configuration there are no comments
			p = `\` + p
		}
		lines = append(lines, p)
	}
	if !positive && len(lines) > 0 {
		return nil, fmt.Errorf("cannot carry %q along: there are only patterns that begin with !, which take back; name what to carry", inert(spec.Patterns[0]))
	}
	return lines, nil
}

// badPattern says why a pattern of the configuration can never match; "" when
// it can. A leading slash is refused although gitignore(5) has it: such a line
// would be taken for a path of the machine.
func badPattern(p string) string {
	body := strings.TrimPrefix(p, "!")
	switch {
	case strings.TrimSpace(body) == "":
		return "it is empty"
	case strings.ContainsAny(body, "\x00\n\r"):
		return "it has a NUL or a line break"
	case body[0] == '/':
		return "it is an absolute path; write it as seen from the top of the checkout"
	case body[0] == '~':
		return "it is a path in a home folder; write it as seen from the top of the checkout"
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimRight(body, " "), "/"), "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return fmt.Sprintf("it has a part %q, which no path in the checkout has", part)
		case strings.EqualFold(part, ".git"):
			return "a git directory is never carried"
		}
	}
	return ""
}

// include reads IncludeName. It is the user's file, but also one that whoever
// commits can write: links are not followed.
func (f *carryFinder) include() []string {
	fd, err := unix.Openat(f.root, IncludeName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if errors.Is(err, unix.ELOOP) {
		f.note("%s is not read: it is a symbolic link", IncludeName)
		return nil
	}
	if err != nil {
		f.note("%s is not read: %v", IncludeName, err)
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > includeCap {
		f.note("%s is not read: it is no file, or larger than 1 MiB", IncludeName)
		return nil
	}
	data := make([]byte, includeCap)
	n, err := preadFull(fd, data, 0)
	text := string(data[:n])
	if err != nil || strings.ContainsRune(text, 0) {
		f.note("%s is not read: it is no text", IncludeName)
		return nil
	}
	var lines []string
	for line := range strings.SplitSeq(strings.TrimPrefix(text, "\ufeff"), "\n") {
		line = strings.TrimSuffix(line, "\r") // as git reads such a file (dir.c, add_patterns_from_buffer)
		if strings.TrimSpace(line) != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines
}

// plainPatterns are patterns that match by equality of names alone: they say
// where to look, so that git need not be asked about every file.
type plainPatterns struct {
	names map[string]bool // anywhere; the value says that only a folder will do
	paths map[string]bool // from the top
}

// plain sorts the lines. ok is false when one of them needs git's matching.
func plain(lines []string) (p plainPatterns, ok bool) {
	p = plainPatterns{names: map[string]bool{}, paths: map[string]bool{}}
	for _, line := range lines {
		if strings.ContainsAny(line, `*?[\`) || line[0] == '!' || strings.HasSuffix(line, " ") {
			return p, false
		}
		body, folder := strings.CutSuffix(line, "/")
		// gitignore(5): a slash at the beginning or in the middle ties the
		// pattern to the folder of the file that it is in.
		set, path := p.names, body
		if strings.Contains(body, "/") {
			set, path = p.paths, strings.TrimPrefix(body, "/")
		}
		for part := range strings.SplitSeq(path, "/") {
			if part == "" || part == "." || part == ".." {
				return p, false
			}
		}
		if was, seen := set[path]; !seen || was {
			set[path] = folder
		}
	}
	return p, true
}
