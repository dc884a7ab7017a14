package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// What the tests take from the environment:
//
//	RCC_REQUIRE   what must not be lacking: "all", or names with commas between
//	              them (userns, exec:fish, …). What is lacking then fails a test
//	              instead of skipping it; with "all" every skip of a script fails.
//	RCC_TEST_BIN  a folder as testBinDir makes, in place of building them
//	RCC_TEST_NIX  the store that Nix is to use, such as unix:///run/socket for that
//	              of a daemon; without it Nix finds the machine's own
//	RCC_SCRIPTS   a regular expression: only the scripts with such a name

// required reports whether a test that needs what name stands for must not skip.
func required(name string) bool {
	for want := range strings.SplitSeq(os.Getenv("RCC_REQUIRE"), ",") {
		if want == "all" || want == name {
			return true
		}
	}
	return false
}

// lacking ends a test that cannot run here for want of name: a failure when
// RCC_REQUIRE names it, else a skip.
func lacking(t testing.TB, name string) {
	t.Helper()
	if required(name) {
		t.Fatalf("this machine lacks %s, which RCC_REQUIRE=%s asks for", name, os.Getenv("RCC_REQUIRE"))
	}
	t.Skipf("this machine lacks %s", name)
}

// testTrees are the kinds of trees that the scripts run with.
var testTrees = []string{"overlay", "checkout"}

// testBinDir is the folder with the real binaries, made when first asked for:
// for each kind of tree one with
//
//	rcc        as it is released, but that this kind is the default
//	rcc-crash  the same with the tag rcccrash: it can be told to die at a step
var testBinDir = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("RCC_TEST_BIN"); dir != "" {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "rcc-test-bin-")
	if err != nil {
		return "", err
	}
	builtBinDir = dir
	if err := os.Chmod(dir, 0o755); err != nil { // the sandbox's user starts them too
		return "", err
	}
	for _, kind := range testTrees {
		if err := buildForTests(filepath.Join(dir, kind), "-ldflags=-X main.defaultTree="+kind); err != nil {
			return "", err
		}
	}
	return dir, nil
})

func buildForTests(dir, flag string) error {
	for _, args := range [][]string{
		{"-o", filepath.Join(dir, "rcc"), flag},
		{"-o", filepath.Join(dir, "rcc-crash"), flag, "-tags", "rcccrash"},
	} {
		cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-buildvcs=false"}, args...), ".")...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build rcc (%s): %w\n%s", strings.Join(args, " "), err, out)
		}
		if err := os.Chmod(args[1], 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}

// builtBinDir is what TestMain removes at the end.
var builtBinDir string

func TestMain(m *testing.M) {
	if os.Args[0] == helperName {
		os.Exit(worldMain(os.Args))
	}
	syscall.Umask(0o022) // other users read what the tests make
	status := m.Run()
	if builtBinDir != "" {
		os.RemoveAll(builtBinDir)
	}
	os.Exit(status)
}
