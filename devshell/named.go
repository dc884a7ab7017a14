package devshell

import (
	"path"
	"slices"
	"strings"
)

// Named lists the paths in the tree that a nix file at path names: by relative
// path literals, such as ./x, ../y and a/b ("Literals" in the Nix language
// manual), and by a plain string that goes on from one or from the flake itself,
// as in ./. + "/x", self + "/x", "${./.}/x" and "${self}/x". A literal or string
// that goes on with ${…} counts as far as the last slash before it. Folders that
// hold the nix file itself are left out: ./. is usually the source of a package,
// and not what a dev shell depends on; whoever wants them puts them on the watch
// list. So are paths outside of the tree. Sorted.
//
// It finds what is usual, and no more: a path may be computed. A file that it
// does not find is none for Nix, which says so; one too much is only asked about.
//
// Comments and strings are skipped. Where they cannot be told apart, since the
// file does not end as a nix file does, everything that looks like ./x or ../y
// is taken.
func Named(file string, content []byte) []string {
	s := &scanner{text: string(content)}
	if !s.scan() {
		for _, literal := range rawLiterals(s.text) {
			s.found = append(s.found, literalPath{here, literal})
		}
	}
	dir := path.Dir(path.Clean("/" + file))
	var out []string
	add := func(from, literal string) {
		// Joined by hand: path.Clean would let ../../x of a top-level file stay in the tree.
		name, ok := resolve(from, literal)
		if ok && name != "" && !strings.HasPrefix(dir+"/", "/"+name+"/") {
			out = append(out, name)
		}
	}
	for _, p := range s.found {
		if p.from == here {
			add(dir, p.rest)
			continue
		}
		// The flake is in this folder or in one of those above.
		for at := dir; ; at = path.Dir(at) {
			add(at, p.rest)
			if at == "/" {
				break
			}
		}
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

// literalPath is a path as it is written: what it begins at, and the rest.
type literalPath struct {
	from int // here or self; 0: it is none
	rest string
}

const (
	here = 1 + iota // the nix file's own folder
	self            // the flake's
)

// What one file can name, and how long a path is (PATH_MAX in limits.h).
const (
	literalCap = 10000
	pathCap    = 4096
)

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
