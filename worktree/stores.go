package worktree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// insideStores is where object stores stand in the sandbox: /rcc/objects/0 and up.
const insideStores = "/rcc/objects"

// Store is one of the host's object stores, lent to the task read-only.
type Store struct {
	Source  string // folder on the host
	Target  string // folder inside
	Chained bool   // it has an info/alternates of its own, which must not be read inside: its paths are the host's
	MapRoot bool   // rcc was started as root, and only the store's owner may read it
}

// objectStores lists the repository's object store and all that it borrows
// from, in git's order (gitrepository-layout(5), "objects/info/alternates").
// Stores that are not there are left out, as git does.
func objectStores(first string) ([]Store, error) {
	var stores []Store
	seen := map[string]bool{}
	// git follows five levels (object-file.c, link_alt_odb_entries).
	const deepest = 5
	var add func(dir string, depth int) error
	add = func(dir string, depth int) error {
		real, err := filepath.EvalSymlinks(dir)
		if errors.Is(err, fs.ErrNotExist) && depth > 0 || seen[real] || depth > deepest {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot find the object store: %w", err)
		}
		if fi, err := os.Stat(real); err != nil || !fi.IsDir() {
			return nil
		}
		if !utf8.ValidString(real) {
			return fmt.Errorf("cannot lend the object store %s: its path is not valid UTF-8; move it", quotePath(real))
		}
		seen[real] = true
		others, err := readAlternates(real)
		if err != nil {
			return err
		}
		stores = append(stores, Store{Source: real, Target: insideStores + "/" + strconv.Itoa(len(stores)), Chained: others != nil, MapRoot: mapRoot(real)})
		for _, other := range others {
			if err := add(other, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return stores, add(first, 0)
}

// readAlternates returns the folders named by a store's info/alternates; nil
// when there is no such file.
func readAlternates(store string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(store, "info", "alternates"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the alternates of %s: %w", quotePath(store), err)
	}
	dirs := []string{}
	for line := range strings.SplitSeq(string(data), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '"' {
			if plain, ok := unquoteC(line); ok {
				line = plain
			}
		}
		if !filepath.IsAbs(line) {
			line = filepath.Join(store, line)
		}
		dirs = append(dirs, filepath.Clean(line))
	}
	return dirs, nil
}

// quoteC writes a path in the form that alternates files and
// GIT_ALTERNATE_OBJECT_DIRECTORIES take whatever it holds (quote.c,
// unquote_c_style).
func quoteC(path string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(path) {
		switch c := path[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func unquoteC(line string) (string, bool) {
	var b strings.Builder
	for i := 1; i < len(line); i++ {
		c := line[i]
		if c == '"' {
			return b.String(), true
		}
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		if i++; i >= len(line) {
			return "", false
		}
		if k := strings.IndexByte(`abfnrtv\"`, line[i]); k >= 0 {
			b.WriteByte("\a\b\f\n\r\t\v\\\""[k])
			continue
		}
		if i+2 >= len(line) {
			return "", false
		}
		n, err := strconv.ParseUint(line[i:i+3], 8, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return "", false
}

// mapRoot tells whether a store has to be shown as the agent's own to be read by
// it. Started by an ordinary user, the agent has that user's id.
func mapRoot(store string) bool { return euid() == 0 && !worldReadable(store) }

var euid = os.Geteuid // another in tests

// worldReadable looks at a store as closely as is cheap: the folder, the 256
// fan-out folders and the packs. With core.sharedRepository or a umask of 077
// all of them agree.
func worldReadable(store string) bool {
	open := func(path string, want fs.FileMode) bool {
		fi, err := os.Stat(path)
		return err != nil || fi.Mode().Perm()&want == want
	}
	if !open(store, 0o005) {
		return false
	}
	entries, err := os.ReadDir(store)
	if err != nil {
		return true
	}
	for _, e := range entries {
		if e.IsDir() && !open(filepath.Join(store, e.Name()), 0o005) {
			return false
		}
	}
	packs, _ := os.ReadDir(filepath.Join(store, "pack"))
	for _, e := range packs {
		if !open(filepath.Join(store, "pack", e.Name()), 0o004) {
			return false
		}
	}
	return true
}
