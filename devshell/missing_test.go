package devshell

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that Nix was not given is named, as it is called in the tree, in
// whatever way the evaluation wanted it.
func TestNotAllowed(t *testing.T) {
	w := newWorld(t)
	w.flake("sub")
	w.write("sub/lib/it", "")
	const greeting = `GREETING = "hello"`
	number := 0
	check := func(kind, expr, want string) {
		t.Helper()
		number++
		s := w.source(kind, "sub", "")
		s.Files = append(s.Files, File{"sub/lib/it", "100644", fmt.Sprint(number)})
		if kind == KindFile {
			w.write("sub/shell.nix", fmt.Sprintf(`let self = ./.; in derivation { name = "x"; system = %q; builder = "${./tools}/bash"; outputs = [ "out" ]; v = %s; }`, system(), expr))
		} else {
			w.edit("sub/flake.nix", greeting, "GREETING = "+expr)
			defer w.edit("sub/flake.nix", "GREETING = "+expr, greeting)
		}
		err := w.fails(context.Background(), s, w.options())
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s, %s: %v\nwant %s", kind, expr, err, want)
		}
	}
	for expr, file := range map[string]string{
		`import ./x.nix`:                      "sub/x.nix",
		`builtins.readFile ./x`:               "sub/x",
		`"${./x}"`:                            "sub/x",
		`import ./lib`:                        "sub/lib/default.nix",
		`builtins.readDir ../lib`:             "lib",
		`builtins.readFile "${./.}/lib/no"`:   "sub/lib/no",
		`builtins.readFile "${./..}/no"`:      "no",
		`builtins.readFile (./. + "/lib/no")`: "sub/lib/no",
	} {
		for _, kind := range []string{KindFlake, KindFile} {
			entry := Source{Kind: kind, Dir: "sub"}.file()
			check(kind, expr, ": "+entry+" reads "+file+", which is not among the files that were allowed: name it in [shell] watch (rcc.toml or config.toml) (all that Nix said: ")
		}
	}
	// What was allowed and is missing nevertheless is something else, and so is a
	// file outside of the tree.
	if err := os.RemoveAll(filepath.Join(w.tree, "sub/lib/it")); err != nil {
		t.Fatal(err)
	}
	w.write("sub/lib/other", "")
	check(KindFlake, `builtins.readFile ./lib/it`, "lib/it")
}

// An input's missing file is none of the tree's.
func TestInTree(t *testing.T) {
	dir := t.TempDir()
	tree, store := filepath.Join(dir, "tree"), filepath.Join(dir, "store")
	flake := Source{Kind: KindFlake, Dir: "a"}
	for name, text := range map[string]string{"tree/a/flake.nix": "ours", "store/" + emptyName + "-source/a/flake.nix": "other", "store/1" + emptyName[1:] + "-source/a/flake.nix": "ours"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		tree + "/x/y":                                "x/y",
		store + "/" + emptyName + "-source/x":        "",
		store + "/1" + emptyName[1:] + "-source/x/y": "x/y",
		store + "/2" + emptyName[1:] + "-source/x":   "x", // gone again
		store + "/2" + emptyName[1:] + "-lib/x":      "",
		"/etc/passwd":                                "",
	} {
		if got, ok := inTree(path, tree, flake); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", path, got, ok)
		}
	}
}

// The words of the versions.
func TestNotAllowedWords(t *testing.T) {
	const at = "/nix/store/" + emptyName + "-source/lib/it's \u202e me"
	for _, text := range []string{
		"error: getting status of '" + at + "': No such file or directory",
		"error:\n … while calling\n\n error: opening file '" + at + "': No such file or directory",
		"error: reading directory " + at + ": No such file or directory",
		"error: cannot read directory \"" + at + "\": No such file or directory",
		"error: path '" + at + "' does not exist\n\n at /nix/store/" + emptyName + "-source/flake.nix:1:2:\n",
		"error: path '/tree/lib/it's \u202e me' does not exist",
	} {
		got := explain(text, "/tree", Source{Kind: KindFlake})
		if want := "flake.nix reads lib/it's me, which is not among the files that were allowed: name it in [shell] watch (rcc.toml or config.toml)"; got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	for _, text := range []string{"error: path '/tree/flake.nix' does not exist", "error: getting status of '/nix/store/" + emptyName + "-source/flake.nix': No such file or directory"} {
		if got := explain(text, "/tree", Source{Kind: KindFlake}); got != "flake.nix itself is not among the files that were allowed" {
			t.Errorf("%q: %q", text, got)
		}
	}
	listed := Source{Kind: KindFlake, Files: []File{{"lib/it's  me/x", "100644", "1"}}}
	if got := explain("error: path '"+strings.ReplaceAll(at, "\u202e", "")+"' does not exist", "/tree", listed); strings.Contains(got, "allowed") {
		t.Errorf("%q", got)
	}
}
