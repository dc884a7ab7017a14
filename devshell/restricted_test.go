package devshell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A shell.nix reads none of the user's files by fetchTree or getFlake either,
// with whatever features the user has turned on for himself.
func TestShellFileHasNoFlakes(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	secret := filepath.Join(w.dir, "home", "secret")
	err := errors.Join(
		os.Mkdir(secret, 0o700),
		os.WriteFile(filepath.Join(secret, "id"), []byte("the key"), 0o600),
		os.WriteFile(filepath.Join(secret, "flake.nix"), []byte("{ outputs = _: { }; }"), 0o600),
		os.WriteFile(filepath.Join(w.dir, "conf", "nix.conf"), []byte("experimental-features = nix-command flakes fetch-tree\n"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	text := func(expr string) string {
		return fmt.Sprintf(`derivation { name = "x"; system = %q; builder = "${./tools}/bash"; outputs = [ "out" ]; stdenv = ./stdenv; tools = ./tools; value = %s; }`, system(), expr)
	}
	const read = `builtins.readFile ("${%s}/id")`
	fetch := fmt.Sprintf(read, fmt.Sprintf(`builtins.fetchTree { type = "path"; path = %q; }`, secret))
	// The control: Nix with flakes, and without our restrictions, reads it.
	if got := w.run(w.nix.path, "eval", "--impure", "--raw", "--expr", fetch); got != "the key" {
		t.Fatalf("fetchTree gives %q", got)
	}
	w.nixRun("store", "gc")
	for i, expr := range []string{
		fetch,
		fmt.Sprintf(read, fmt.Sprintf(`builtins.getFlake "path:%s"`, secret)),
		fmt.Sprintf(read, fmt.Sprintf(`builtins.fetchTree "path:%s"`, secret)),
	} {
		w.write("shell.nix", text(expr))
		s := w.source(KindFile, "", "")
		s.Files[0].ID = fmt.Sprint(i)
		if err := w.fails(context.Background(), s, w.options()); !strings.Contains(err.Error(), "fetchTree and getFlake are off in a shell.nix") {
			t.Errorf("%s: %v", expr, err)
		}
	}
	found, err := filepath.Glob(filepath.Join(w.dir, "store", "*", "id"))
	if err != nil || len(found) > 0 {
		t.Errorf("the key is in the store: %q, %v", found, err)
	}
	// A NIX_PATH that names nixpkgs by a flake, as NixOS sets it, is as good as ever.
	file := filepath.Join(w.dir, "registry.json")
	registry := fmt.Sprintf(`{"version": 2, "flakes": [{"from": {"type": "indirect", "id": "own"}, "to": {"type": "path", "path": %q}}]}`, secret)
	err = errors.Join(
		os.WriteFile(filepath.Join(secret, "default.nix"), []byte(`{ v = "of the flake"; }`), 0o600),
		os.WriteFile(file, []byte(registry), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	config := strings.Replace(getenv(w.environ, "NIX_CONFIG"), "flake-registry =", "flake-registry = "+file, 1)
	w.environ = append(w.environ, "NIX_CONFIG="+config, "NIX_PATH=none=flake:nothing-of-that-name:nixpkgs=flake:own")
	if w.nix, err = Find(w.environ); err != nil {
		t.Fatal(err)
	}
	w.write("shell.nix", text(`(import <nixpkgs>).v`))
	if s := w.shell(w.source(KindFile, "", "")); !slices.Contains(s.Environ(""), "value=of the flake") {
		t.Errorf("%q", s.Environ(""))
	}
}
