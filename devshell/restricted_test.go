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

// What a user once took for good of some flake's nixConfig holds for no dev shell.
func TestTrustedSettings(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	hook, ran := filepath.Join(w.dir, "hook"), filepath.Join(w.dir, "ran")
	w.edit("flake.nix", `description =`, fmt.Sprintf(`nixConfig.post-build-hook = %q; description =`, hook))
	home := filepath.Join(w.dir, "home", "data")
	err := errors.Join(
		os.WriteFile(hook, []byte("#!/bin/sh\ntouch "+quote(ran)+"\n"), 0o755),
		os.MkdirAll(filepath.Join(home, "nix"), 0o755),
		os.WriteFile(filepath.Join(home, "nix", "trusted-settings.json"), fmt.Appendf(nil, `{"post-build-hook": {%q: true}}`, hook), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	w.environ = append(w.environ, "XDG_DATA_HOME="+home, "NIX_DATA_HOME="+filepath.Join(home, "nix"))
	if w.nix, err = Find(w.environ); err != nil {
		t.Fatal(err)
	}
	s := w.shell(w.source(KindFlake, "", ""))
	if _, err := os.Stat(ran); err == nil {
		t.Error("the hook ran")
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(s.RC), dataName)); err == nil {
		t.Error("the folder for data is left")
	}
	// The control: nix develop's own evaluation runs it.
	w.run(w.nix.path, "--extra-experimental-features", "nix-command flakes", "print-dev-env", "path:"+w.tree+"#plain")
	if _, err := os.Stat(ran); err != nil {
		t.Errorf("the hook does not run where it may: %v", err)
	}
}

// A user without a store in /nix is told so, and nothing is downloaded into the cache.
func TestNoStore(t *testing.T) {
	n, c := fakeNix(t, answersVersion+`d=${NIX_DATA_HOME-}
echo "warning: '/nix/var/nix' does not exist, so Nix will use '$d/root' as a chroot store" >&2
[ -L "$d/root" ] && [ "$d" = "$XDG_DATA_HOME/nix" ] && echo "error: the path '$d/root' is a symlink; this is not allowed for the Nix store and its parent directories" >&2
exit 1`)
	s, o := fakeSource()
	if _, err := c.Shell(t.Context(), n, s, o); err == nil || !strings.Contains(err.Error(), "there is no Nix store in /nix") {
		t.Errorf("%v", err)
	} else if data, err := os.ReadFile(err.(*Error).Log); err != nil || !strings.Contains(string(data), "is a symlink") {
		t.Errorf("%s, %v", data, err)
	}
}
