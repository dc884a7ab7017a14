package devshell

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"path"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"
)

// The kinds of sources.
const (
	KindFlake = "flake"     // a flake.nix
	KindFile  = "shell.nix" // a shell.nix
)

// A File is a blob that decides what a dev shell is.
type File struct {
	Path string // in the tree, with slashes
	Mode string // git's, such as "100644"
	ID   string // the blob's
}

// A Source is a dev shell as a tree describes it.
type Source struct {
	Kind  string // KindFlake or KindFile
	Dir   string // folder of flake.nix or shell.nix in the tree; "" is the top
	Attr  string // what the user wrote after #; "" is the default
	Files []File // everything that decides the result, by path

	// ImportFromDerivation lets the evaluation build things and read them
	// (allow-import-from-derivation in nix.conf(5)). Nix's own default is true;
	// here it is false, as a build runs programs that the tree names.
	ImportFromDerivation bool
}

// formatVersion is part of every key: a change in how entries are made, or in
// what they hold, makes all of them anew.
const formatVersion = "2"

// Content is the SHA-256, in hexadecimal, of what decides the result: kind,
// folder and files. It is what a user allows.
func (s Source) Content() string {
	h := sha256.New()
	frame(h, "rcc dev shell content", s.Kind, s.Dir)
	files := slices.Clone(s.Files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range files {
		frame(h, f.Path, f.Mode, f.ID)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// frame adds strings in such a way that no two lists of them give the same bytes.
func frame(h hash.Hash, parts ...string) {
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s,", len(p), p)
	}
}

// key names the cache's entry: 128 bits, in hexadecimal.
func (s Source) key(version string, surroundings []string) string {
	h := sha256.New()
	frame(h, "rcc dev shell", formatVersion, s.Content(), s.Attr, system(), version, fmt.Sprint(s.ImportFromDerivation))
	frame(h, surroundings...)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// name is file as messages name it: a folder may be called anything.
func (s Source) name() string { return visible(s.file()) }

// file is what is evaluated, in the tree.
func (s Source) file() string {
	name := "flake.nix"
	if s.Kind == KindFile {
		name = "shell.nix"
	}
	return path.Join(s.Dir, name)
}

func (s Source) check() error {
	switch {
	case s.Kind != KindFlake && s.Kind != KindFile:
		return fmt.Errorf("cannot make a dev shell: %q is no kind of source", s.Kind)
	case s.Dir != "" && (path.IsAbs(s.Dir) || path.Clean(s.Dir) != s.Dir || s.Dir == "." || s.Dir == ".." || strings.HasPrefix(s.Dir, "../")):
		return fmt.Errorf("cannot make a dev shell: %q is no folder in a tree", s.Dir)
	case !utf8.ValidString(s.Dir):
		return fmt.Errorf("cannot use the dev shell in %q: Nix takes only names in UTF-8; rename the folder", s.Dir)
	case !utf8.ValidString(s.Attr) || strings.ContainsFunc(s.Attr, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("cannot use %q as the name of a dev shell: it has control characters", s.Attr)
	}
	return nil
}

// system is Nix's name of this machine (builtins.currentSystem), from what this
// program was built for: to ask Nix would cost a process.
func system() string {
	arch := runtime.GOARCH
	switch arch {
	case "amd64":
		arch = "x86_64"
	case "arm64":
		arch = "aarch64"
	case "386":
		arch = "i686"
	case "arm":
		arch = "armv7l"
	case "ppc64le":
		arch = "powerpc64le"
	case "loong64":
		arch = "loongarch64"
	}
	return arch + "-" + runtime.GOOS
}
