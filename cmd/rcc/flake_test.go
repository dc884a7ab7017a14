package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The repository's own flake and .envrc, with real Nix and real direnv. Nothing
// of the network: testdata/nix/nixpkgs stands in for nixpkgs.

// ownFiles are those that the flake is made of, from the top of the repository.
var ownFiles = []string{"flake.nix", "nix", "cmd/rcc/version.go", "go.mod", "go.sum"}

// runIn runs a program and gives its standard output; a failure ends the test.
func runIn(t *testing.T, dir string, environ []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, environ
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

func TestOwnFlake(t *testing.T) {
	if err := scriptHasNix(); err != nil {
		t.Log(err)
		lacking(t, "nix")
	}
	dir := t.TempDir()
	own, standIn, home := filepath.Join(dir, "rcc"), filepath.Join(dir, "nixpkgs"), filepath.Join(dir, "home")
	for _, file := range ownFiles {
		if err := scriptCopy(filepath.Join("../..", file), filepath.Join(own, file)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(home, 0o700), layFlake(standIn, "../../testdata/nix/nixpkgs", "")); err != nil {
		t.Fatal(err)
	}
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
	for _, kv := range nixEnviron(dir) {
		environ = append(environ, kv[0]+"="+kv[1])
	}
	nix := func(command ...string) string {
		t.Helper()
		args := append([]string{"nix", "--extra-experimental-features", "nix-command flakes"}, command...)
		return runIn(t, own, environ, append(args, "--no-write-lock-file", "--override-input", "nixpkgs", "path:"+standIn)...)
	}

	var shown map[string]map[string]map[string]struct{ Name, Type string }
	if err := json.Unmarshal([]byte(nix("flake", "show", "--json", "path:"+own)), &shown); err != nil {
		t.Fatal(err)
	}
	version := readOwn(t, own, "cmd/rcc/version.go", `(?m)^var version = "(.+)"$`)
	for _, system := range []string{"x86_64-linux", "aarch64-linux"} {
		if name := shown["packages"][system]["default"].Name; name != "rcc-"+version {
			t.Errorf("the package of %s is %q, want rcc-%s", system, name, version)
		}
		if name := shown["devShells"][system]["default"].Name; name == "" {
			t.Errorf("there is no dev shell for %s: %v", system, shown["devShells"])
		}
		for _, attr := range []string{"packages", "devShells"} {
			if path := nix("eval", "--raw", "path:"+own+"#"+attr+"."+system+".default.drvPath"); !strings.HasSuffix(path, ".drv") {
				t.Errorf("%s.%s is no derivation: %s", attr, system, path)
			}
		}
	}

	var pkg struct {
		VendorHash, CGO_ENABLED, PostInstall string
		Ldflags, SubPackages                 []string
	}
	const attrs = "p: { inherit (p) vendorHash ldflags subPackages postInstall; CGO_ENABLED = toString p.CGO_ENABLED; }"
	if err := json.Unmarshal([]byte(nix("eval", "--json", "path:"+own+"#packages.x86_64-linux.default", "--apply", attrs)), &pkg); err != nil {
		t.Fatal(err)
	}
	if want := []string{"-s", "-w", "-X main.version=" + version}; !slices.Equal(pkg.Ldflags, want) || pkg.CGO_ENABLED != "0" || !slices.Equal(pkg.SubPackages, []string{"cmd/rcc"}) {
		t.Errorf("the package is built with %+v; want ldflags %q, no cgo and cmd/rcc", pkg, want)
	}
	if !strings.Contains(pkg.PostInstall, "--fish") || !strings.HasPrefix(pkg.VendorHash, "sha256-") {
		t.Errorf("the package: %+v", pkg)
	}

	// The dev shell has what CONTRIBUTING.md and .ci/run speak of.
	var shell struct {
		Variables map[string]struct{ Value any }
	}
	if err := json.Unmarshal([]byte(nix("print-dev-env", "--json", "--profile", filepath.Join(dir, "profile"), "path:"+own)), &shell); err != nil {
		t.Fatal(err)
	}
	path, _ := shell.Variables["PATH"].Value.(string)
	for _, program := range []string{"go", "gcc", "git", "gnumake", "bubblewrap", "hyperfine", "strace", "zsh", "fish", "direnv", "python3", "nix"} {
		found := slices.ContainsFunc(filepath.SplitList(path), func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, program))
			return err == nil
		})
		if !found {
			t.Errorf("the dev shell has no %s; PATH is %s", program, path)
		}
	}
}

// readOwn gives what a regular expression finds in a file.
func readOwn(t *testing.T, dir, name, expr string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(expr).FindSubmatch(data)
	if m == nil {
		t.Fatalf("%s has no match for %s", name, expr)
	}
	return string(m[1])
}

// .envrc takes rcc's way where there is one, and direnv's own elsewhere.
func TestOwnEnvrc(t *testing.T) {
	if err := scriptHasDirenv(); err != nil {
		lacking(t, "direnv")
	}
	for _, tt := range []struct{ name, lib, want string }{
		{"with rcc", "use_rcc() { export ENTERED=rcc; }\nuse_flake() { export ENTERED=flake; }\n", "rcc"},
		{"without", "use_flake() { export ENTERED=flake; }\n", "flake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home, dir := t.TempDir(), t.TempDir()
			lib := filepath.Join(home, ".config/direnv/lib/own.sh")
			for _, err := range []error{
				scriptCopy("../../.envrc", filepath.Join(dir, ".envrc")),
				os.MkdirAll(filepath.Dir(lib), 0o755),
				os.WriteFile(lib, []byte(tt.lib), 0o644),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
			if stdlib := runIn(t, dir, environ, "direnv", "stdlib"); !strings.Contains(stdlib, "\nuse_flake()") || !strings.Contains(stdlib, "\nhas()") {
				t.Error("this direnv has no use_flake or has of its own")
			}
			runIn(t, dir, environ, "direnv", "allow")
			if got := strings.TrimSpace(runIn(t, dir, environ, "direnv", "exec", ".", "sh", "-c", "echo $ENTERED")); got != tt.want {
				t.Errorf("it entered by %q, want %q", got, tt.want)
			}
		})
	}
}
