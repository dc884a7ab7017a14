package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A scriptCmd is a command of the scripts. It gives an error where testscript's
// own form would end the script, so that eventually can try again.
type scriptCmd func(ts *testscript.TestScript, args []string) error

// errScriptUsage is an error in the script: neither "!" nor another try helps.
type errScriptUsage string

func (e errScriptUsage) Error() string { return "usage: " + string(e) }

// scriptCmds are the commands beside those of testscript. "!" may stand before
// samefingerprint, json, noprocess, nomounts and probes.
//
//	status N PROGRAM [ARG...]      the program ends with exactly this status
//	gitrepo DIR                    make DIR a repository, commit what is in it
//	flakerepo DIR [FLAKE]          copy testdata/flakes/FLAKE (project) to DIR, where files
//	                               that are there stay, and make it a repository;
//	                               $NONCE is what its shellHook writes to /tmp/hook-$NONCE
//	fingerprint NAME DIR           write the fingerprint of a checkout to $WORK/NAME
//	samefingerprint A B            two fingerprints are the same
//	json FILE PATH [VALUE]         FILE (or stdout) has this value there; see scriptJSON
//	json -set VAR FILE PATH        put the value into an environment variable
//	noprocess TEXT                 no process has TEXT in its command line
//	nomounts TEXT                  no mount has TEXT in its line of mountinfo
//	                               (both, and their negation, wait up to 5 s)
//	eventually SECONDS [!] CMD...  repeat until it succeeds: one of these, exists,
//	                               grep REGEXP FILE, or exec PROGRAM [ARG...]
//	pty …                          a program on a terminal of its own; see scriptPtyCmd
//	killpart NAME TEXT             kill (9) the sandbox's process NAME (rcc-gate, rcc-keeper) below the
//	                               one with TEXT in its command line
//	world …                        networks of the script's own; see scriptWorld
//	probes FILE                    attacks on the network, outside and inside; see scriptProbes
func scriptCmds() map[string]func(*testscript.TestScript, bool, []string) {
	out := map[string]func(*testscript.TestScript, bool, []string){
		"status":      plainScriptCmd("status", scriptStatus),
		"gitrepo":     plainScriptCmd("gitrepo", scriptGitrepo),
		"flakerepo":   plainScriptCmd("flakerepo", scriptFlakerepo),
		"fingerprint": plainScriptCmd("fingerprint", scriptFingerprint),
		"eventually":  plainScriptCmd("eventually", scriptEventually),
		"pty":         plainScriptCmd("pty", scriptPtyCmd),
		"killpart":    plainScriptCmd("killpart", scriptKillPart),
		"world":       plainScriptCmd("world", scriptWorld),
	}
	for name, cmd := range negatableScriptCmds {
		out[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if err := cmd(ts, neg, args); err != nil {
				ts.Fatalf("%s: %v", name, err)
			}
		}
	}
	return out
}

// negatableScriptCmds may stand after "!".
var negatableScriptCmds = map[string]func(ts *testscript.TestScript, neg bool, args []string) error{
	"samefingerprint": negatableScript(scriptSameFingerprint),
	"json":            negatableScript(scriptJSON),
	"probes":          negatableScript(scriptProbes),
	"noprocess":       scriptNoProcess,
	"nomounts":        scriptNoMounts,
}

// plainScriptCmd makes a command that cannot be negated.
func plainScriptCmd(name string, run scriptCmd) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("unsupported: ! %s", name)
		}
		if err := run(ts, args); err != nil {
			ts.Fatalf("%s: %v", name, err)
		}
	}
}

// negatableScript makes a command whose failure is what "!" asks for.
func negatableScript(run scriptCmd) func(*testscript.TestScript, bool, []string) error {
	return func(ts *testscript.TestScript, neg bool, args []string) error {
		return negateScript(neg, run(ts, args))
	}
}

// negateScript turns success and failure round, but for errors in the script itself.
func negateScript(neg bool, err error) error {
	var usage errScriptUsage
	switch {
	case !neg || errors.As(err, &usage):
		return err
	case err == nil:
		return errors.New("it holds, and should not")
	}
	return nil
}

func scriptStatus(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errScriptUsage("status N PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return errScriptUsage("status N PROGRAM [ARG...]")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !exit.Exited() {
			return err
		}
		got = exit.ExitCode()
	}
	if got != want {
		return fmt.Errorf("%s ended with status %d, want %d", args[1], got, want)
	}
	return nil
}

func scriptGitrepo(ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errScriptUsage("gitrepo DIR")
	}
	dir := ts.MkAbs(args[0])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"init", "-q"},
		{"add", "-A"},
		{"commit", "-q", "--allow-empty", "-m", "first"},
	} {
		if err := ts.Exec("git", append([]string{"-C", dir}, args...)...); err != nil {
			return fmt.Errorf("git %s: %w", args[0], err)
		}
	}
	return nil
}

// scriptFingerprint writes down everything about a checkout that rcc must not change
// before a merge: each file of it, and the git directory but for the objects and
// the branches rcc/*.
func scriptFingerprint(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errScriptUsage("fingerprint NAME DIR")
	}
	lines, err := fingerprintOf(ts.MkAbs(args[1]))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(ts.Getenv("WORK"), args[0]), []byte(strings.Join(lines, "")), 0o644)
}

func fingerprintOf(dir string) ([]string, error) {
	lines, err := fingerprintTreeOf("checkout", dir, func(rel string, isDir bool) bool { return rel == ".git" && isDir })
	if err != nil {
		return nil, err
	}
	gitDir := filepath.Join(dir, ".git")
	switch info, err := os.Lstat(gitDir); {
	case err != nil: // a bare repository
		if _, err := os.Stat(filepath.Join(dir, "objects")); err != nil {
			return nil, fmt.Errorf("%s is not a repository", dir)
		}
		lines, gitDir = nil, dir
	case info.Mode().IsRegular(): // a linked worktree: its own directory, then the shared one
		data, err := os.ReadFile(gitDir)
		if err != nil {
			return nil, err
		}
		gitDir = strings.TrimSpace(strings.TrimPrefix(string(data), "gitdir:"))
		if !filepath.IsAbs(gitDir) {
			gitDir = filepath.Join(dir, gitDir)
		}
		own, err := fingerprintTreeOf("worktree", gitDir, func(string, bool) bool { return false })
		if err != nil {
			return nil, err
		}
		lines = append(lines, own...)
		if data, err := os.ReadFile(filepath.Join(gitDir, "commondir")); err == nil {
			gitDir = filepath.Join(gitDir, strings.TrimSpace(string(data)))
		}
	}
	shared, err := fingerprintTreeOf("git", gitDir, func(rel string, isDir bool) bool {
		switch rel {
		case "objects", "worktrees", "packed-refs", "refs/heads/rcc", "logs/refs/heads/rcc":
			return true
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	lines = append(lines, shared...)
	for _, name := range []string{"alternates", "http-alternates"} {
		if data, err := os.ReadFile(filepath.Join(gitDir, "objects/info", name)); err == nil {
			lines = append(lines, fmt.Sprintf("git objects/info/%s %q\n", name, data))
		}
	}
	if data, err := os.ReadFile(filepath.Join(gitDir, "packed-refs")); err == nil {
		for line := range strings.Lines(string(data)) {
			if !strings.Contains(line, " refs/heads/rcc/") && !strings.HasPrefix(line, "#") {
				lines = append(lines, "git packed-refs "+strings.TrimSuffix(line, "\n")+"\n")
			}
		}
	}
	return lines, nil
}

// fingerprintTreeOf gives one line for each entry below dir that is not left out.
func fingerprintTreeOf(label, dir string, leaveOut func(rel string, isDir bool) bool) ([]string, error) {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if leaveOut(rel, entry.IsDir()) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		content, err := "-", error(nil)
		switch {
		case info.Mode().IsRegular():
			content, err = fingerprintFile(path, info.Size())
		case info.Mode()&fs.ModeSymlink != 0:
			content, err = os.Readlink(path)
			content = "-> " + strconv.Quote(content)
		}
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		lines = append(lines, fmt.Sprintf("%s %s %d:%d %q %s\n", label, info.Mode(), stat.Uid, stat.Gid, rel, content))
		return nil
	})
	return lines, err
}

func fingerprintFile(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %x", size, h.Sum(nil)), nil
}

func scriptSameFingerprint(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 || args[0] == args[1] {
		return errScriptUsage("samefingerprint A B")
	}
	var lines [2][]string
	for i, name := range args {
		data, err := os.ReadFile(filepath.Join(ts.Getenv("WORK"), name))
		if err != nil || len(data) == 0 {
			return errScriptUsage(fmt.Sprintf("samefingerprint A B: there is no fingerprint %s: %v", name, err))
		}
		lines[i] = slices.Collect(strings.Lines(string(data)))
	}
	var diff strings.Builder
	for i, sign := range []string{"-", "+"} {
		other := map[string]bool{}
		for _, line := range lines[1-i] {
			other[line] = true
		}
		for _, line := range lines[i] {
			if !other[line] && diff.Len() < 8<<10 {
				diff.WriteString(sign + line)
			}
		}
	}
	if diff.Len() == 0 && len(lines[0]) == len(lines[1]) {
		return nil
	}
	return fmt.Errorf("%s and %s differ:\n%s", args[0], args[1], &diff)
}

// scriptJSON looks a value up in a JSON document, or in JSON lines, which are taken
// as an array. A path is keys and indexes: .0.state, .-1.event (from the end),
// .files.# (how many), or . alone. A VALUE is a string's text or other values'
// JSON; ~REGEXP matches; without one it is enough that the value is there.
func scriptJSON(ts *testscript.TestScript, args []string) error {
	const usage = errScriptUsage("json [-set VAR] FILE PATH [VALUE]")
	set := ""
	if len(args) > 1 && args[0] == "-set" {
		set, args = args[1], args[2:]
	}
	if len(args) < 2 || len(args) > 3 || set != "" && len(args) == 3 || !strings.HasPrefix(args[1], ".") {
		return usage
	}
	var values []any
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	dec.UseNumber()
	for {
		var v any
		if err := dec.Decode(&v); err == io.EOF {
			break
		} else if err != nil {
			return errScriptUsage(fmt.Sprintf("json: %s is not JSON: %v", args[0], err))
		}
		values = append(values, v)
	}
	var v any = values
	if len(values) == 1 {
		v = values[0]
	}
	for key := range strings.SplitSeq(args[1][1:], ".") {
		if key == "" {
			continue
		}
		var err error
		if v, err = scriptJSONStep(v, key); err != nil {
			return fmt.Errorf("%s: %w in %s", args[1], err, scriptJSONText(values))
		}
	}
	got := scriptJSONText(v)
	switch {
	case set != "":
		ts.Setenv(set, got)
	case len(args) == 2:
	case strings.HasPrefix(args[2], "~"):
		re, err := regexp.Compile(args[2][1:])
		if err != nil {
			return errScriptUsage(err.Error())
		}
		if !re.MatchString(got) {
			return fmt.Errorf("%s is %s, which does not match %s", args[1], got, re)
		}
	case got != args[2]:
		return fmt.Errorf("%s is %s, want %s", args[1], got, args[2])
	}
	return nil
}

func scriptJSONStep(v any, key string) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		if key == "#" {
			return json.Number(strconv.Itoa(len(v))), nil
		}
		if out, ok := v[key]; ok {
			return out, nil
		}
	case []any:
		if key == "#" {
			return json.Number(strconv.Itoa(len(v))), nil
		}
		i, err := strconv.Atoi(key)
		if i < 0 {
			i += len(v)
		}
		if err == nil && i >= 0 && i < len(v) {
			return v[i], nil
		}
	}
	return nil, fmt.Errorf("there is no %q", key)
}

func scriptJSONText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func scriptNoProcess(_ *testscript.TestScript, neg bool, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errScriptUsage("noprocess TEXT")
	}
	return scriptWaitGone(neg, func() string {
		return scriptProcesses(func(pid int) bool { return strings.Contains(scriptCmdline(pid), args[0]) })
	})
}

func scriptNoMounts(_ *testscript.TestScript, neg bool, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errScriptUsage("nomounts TEXT")
	}
	text := regexp.MustCompile(regexp.QuoteMeta(args[0]))
	return scriptWaitGone(neg, func() string { return scriptMounts(text) })
}

// scriptWaitGone waits until nothing is left or, negated, until something is there.
func scriptWaitGone(neg bool, list func() string) error {
	var last string
	scriptWaitFor(5*time.Second, func() string {
		last = list()
		if (last == "") != neg {
			return ""
		}
		return "again"
	})
	switch {
	case neg && last == "":
		return errors.New("there is none, and should be")
	case !neg && last != "":
		return fmt.Errorf("there is still\n%s", last)
	}
	return nil
}

// scriptPids are the processes of this machine, without the test itself.
func scriptPids() (out []int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid != os.Getpid() {
			out = append(out, pid)
		}
	}
	return out
}

// scriptCmdline is a process's command line with spaces; empty for a zombie.
func scriptCmdline(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.TrimSpace(strings.ReplaceAll(string(data), "\x00", " "))
}

// scriptProcesses lists the processes that want picks, a line for each.
func scriptProcesses(want func(pid int) bool) string {
	var b strings.Builder
	for _, pid := range scriptPids() {
		if want(pid) {
			fmt.Fprintf(&b, "%d %s\n", pid, scriptCmdline(pid))
		}
	}
	return b.String()
}

// scriptMounts gives the lines of mountinfo that match.
func scriptMounts(match *regexp.Regexp) string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		if match.MatchString(line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// scriptWaitFor asks until nothing is left or the time is over, and gives what is left.
func scriptWaitFor(limit time.Duration, left func() string) string {
	end := time.Now().Add(limit)
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		out := left()
		if out == "" || time.Now().After(end) {
			return out
		}
		time.Sleep(pause)
	}
}

func scriptEventually(ts *testscript.TestScript, args []string) error {
	const usage = errScriptUsage("eventually SECONDS [!] CMD [ARG...]")
	if len(args) < 2 {
		return usage
	}
	limit, err := strconv.ParseFloat(args[0], 64)
	if err != nil || limit <= 0 || limit > 600 {
		return usage
	}
	args = args[1:]
	neg := args[0] == "!"
	if neg {
		args = args[1:]
	}
	if len(args) == 0 {
		return usage
	}
	var run func(*testscript.TestScript, bool, []string) error
	switch args[0] {
	case "exec":
		run = negatableScript(func(ts *testscript.TestScript, args []string) error {
			if len(args) == 0 {
				return usage
			}
			return ts.Exec(args[0], args[1:]...)
		})
	case "exists":
		run = negatableScript(scriptExists)
	case "grep":
		run = negatableScript(scriptGrep)
	case "status":
		run = negatableScript(scriptStatus)
	default:
		if run = negatableScriptCmds[args[0]]; run == nil {
			return errScriptUsage("eventually cannot repeat " + args[0] + "; programs come after exec")
		}
	}
	var last error
	scriptWaitFor(time.Duration(limit*float64(time.Second)), func() string {
		var badScript errScriptUsage
		last = run(ts, neg, args[1:])
		// A document that is not complete yet is no error in the script.
		if last == nil || errors.As(last, &badScript) && !strings.Contains(last.Error(), "is not JSON") {
			return ""
		}
		return "again"
	})
	if last != nil {
		return fmt.Errorf("not within %s s: %w", strconv.FormatFloat(limit, 'g', -1, 64), last)
	}
	return nil
}

func scriptExists(ts *testscript.TestScript, args []string) error {
	if len(args) == 0 {
		return errScriptUsage("exists FILE...")
	}
	for _, file := range args {
		if _, err := os.Lstat(ts.MkAbs(file)); err != nil {
			return err
		}
	}
	return nil
}

func scriptGrep(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errScriptUsage("grep REGEXP FILE")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	if err != nil {
		return errScriptUsage(err.Error())
	}
	data, err := os.ReadFile(ts.MkAbs(args[1]))
	if err != nil {
		return err
	}
	if !re.Match(data) {
		return fmt.Errorf("%s does not match %s:\n%s", args[1], args[0], data)
	}
	return nil
}
