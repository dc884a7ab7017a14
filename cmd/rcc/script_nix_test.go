package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts use real Nix, without a network, and the machine's own store: what
// they are about is the store's place, /nix/store. Root uses it directly, the
// ordinary user through a daemon that the test starts.

// nixConfig is what Nix is told in the scripts' environment: nothing is fetched,
// and builders run as who runs Nix. Each setting is there for want of a network
// or of build users; experimental features are rcc's own business. Without the
// first two, each command waits for about 4.5 s (Nix 2.8).
const nixConfig = `substituters =
flake-registry =
sandbox = false
build-users-group =
`

// nixEnviron is that environment; dir is a folder for nobody else.
func nixEnviron(dir string) [][2]string {
	env := [][2]string{
		{"NIX_CONFIG", nixConfig},
		{"NIX_CONF_DIR", filepath.Join(dir, "no-nix-conf")}, // the machine's own settings do not matter
	}
	if remote := os.Getenv("RCC_TEST_NIX"); remote != "" {
		env = append(env, [2]string{"NIX_REMOTE", remote})
	}
	return env
}

// scriptHasNix says what is lacking to use Nix as the scripts do, nil for nothing.
var scriptHasNix = sync.OnceValue(func() error {
	if _, _, err := staticTools(); err != nil {
		return err
	}
	if _, err := exec.LookPath("nix"); err != nil {
		return errors.New("there is no nix on PATH")
	}
	dir, err := os.MkdirTemp("", "rcc-test-nix-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "rcc-test-probe")
	if err := os.WriteFile(file, []byte("a store that can be written to\n"), 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nix-store", "--add", file)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	for _, kv := range nixEnviron(dir) {
		cmd.Env = append(cmd.Env, kv[0]+"="+kv[1])
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nix cannot write to its store: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
})

// scriptHasDirenv says why direnv cannot be used, nil when it can.
var scriptHasDirenv = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "direnv", "version").Run()
})

// staticTools are the programs that the flakes of the tests are built with. They
// must not need anything that is outside of the store.
func staticTools() (bash, busybox string, err error) {
	var errs [2]error
	bash, errs[0] = exec.LookPath("bash-static")
	busybox, errs[1] = exec.LookPath("busybox")
	for i, path := range []string{bash, busybox} {
		if errs[i] == nil {
			errs[i] = isStatic(path)
		}
	}
	return bash, busybox, errors.Join(errs[0], errs[1])
}

func isStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return fmt.Errorf("%s is not static; install busybox-static in place of busybox", path)
	}
	return nil
}

// flakeDir holds the flakes of the tests, a folder each.
const flakeDir = "../../testdata/flakes"

// scriptFlakerepo makes a repository of a flake. Each script's flake has a nonce
// of its own, so that no script finds what another has left in the store or a
// cache; all flakes of one script have the same.
func scriptFlakerepo(ts *testscript.TestScript, args []string) error {
	const usage = errScriptUsage("flakerepo DIR [FLAKE]")
	flake := "project"
	switch {
	case len(args) == 2:
		flake = args[1]
	case len(args) != 1:
		return usage
	}
	if ts.Getenv("NONCE") == "" {
		nonce := strings.ToLower(rand.Text()[:16])
		ts.Setenv("NONCE", nonce)
		ts.Defer(func() { os.Remove("/tmp/hook-" + nonce) }) // of a script that fails
	}
	dir := ts.MkAbs(args[0])
	if err := layFlake(dir, filepath.Join(flakeDir, flake), ts.Getenv("NONCE")); err != nil {
		return err
	}
	return scriptGitrepo(ts, args[:1])
}

// layFlake copies a flake of the tests into dir, where files that are there
// already stay, adds the tools, and puts the nonce in place of @NONCE@.
func layFlake(dir, flake, nonce string) error {
	err := filepath.WalkDir(flake, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(flake, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		if entry.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		if _, err := os.Lstat(to); err == nil {
			return nil
		}
		return scriptCopyFile(path, to)
	})
	if err != nil {
		return err
	}
	bash, busybox, err := staticTools()
	if err != nil {
		return err
	}
	for name, from := range map[string]string{"bash": bash, "busybox": busybox} {
		to := filepath.Join(dir, "tools/bin", name)
		if err := errors.Join(scriptCopyFile(from, to), os.Chmod(to, 0o755)); err != nil {
			return err
		}
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || filepath.Ext(path) != ".nix" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, bytes.ReplaceAll(data, []byte("@NONCE@"), []byte(nonce)), 0o644)
	})
}
