package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
)

// scriptDir holds the scripts: each drives the real binary through the real
// sandbox. Its name begins with the command that it is about.
const scriptDir = "../../testdata/script"

// TestScripts runs the scripts as whoever runs the tests, with each kind of tree.
func TestScripts(t *testing.T) {
	files := scriptFiles(t)
	bin, err := testBinDir()
	if err != nil {
		t.Fatal(err)
	}
	var ran atomic.Int32
	if os.Getenv("RCC_TEST_BIN") != "" { // TestScriptsAsUser looks for it
		t.Cleanup(func() { fmt.Printf(ranFormat, ran.Load(), os.Getuid()) })
	}
	for _, kind := range testTrees {
		t.Run(kind, func(t *testing.T) { runScripts(t, kind, files, filepath.Join(bin, kind), &ran) })
	}
}

// runScripts runs the scripts with the binaries in bin, which make trees of one
// kind where nothing else is asked for. [overlay] and [checkout] tell which.
func runScripts(t *testing.T, kind string, files []string, bin string, ran *atomic.Int32) {
	var root atomic.Value // the folder of all work folders
	p := testscript.Params{
		Files: files,
		Setup: func(env *testscript.Env) error {
			ran.Add(1)
			root.Store(filepath.Dir(env.WorkDir))
			return setUpScript(env, bin)
		},
		Condition: func(cond string) (bool, error) {
			if slices.Contains(testTrees, cond) {
				return cond == kind, nil
			}
			return scriptCondition(cond)
		},
		Cmds:                scriptCmds(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	}
	p.Deadline, _ = t.Deadline()
	t.Cleanup(func() { // testscript leaves it when -run picks some of the scripts
		if dir, ok := root.Load().(string); ok {
			os.Remove(dir)
		}
	})
	testscript.RunT(scriptT{t}, p)
}

// ranFormat is the line that tells how many scripts really ran, and as whom.
const ranFormat = "scripts run: %d, uid %d\n"

// scriptFiles lists the scripts. Programs that their conditions name and that
// RCC_REQUIRE does not let be missing are a failure before anything runs.
func scriptFiles(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(scriptDir, "*.txtar"))
	if err != nil || len(all) == 0 {
		t.Fatalf("cannot find scripts in %s: %v", scriptDir, err)
	}
	only, err := regexp.Compile(os.Getenv("RCC_SCRIPTS"))
	if err != nil {
		t.Fatalf("cannot read RCC_SCRIPTS: %v", err)
	}
	program := regexp.MustCompile(`\[!?exec:([^\]\s]+)\]`)
	var files []string
	for _, file := range all {
		if !only.MatchString(strings.TrimSuffix(filepath.Base(file), ".txtar")) {
			continue
		}
		files = append(files, file)
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range program.FindAllStringSubmatch(string(archive.Comment), -1) {
			if _, err := exec.LookPath(m[1]); err != nil && required("exec:"+m[1]) {
				t.Errorf("%s needs %s, which is not installed; RCC_REQUIRE=%s asks for it", filepath.Base(file), m[1], os.Getenv("RCC_REQUIRE"))
			}
		}
	}
	if len(files) == 0 {
		t.Fatalf("no script has a name like RCC_SCRIPTS=%s", os.Getenv("RCC_SCRIPTS"))
	}
	return files
}

// scriptT makes a skip a failure where RCC_REQUIRE=all asks for that.
type scriptT struct{ *testing.T }

func (t scriptT) Verbose() bool { return testing.Verbose() }

func (t scriptT) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(scriptT{t}) })
}

func (t scriptT) Skip(args ...any) {
	if required("all") {
		t.Fatal(append([]any{"a skip, which RCC_REQUIRE=all forbids: "}, args...)...)
	}
	t.T.Skip(args...)
}

// setUpScript gives a script surroundings that do not depend on who runs it.
func setUpScript(env *testscript.Env, bin string) error {
	home := filepath.Join(env.WorkDir, "home")
	runtimeDir := filepath.Join(env.WorkDir, "run")
	for _, kv := range [][2]string{
		{"PATH", bin + ":" + env.Getenv("PATH")},
		{"HOME", home},
		{"XDG_CONFIG_HOME", filepath.Join(home, ".config")},
		{"XDG_STATE_HOME", filepath.Join(home, ".local/state")},
		{"XDG_CACHE_HOME", filepath.Join(home, ".cache")},
		{"XDG_DATA_HOME", filepath.Join(home, ".local/share")},
		{"XDG_RUNTIME_DIR", runtimeDir},
		{"GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig")},
		{"GIT_CONFIG_SYSTEM", "/dev/null"},
		{"GIT_TERMINAL_PROMPT", "0"},
		{"LANG", "C.UTF-8"},
		{"TERM", "dumb"},
	} {
		env.Setenv(kv[0], kv[1])
		if strings.HasPrefix(kv[0], "XDG_") {
			if err := os.MkdirAll(kv[1], 0o700); err != nil {
				return err
			}
		}
	}
	if dir := os.Getenv("RCC_TEST_SOURCE"); dir != "" {
		env.Setenv("SOURCE", dir)
	}
	for _, kv := range nixEnviron(env.WorkDir) {
		env.Setenv(kv[0], kv[1])
	}
	const gitConfig = "[user]\n\tname = Script Tester\n\temail = tester@example.com\n[init]\n\tdefaultBranch = main\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(gitConfig), 0o644); err != nil {
		return err
	}
	env.Values[ptysKey{}] = map[string]*scriptPty{}
	env.Values[worldKey{}] = new(*world)
	env.Defer(func() { checkNothingLeft(env.T().(scriptT), env.WorkDir) })
	return nil
}

// checkNothingLeft fails a script that leaves processes or mounts behind, and
// ends them. They are known by the script's own folder: in the command line, in
// the environment, or in the mount's path.
func checkNothingLeft(t scriptT, work string) {
	inFolder := regexp.MustCompile(regexp.QuoteMeta(work) + `($|[^A-Za-z0-9._#-])`) // script-a is not script-ab
	marks := func(pid int) bool {
		for _, file := range []string{"cmdline", "environ"} {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err == nil && inFolder.Match(data) {
				return true
			}
		}
		return false
	}
	left := scriptWaitFor(5*time.Second, func() string { return scriptProcesses(marks) })
	if left != "" && !t.Failed() {
		t.Errorf("the script left processes behind:\n%s", left)
	}
	for _, pid := range scriptPids() {
		if marks(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if mounts := scriptMounts(inFolder); mounts != "" {
		t.Errorf("the script left mounts behind:\n%s", mounts)
		for line := range strings.Lines(mounts) {
			if f := strings.Fields(line); len(f) > 4 {
				syscall.Unmount(f[4], syscall.MNT_DETACH)
			}
		}
	}
}

// scriptCondition says whether a condition in brackets holds:
//
//	[root]      the tests run as root
//	[userns]    a user namespace can be made, and a mount in it
//	[git:2.40]  git has at least this version
//	[source]    there is a real project to work on: RCC_TEST_SOURCE is the folder
//	            of an unpacked source package, $SOURCE in the script
//	[nix]       Nix works, without a network, and flakerepo has its static tools
//	[direnv]    there is direnv
//	[world]     the networks of world can be made
//	[collect]   all garbage of the machine's Nix store may be removed: RCC_REQUIRE=all
//
// [exec:PROGRAM] and others come with testscript. A condition that does not hold
// because the machine lacks something fails the script where RCC_REQUIRE says so;
// root and an older git are no lack.
func scriptCondition(cond string) (bool, error) {
	name, arg, _ := strings.Cut(cond, ":")
	switch name {
	case "root":
		return os.Getuid() == 0, nil
	case "userns":
		ok := scriptHasUserns()
		if !ok && required(cond) {
			return false, fmt.Errorf("this machine cannot make a user namespace, which RCC_REQUIRE=%s asks for", os.Getenv("RCC_REQUIRE"))
		}
		return ok, nil
	case "collect":
		// It takes more than the tests' own from the machine's store.
		return os.Getenv("RCC_REQUIRE") == "all", nil
	case "nix", "direnv", "world":
		err := map[string]func() error{"nix": scriptHasNix, "direnv": scriptHasDirenv, "world": scriptHasWorld}[name]()
		if err != nil && required(cond) {
			return false, fmt.Errorf("cannot use %s here, which RCC_REQUIRE=%s asks for: %w", name, os.Getenv("RCC_REQUIRE"), err)
		}
		return err == nil, nil
	case "source":
		dir := os.Getenv("RCC_TEST_SOURCE")
		info, err := os.Stat(dir)
		ok := err == nil && info.IsDir()
		if !ok && (dir != "" || required(cond)) {
			return false, fmt.Errorf("RCC_TEST_SOURCE=%q is no folder with a source package; .ci/run fetches one", dir)
		}
		return ok, nil
	case "git":
		have, err := scriptGitVersion()
		if err != nil {
			return false, err
		}
		want, err := scriptVersion(arg)
		if err != nil {
			return false, err
		}
		return have[0] > want[0] || have[0] == want[0] && have[1] >= want[1], nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

var scriptHasUserns = sync.OnceValue(func() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/tmp").Run() == nil
})

var scriptGitVersion = sync.OnceValues(func() ([2]int, error) {
	out, err := exec.Command("git", "--version").Output()
	if err != nil {
		return [2]int{}, fmt.Errorf("cannot tell git's version: %w", err)
	}
	return scriptVersion(strings.TrimPrefix(string(out), "git version "))
})

// scriptVersion reads the first two numbers of a version.
func scriptVersion(s string) (v [2]int, err error) {
	parts := strings.SplitN(strings.TrimSpace(s), ".", 3)
	if len(parts) < 2 {
		return v, fmt.Errorf("%q is not a version", s)
	}
	for i := range v {
		if v[i], err = strconv.Atoi(parts[i]); err != nil {
			return v, fmt.Errorf("%q is not a version", s)
		}
	}
	return v, nil
}

// scriptUser is the ordinary user that the scripts run as when root runs them.
const scriptUser = "rcc-test"

// TestScriptsAsUser runs the scripts again as an ordinary user, when root runs
// the tests. The user and a copy of all that is needed are made for it.
func TestScriptsAsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("TestScripts has run them as an ordinary user")
	}
	want := len(testTrees) * len(scriptFiles(t))
	bin, err := testBinDir()
	if err != nil {
		t.Fatal(err)
	}
	account := makeScriptUser(t)
	uid, gid := accountIDs(t, account)

	// The same folders as in the source, where every user can read them.
	dir, err := os.MkdirTemp("/var/tmp", "rcc-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	test := filepath.Join(dir, "cmd/rcc/rcc.test")
	tmp := filepath.Join(dir, "tmp")
	for _, err := range []error{
		os.Chmod(dir, 0o755),
		scriptCopy(self, test),
		scriptCopy(bin, filepath.Join(dir, "bin")),
		scriptCopy("../../testdata", filepath.Join(dir, "testdata")),
		os.Mkdir(tmp, 0o700),
		os.Chown(tmp, uid, gid),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}

	source := os.Getenv("RCC_TEST_SOURCE")
	if source != "" {
		if err := scriptCopy(source, filepath.Join(dir, "source")); err != nil {
			t.Fatal(err)
		}
		source = filepath.Join(dir, "source")
	}

	remote := ""
	if scriptHasNix() == nil {
		remote = startNixDaemon(t, dir, uid, gid)
	}

	limit := 10 * time.Minute
	if deadline, ok := t.Deadline(); ok {
		limit = time.Until(deadline) - 10*time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, test, "-test.run=^TestScripts$", "-test.v="+strconv.FormatBool(testing.Verbose()),
		"-test.timeout="+limit.String(), "-test.parallel="+strconv.Itoa(runtime.NumCPU()))
	cmd.Dir = filepath.Dir(test)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + account.HomeDir, "USER=" + scriptUser, "LOGNAME=" + scriptUser, "LANG=C.UTF-8",
		"TMPDIR=" + tmp,
		"RCC_TEST_BIN=" + filepath.Join(dir, "bin"),
		"RCC_REQUIRE=" + os.Getenv("RCC_REQUIRE"),
		"RCC_SCRIPTS=" + os.Getenv("RCC_SCRIPTS"),
		"RCC_TEST_SOURCE=" + source,
		"RCC_TEST_NIX=" + remote,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, // no supplementary groups
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	pr, pw := io.Pipe()
	cmd.Stdout, cmd.Stderr = pw, pw
	ran := make(chan [2]int, 1)
	go func() {
		var got [2]int // scripts, uid
		lines := bufio.NewScanner(pr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			t.Logf("%s: %s", scriptUser, lines.Text())
			fmt.Sscanf(lines.Text()+"\n", ranFormat, &got[0], &got[1])
		}
		io.Copy(io.Discard, pr)
		ran <- got
	}()
	err = cmd.Run()
	pw.Close()
	if got := <-ran; err != nil {
		t.Errorf("the scripts fail as %s: %v", scriptUser, err)
	} else if got != [2]int{want, uid} {
		t.Errorf("%d scripts ran with uid %d; want %d with %d", got[0], got[1], want, uid)
	}
}

// makeScriptUser finds or makes the ordinary user. One made here is removed again.
func makeScriptUser(t *testing.T) *user.User {
	t.Helper()
	if account, err := user.Lookup(scriptUser); err == nil {
		return account
	}
	if _, err := exec.LookPath("useradd"); err != nil {
		lacking(t, "exec:useradd")
	}
	if out, err := exec.Command("useradd", "--create-home", "--user-group", "--shell", "/bin/bash", scriptUser).CombinedOutput(); err != nil {
		t.Fatalf("cannot make the user %s: %v\n%s", scriptUser, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("userdel", "--remove", scriptUser).CombinedOutput(); err != nil {
			t.Logf("cannot remove the user %s again: %v\n%s", scriptUser, err, out)
		}
	})
	account, err := user.Lookup(scriptUser)
	if err != nil {
		t.Fatal(err)
	}
	return account
}

// scriptCopy copies a file or a folder so that everybody can read it.
func scriptCopy(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case entry.IsDir():
			err = os.MkdirAll(dst, 0o755)
		case entry.Type() == fs.ModeSymlink:
			var target string
			if target, err = os.Readlink(path); err == nil {
				return os.Symlink(target, dst)
			}
		case entry.Type().IsRegular():
			err = scriptCopyFile(path, dst)
		default:
			return nil
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return os.Chmod(dst, info.Mode().Perm()|0o444|info.Mode().Perm()&0o100>>3|info.Mode().Perm()&0o100>>6)
	})
}

func scriptCopyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
