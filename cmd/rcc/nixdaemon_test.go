package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nixDaemonLimit is how long a daemon lives that nobody ends, because the test
// itself was killed.
const nixDaemonLimit = 20 * time.Minute

// startNixDaemon starts a daemon of Nix for one user, and gives the store's
// address for RCC_TEST_NIX. It ends with the test. Its socket is in dir, a folder
// that only that user can enter: the machine's own socket may be closed to him.
func startNixDaemon(t *testing.T, dir string, uid, gid int) string {
	t.Helper()
	dir = filepath.Join(dir, "nix-daemon")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, uid, gid)); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	var said bytes.Buffer
	cmd := exec.Command("timeout", "--kill-after=5", strconv.Itoa(int(nixDaemonLimit.Seconds())), "nix-daemon")
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "NIX_DAEMON_SOCKET_PATH=" + socket,
		"NIX_CONF_DIR=" + dir, "NIX_CONFIG=" + nixConfig + "trusted-users = root\nallowed-users = *\n",
	}
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = 5 * time.Second // what serves a client that is still there holds the pipe
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // timeout(1) passes it on
		cmd.Wait()
		if t.Failed() {
			t.Logf("the Nix daemon said:\n%s", said.String())
		}
	})
	left := scriptWaitFor(10*time.Second, func() string {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return err.Error()
		}
		c.Close()
		return ""
	})
	if left != "" {
		t.Fatalf("the Nix daemon does not answer: %s", left)
	}
	return "unix://" + socket
}

// TestNixDaemon does, as an ordinary user whom the daemon does not trust, all
// that a dev shell needs of Nix: to evaluate and build, to keep the result, and to
// list what it needs.
func TestNixDaemon(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can start a Nix daemon")
	}
	if err := scriptHasNix(); err != nil {
		t.Log(err)
		lacking(t, "nix")
	}
	account := makeScriptUser(t)
	uid, gid := accountIDs(t, account)
	dir, err := os.MkdirTemp("/var/tmp", "rcc-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	home := filepath.Join(dir, "home")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(home, 0o700), os.Chown(home, uid, gid)); err != nil {
		t.Fatal(err)
	}
	flake := filepath.Join(dir, "flake")
	if err := layFlake(flake, filepath.Join(flakeDir, "project"), strings.ToLower(rand.Text()[:16])); err != nil {
		t.Fatal(err)
	}
	remote := startNixDaemon(t, dir, uid, gid)
	try := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = home
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "NIX_CONFIG=" + nixConfig, "NIX_CONF_DIR=" + home, "NIX_REMOTE=" + remote}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, &errs)
		}
		return strings.TrimSpace(string(out)), err
	}
	do := func(args ...string) string {
		t.Helper()
		out, err := try(args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	nix := []string{"nix", "--extra-experimental-features", "nix-command flakes"}

	profile := filepath.Join(home, "profile")
	shell := do(append(nix, "print-dev-env", "--json", "--no-write-lock-file", "--profile", profile, "path:"+flake)...)
	if !strings.Contains(shell, "project_function") {
		t.Errorf("print-dev-env does not give the shell's function:\n%s", shell)
	}
	env, err := filepath.EvalSymlinks(profile)
	if err != nil || !strings.HasPrefix(env, "/nix/store/") {
		t.Fatalf("the profile is %s: %v", env, err)
	}
	closure := strings.Fields(do("nix-store", "-qR", profile))
	if len(closure) != 5 || !slices.Contains(closure, env) {
		t.Errorf("the closure is %q; want greet, applets, tools, stdenv and %s", closure, env)
	}
	if info := do(append(nix, "path-info", "--json", "-r", profile)...); !strings.Contains(info, env) {
		t.Errorf("path-info does not know %s:\n%s", env, info)
	}

	// The profile keeps it: a root in the user's own folder, known to the daemon.
	if out, err := try("nix-store", "--delete", env); err == nil {
		t.Errorf("the store lets go what the profile holds: %s", out)
	}
	if roots := do("nix-store", "-q", "--roots", env); !strings.Contains(roots, profile) {
		t.Errorf("the roots of %s are %s; want %s", env, roots, profile)
	}
	// And nothing else does: without it, the same command deletes.
	links, err := filepath.Glob(profile + "*")
	if err != nil || len(links) != 2 {
		t.Fatalf("the profile is made of %q, %v; want two links", links, err)
	}
	for _, link := range links {
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	do("nix-store", "--delete", env)
	if _, err := os.Lstat(env); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", env, err)
	}

	// A trusted user may have paths repaired, this one may not.
	if out, err := try("nix-store", "--realise", "--repair", closure[0]); err == nil || !strings.Contains(err.Error(), "trusted") && !strings.Contains(err.Error(), "privileged") {
		t.Errorf("the daemon trusts the user: %s, %v", out, err)
	}
}

// accountIDs are the numbers of an ordinary user.
func accountIDs(t *testing.T, account *user.User) (uid, gid int) {
	t.Helper()
	uid, err1 := strconv.Atoi(account.Uid)
	gid, err2 := strconv.Atoi(account.Gid)
	if err := errors.Join(err1, err2); err != nil || uid <= 0 || gid <= 0 {
		t.Fatalf("%s is no ordinary user: uid %s, gid %s", account.Username, account.Uid, account.Gid)
	}
	return uid, gid
}
