package devshell

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Folders may have any name, and an attribute is found as nix develop finds it.
func TestFoldersAndAttributes(t *testing.T) {
	w := newWorld(t)
	const folder = "sub/g %20?#ö 'x\"y\\z&dir=q"
	w.flake(folder)
	w.write("beside", "")
	w.edit(filepath.Join(folder, "flake.nix"), `GREETING = "hello"`, `GREETING = builtins.readFile ../../beside + "hello"`)
	w.cache = OpenCache(filepath.Join(w.dir, "c %20?#ö 'x\"y\\z"))
	for attr, want := range map[string]string{
		"":                               "demo-shell",
		"plain":                          "plain",
		"tool":                           "tool",
		`deep."a b"`:                     "deep",
		`deep."c%20d#é"`:                 "deeper",
		"packages." + system() + ".tool": "tool",
	} {
		s := w.shell(w.source(KindFlake, folder, attr))
		if s.Name != want {
			t.Errorf("%q is %q, want %q", attr, s.Name, want)
		}
		if attr == "" && !slices.Contains(s.Environ(""), "GREETING=hello") {
			t.Errorf("%q", s.Environ(""))
		}
	}
	// Without devShells it is the default package.
	w.edit(filepath.Join(folder, "flake.nix"), "devShells.", "others.")
	s := w.source(KindFlake, folder, "")
	s.Files[0].ID = "changed"
	if shell := w.shell(s); shell.Name != "package" {
		t.Errorf("%q", shell.Name)
	}
	w.edit(filepath.Join(folder, "flake.nix"), "packages.", "others2.")
	s.Files[0].ID = "changed again"
	_, err := w.cache.Shell(context.Background(), w.nix, s, w.options())
	if err == nil || !strings.Contains(err.Error(), "it has no dev shell for "+system()) {
		t.Errorf("%v", err)
	}
}

func TestSourceCheck(t *testing.T) {
	for _, s := range []Source{
		{},
		{Kind: "make"},
		{Kind: KindFlake, Dir: ".."},
		{Kind: KindFlake, Dir: "../x"},
		{Kind: KindFlake, Dir: "/x"},
		{Kind: KindFlake, Dir: "x/"},
		{Kind: KindFlake, Dir: "."},
		{Kind: KindFlake, Dir: "x\xff"},
		{Kind: KindFlake, Attr: "a\nb"},
		{Kind: KindFlake, Attr: "\xff"},
	} {
		if err := s.check(); err == nil {
			t.Errorf("%+v passes", s)
		}
	}
	for _, s := range []Source{{Kind: KindFlake}, {Kind: KindFile, Dir: "a b/..c", Attr: `x."y z"`}} {
		if err := s.check(); err != nil {
			t.Error(err)
		}
	}
}

const shellNix = `{ pkgs ? import <nixpkgs> { } }:
let shell = attrs: derivation ({
  system = builtins.currentSystem; outputs = [ "out" ]; name = "file-shell";
  builder = "${pkgs.tools}/bin/bash"; stdenv = ./stdenv; tools = pkgs.tools;
  home = builtins.getEnv "HOME"; here = toString ./.; shellHook = "echo ${toString ./.}/x; unset f";
  value = import ./part.nix;
} // attrs);
in shell { } // { other.deep = shell { name = "other"; }; }
`

// nixpkgs is a channel as nix-channel(1) leaves it: a link into the store.
func (w *world) nixpkgs(version string) string {
	w.t.Helper()
	dir := filepath.Join(w.dir, "channel-"+version)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(w.tree, "tools"))); err != nil {
		w.t.Fatal(err)
	}
	text := fmt.Sprintf(`{ }: { tools = derivation { name = "tools-%s"; system = %q; builder = ./bash;
		args = [ "-c" "b=${./.}; $b/busybox mkdir -p $out/bin; $b/busybox cp $b/bash $b/busybox $out/bin" ]; }; }`, version, system())
	if err := os.WriteFile(filepath.Join(dir, "default.nix"), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(w.nixRun("store", "add-path", dir))
}

// A shell.nix is evaluated with what NIX_PATH names, and can read nothing else.
func TestShellFile(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	w.write("x y/shell.nix", shellNix)
	w.write("x y/part.nix", `"part"`)
	if err := os.CopyFS(filepath.Join(w.tree, "x y/stdenv"), os.DirFS("testdata/flake/stdenv")); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(w.dir, "home", "channel")
	point := func(version string) {
		t.Helper()
		_ = os.Remove(link)
		if err := os.Symlink(w.nixpkgs(version), link); err != nil {
			t.Fatal(err)
		}
	}
	point("1")
	w.environ = append(w.environ, "NIX_PATH=/none:nixpkgs="+link, "SECRET=s")
	var err error
	if w.nix, err = Find(w.environ); err != nil {
		t.Fatal(err)
	}
	s := w.shell(w.source(KindFile, "x y", ""))
	at := s.EnvironAt(Places{Outputs: "/o", Tree: "/work/tree"})
	for _, want := range []string{"home=", "here=/work/tree/x y", "value=part", "out=/o/out", "shellHook=echo /work/tree/x y/x; unset f"} {
		if !slices.Contains(at, want) {
			t.Errorf("no %s in %q", want, at)
		}
	}
	got := w.run(s.Bash, "-c", `rcc_tree=/t; . "$1"; echo "$here"`, "bash", s.RC)
	if got != "/t/x y/x\n/t/x y\n" { // in code as in data
		t.Errorf("%q", got)
	}
	if other := w.shell(w.source(KindFile, "x y", "other.deep")); other.Name != "other" {
		t.Errorf("%q", other.Name)
	}
	if hit := w.shell(w.source(KindFile, "x y", "")); hit.Fresh {
		t.Error("no hit")
	}
	// A channel that was updated is another dev shell.
	point("2")
	if updated := w.shell(w.source(KindFile, "x y", "")); !updated.Fresh || updated.Key == s.Key || slices.Equal(updated.Paths, s.Paths) {
		t.Errorf("%+v", updated)
	}
	for _, tt := range []struct{ new, attr, want string }{
		{`builtins.readFile /etc/passwd`, "", "is forbidden: a shell.nix can read its repository"},
		{`builtins.readFile ` + filepath.Join(w.dir, "outside"), "", "is forbidden"},
		{`import ./part.nix`, "no.such", `it has no attribute "no.such"`},
		{`nothing`, "", "undefined variable 'nothing' at x y/shell.nix:6:11"},
	} {
		w.write("x y/shell.nix", strings.Replace(shellNix, "import ./part.nix", tt.new, 1))
		source := w.source(KindFile, "x y", tt.attr)
		source.Files[0].ID = tt.new
		_, err := w.cache.Shell(context.Background(), w.nix, source, w.options())
		if err == nil || !strings.HasPrefix(err.Error(), "cannot make the dev shell of x y/shell.nix: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.new, err, tt.want)
		}
	}
}

func TestSplitSearchPath(t *testing.T) {
	for value, want := range map[string][]string{
		"":                nil,
		"/a":              {"/a"},
		"/a:/b":           {"/a", "/b"},
		":/a::/b:":        {"/a", "/b"},
		"nixpkgs=/a:x=/b": {"nixpkgs=/a", "x=/b"},
		"nixpkgs=https://example.org/x:8080/y.tar.gz":      {"nixpkgs=https://example.org/x", "8080/y.tar.gz"},
		"nixpkgs=https://example.org/x.tar.gz:/b":          {"nixpkgs=https://example.org/x.tar.gz", "/b"},
		"nixpkgs=channel:nixos-25.05:y=flake:nixpkgs:/c=d": {"nixpkgs=channel:nixos-25.05", "y=flake:nixpkgs", "/c=d"},
		"https://example.org/x.tar.gz:/b":                  {"https://example.org/x.tar.gz", "/b"},
		"/a:n=/b":                                          {"/a", "n=/b"},
	} {
		if got := splitSearchPath(value); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// The time of all files is one, so that the same content gives the same store paths.
func TestSettle(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a/b/c"), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	if err := settle(dir); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil && fi.ModTime().Unix() != treeTime {
			t.Errorf("%s has %s", path, fi.ModTime())
		}
		n++
		return err
	})
	after, err2 := os.Stat("/etc/passwd")
	if err != nil || err2 != nil || n != 5 || !after.ModTime().Equal(before.ModTime()) {
		t.Error(n, err, err2)
	}
}
