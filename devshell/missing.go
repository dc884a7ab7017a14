package devshell

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Nix gets the files of the source and no others. What it says of one that it
// does not find:
//
//	getting status of 'PATH': No such file or directory     2.8
//	opening file 'PATH': No such file or directory          2.26, 2.34
//	reading directory PATH: No such file or directory       2.26
//	cannot read directory "PATH": No such file or directory 2.34
//	path 'PATH' does not exist                              2.26, 2.34
const missingFile = `^(?:path|getting status of|opening file|reading directory|cannot read directory) ['"]?(/.+?)['"]?(?: does not exist|: No such file or directory)`

// notAllowed explains that an evaluation wanted a file of the tree that is not
// among those of the source.
func notAllowed(text, tree string, s Source) string {
	found := regexp.MustCompile(missingFile).FindStringSubmatch(innermost(text))
	if found == nil {
		return ""
	}
	name, ok := inTree(found[1], tree, s)
	listed := slices.ContainsFunc(s.Files, func(f File) bool { return f.Path == name || strings.HasPrefix(f.Path, name+"/") })
	switch {
	case !ok || listed:
		return ""
	case name == s.file():
		return s.name() + " itself is not among the files that were allowed"
	}
	return fmt.Sprintf("%s reads %s, which is not among the files that were allowed: name it in [shell] watch (rcc.toml or config.toml)", s.name(), name)
}

// inTree is a path that Nix names as one in the tree: there, or in the copy of
// the tree that Nix has in its store.
func inTree(path, tree string, s Source) (string, bool) {
	if name, ok := strings.CutPrefix(path, tree+"/"); ok {
		return name, true
	}
	at := regexp.MustCompile(storeFolder).FindStringSubmatch(path)
	if at == nil {
		return "", false
	}
	root := ""
	switch copied := at[1]; {
	case s.Kind == KindFlake && copied == "source": // as Nix calls all flakes, inputs too
	case s.Kind == KindFile && copied == filepath.Base(tree): // "${./.}"
	case s.Dir != "" && copied == filepath.Base(s.Dir): // the same in a folder
		root = s.Dir
	default:
		return "", false
	}
	if !isCopy(at[0], filepath.Join(tree, root), filepath.Base(s.file()), s.Dir[len(root):]) {
		return "", false
	}
	return filepath.Join(root, path[len(at[0]):]), true
}

// storeFolder is a path's beginning in a store. "${./.}" of a flake in the store
// is a copy of a copy, and has two hashes in its name.
const storeFolder = `^/.*?/(?:[0-9a-z]{32}-)+([^/]+)/`

// isCopy says whether a folder of the store can be a copy of that folder of the
// tree: an input's has another flake.nix.
func isCopy(dir, tree, file, below string) bool {
	if _, err := os.Lstat(dir); err != nil {
		return true
	}
	a, _ := readBounded(filepath.Join(dir, below, file), 16<<20)
	b, _ := readBounded(filepath.Join(tree, below, file), 16<<20)
	return bytes.Equal(a, b)
}
