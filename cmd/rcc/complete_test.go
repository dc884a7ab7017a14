package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// completeCLI is a command line with one of everything that completion knows.
type completeCLI struct {
	Verbose bool `short:"v"`

	Task struct {
		Prompt string  `arg:"" optional:""`
		Tree   string  `enum:"auto,checkout," default:""`
		Base   string  `short:"b"`
		Dirty  *bool   `negatable:""`
		Secret *string `hidden:""`
	} `cmd:""`
	Diff struct {
		ID   string `arg:""`
		Stat bool
	} `cmd:""`
	Discard struct {
		ID []string `arg:"" name:"id"`
	} `cmd:"" aliases:"forget"`
	Completion struct {
		Shell string `arg:"" enum:"bash,zsh,fish"`
	} `cmd:""`
	Hidden struct{} `cmd:"" hidden:"" name:"__complete"`
}

func completeModel(t testing.TB) *kong.Application {
	t.Helper()
	app, err := kong.New(&completeCLI{}, kong.Name("rcc"))
	if err != nil {
		t.Fatal(err)
	}
	return app.Model
}

// hostileIDs are no ids: nothing of them may ever be a candidate.
var hostileIDs = []string{"$(touch pwned)", "`touch pwned`", "fix;touch pwned", "fix tests", "fix\ntests", "-fix", "fix'x", `fix"x`, "fix\x1b[0m", "fix&", "fix|x", "fix\t"}

func TestComplete(t *testing.T) {
	model := completeModel(t)
	ids := func() []string { return append([]string{"fix-a", "fix-b", "docs"}, hostileIDs...) }
	for _, tt := range []struct{ words, want string }{
		{"", "task diff discard completion"},
		{"d", "diff discard"},
		{"_", ""},
		{"diff ", "fix-a fix-b docs"},
		{"diff f", "fix-a fix-b"},
		{"diff $", ""},
		{"diff x", ""},
		{"diff fix-a ", ""},
		{"diff --stat f", "fix-a fix-b"},
		{"-v diff f", "fix-a fix-b"},
		{"diff --s", "--stat"},
		{"discard fix-a ", "fix-b docs"},
		{"discard fix-a fix-b d", "docs"},
		{"forget ", "fix-a fix-b docs"},
		{"completion ", "bash zsh fish"},
		{"completion z", "zsh"},
		{"task -", "--help --verbose --tree --base --dirty"},
		{"task --t", "--tree"},
		{"task --se", ""},
		{"task --tree ", "auto checkout"},
		{"task --tree c", "checkout"},
		{"task --tree=c", "--tree=checkout"},
		{"task --tree=", "--tree=auto --tree=checkout"},
		{"task --tree = c", "checkout"},
		{"task --tree =", "auto checkout"},
		{"task --dirty=", ""},
		{"task --nothing=", ""},
		{"task --base ", ""},
		{"task -b diff ", ""},
		{"task ", ""},
		{"task diff ", ""},
		{"task prompt -- ", ""},
		{"task prompt -- diff ", ""},
		{"diff -- ", ""},
		{"nothing ", ""},
	} {
		got := strings.Join(Complete(model, strings.Split(tt.words, " "), ids), " ")
		if got != tt.want {
			t.Errorf("rcc %s: %q, want %q", tt.words, got, tt.want)
		}
	}
	if got := Complete(model, nil, ids); !slices.Contains(got, "diff") {
		t.Errorf("no words at all: %q", got)
	}
	Complete(model, []string{"task", "--tree", ""}, func() []string { t.Error("ids were asked for without need"); return nil })
}

func TestCompletionScript(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := CompletionScript(shell)
		if err != nil || !strings.Contains(script, "__complete --") {
			t.Errorf("%s: %v", shell, err)
		}
		if strings.Contains(script, "eval") || strings.Contains(script, "compgen -W") {
			t.Errorf("the script for %s evaluates what it gets", shell)
		}
	}
	_, err := CompletionScript("tcsh\n")
	if err == nil || !strings.Contains(err.Error(), "bash, zsh and fish") {
		t.Errorf("an unknown shell: %v", err)
	} else {
		checkOneLine(t, err)
	}
}

func FuzzComplete(f *testing.F) {
	for _, s := range []string{"", "diff f", "task --tree = c", "discard a b ", "task -- x", "-v -b", "--=", "=", "-"} {
		f.Add(s, "fix-a\nfix-b")
	}
	model := completeModel(f)
	f.Fuzz(func(t *testing.T, words, ids string) {
		for _, c := range Complete(model, strings.Split(words, " "), func() []string { return strings.Split(ids, "\n") }) {
			name, value, assigned := strings.Cut(strings.TrimPrefix(c, "--"), "=")
			if CheckID(name) != nil || assigned && CheckID(value) != nil {
				t.Errorf("candidate %q", c)
			}
		}
	})
}

// shellStub is "rcc" for the tests in real shells: the words that come in are
// written to a log, and lines that would be code go out, which the real rcc
// never prints: the scripts must be safe on their own.
const shellStub = `#!/bin/sh
if [ "$1 $2" != "__complete --" ]; then
	printf 'ran:'; printf '<%s>' "$@"; echo
	exit
fi
shift 2
for last; do :; done
{ printf '<%s>' "$@"; echo; } >>"$COMPLETE_LOG"
case $last in
fix*) printf '%s\n' fix-a fix-b ;;
one*) echo one-only ;;
evil-1*) echo 'evil-1$(touch pwned)' ;;
evil-2*) echo 'evil-2;touch pwned' ;;
evil-3*) echo 'evil-3` + "`touch pwned`" + `' ;;
evil-4*) echo "evil-4'\"&touch pwned" ;;
--tree=*) echo --tree=checkout ;;
ch*) echo checkout ;;
esac
`

// setUpShell gives a folder with the stub and the script, and a function that
// runs a shell in it; the output of both streams comes back.
func setUpShell(t *testing.T, shell string) (dir string, run func(args ...string) string, log func() string) {
	t.Helper()
	path, err := exec.LookPath(shell)
	if err != nil {
		lacking(t, "exec:"+shell)
	}
	script, err := CompletionScript(shell)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	bin := filepath.Join(dir, "bin")
	work := filepath.Join(dir, "work")
	for _, err := range []error{
		os.Mkdir(bin, 0o755), os.Mkdir(work, 0o755),
		os.WriteFile(filepath.Join(bin, "rcc"), []byte(shellStub), 0o755),
		os.WriteFile(filepath.Join(dir, "script"), []byte(script), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	run = func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Dir = work
		cmd.Env = shellEnv(dir)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", shell, err, out)
		}
		if _, err := os.Stat(filepath.Join(work, "pwned")); err == nil {
			t.Fatalf("%s ran a candidate as code; its output:\n%s", shell, out)
		}
		return string(out)
	}
	log = func() string {
		data, _ := os.ReadFile(dir + "/log")
		os.Remove(dir + "/log")
		return string(data)
	}
	return dir, run, log
}

func shellEnv(dir string) []string {
	return []string{
		"PATH=" + dir + "/bin:/usr/local/bin:/usr/bin:/bin", "HOME=" + dir, "LANG=C.UTF-8", "TERM=dumb",
		"COMPLETE_LOG=" + dir + "/log", "SCRIPT=" + dir + "/script",
	}
}

func TestCompletionInBash(t *testing.T) {
	_, run, log := setUpShell(t, "bash")
	complete := func(words ...string) string {
		t.Helper()
		const driver = `source "$SCRIPT"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rcc; printf '<%s>' "${COMPREPLY[@]}"`
		return run(append([]string{"--norc", "-c", driver, "bash"}, words...)...)
	}
	for _, tt := range []struct {
		words     []string
		want, log string
	}{
		{[]string{"rcc", "diff", "fix"}, "<fix-a><fix-b>", "<diff><fix>\n"},
		{[]string{"rcc", "task", "--tree", "=", "ch"}, "<checkout>", "<task><--tree><=><ch>\n"},
		{[]string{"rcc", "diff", ""}, "<>", "<diff><>\n"},
		{[]string{"rcc", `$(touch`, `pwned)`}, "<>", "<$(touch><pwned)>\n"},
		{[]string{"rcc", "task", `"two words`}, "<>", "<task><\"two words>\n"},
	} {
		if got := complete(tt.words...); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.words, got, tt.want)
		}
		if got := log(); got != tt.log {
			t.Errorf("%q: rcc was given %q, want %q", tt.words, got, tt.log)
		}
	}
	tabInShell(t, "bash", "bash --norc --noprofile -i", `source "$SCRIPT"`)
}

func TestCompletionInFish(t *testing.T) {
	_, run, log := setUpShell(t, "fish")
	complete := func(line string) string {
		t.Helper()
		return run("--no-config", "-c", `source $SCRIPT; complete -C "$argv[1]"`, line)
	}
	for _, tt := range []struct{ line, want, log string }{
		{"rcc diff fix", "fix-a\nfix-b\n", "<diff><fix>\n"},
		{"rcc task --tree=c", "--tree=checkout\n", "<task><--tree=c>\n"},
		{"rcc diff '$(touch pwned)' fix", "fix-a\nfix-b\n", "<diff><$(touch pwned)><fix>\n"},
	} {
		if got := complete(tt.line); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.line, got, tt.want)
		}
		if got := log(); got != tt.log {
			t.Errorf("%q: rcc was given %q, want %q", tt.line, got, tt.log)
		}
	}
	if got := complete("rcc diff evil-1"); !strings.Contains(got, "touch pwned") {
		t.Errorf("hostile candidates: %q", got)
	}
	if got := complete("rcc task x -- /et"); !strings.Contains(got, "/etc/") {
		t.Errorf("files after --: %q", got)
	}
	if got := complete("rcc diff /et"); strings.Contains(got, "/etc/") {
		t.Errorf("files in place of ids: %q", got)
	}
	tabInShell(t, "fish", "fish --no-config -i", `function fish_prompt; echo "> "; end`, `source $SCRIPT`)
}

func TestCompletionInZsh(t *testing.T) {
	dir, run, _ := setUpShell(t, "zsh")
	run("-f", "-n", dir+"/script")
	tabInShell(t, "zsh", "zsh -f -i", `autoload -Uz compinit; compinit -u -D`, `source "$SCRIPT"`)

	// The script is as good as a file of fpath.
	tabInShell(t, "zsh", "zsh -f -i", `mkdir ../fpath; cp "$SCRIPT" ../fpath/_rcc; fpath=(../fpath $fpath); autoload -Uz compinit; compinit -u -D`)
}

// tabInShell types on a terminal: TAB completes a word, and what it put on the
// line is one argument of the program when Enter runs it, code or not.
func tabInShell(t *testing.T, shell, command string, setUp ...string) {
	t.Helper()
	dir, _, log := setUpShell(t, shell)
	fields := strings.Fields(command)
	cmd := exec.Command(fields[0], fields[1:]...)
	cmd.Dir = filepath.Join(dir, "work")
	cmd.Env = shellEnv(dir)
	p, err := startOnPty(cmd, "160x50")
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	// typeIn sends keys and waits until the shell shows what is wanted.
	typeIn := func(keys, want string) {
		t.Helper()
		if _, err := p.master.WriteString(keys); err != nil {
			t.Fatal(err)
		}
		if err := p.expectText(want, 20*time.Second); err != nil {
			t.Fatalf("%s after %q: %v", command, keys, err)
		}
	}
	for i, line := range setUp {
		typeIn(fmt.Sprintf("%s; echo 'rea''dy'-%d\r", line, i), fmt.Sprintf("ready-%d", i)) // not what the terminal echoes
	}
	typeIn("rcc task --tree=ch\t\r", "ran:<task><--tree=checkout>")
	log()
	for _, tt := range []struct{ typed, ran string }{
		{"rcc diff one\t", "ran:<diff><one-only>"},
		{"rcc diff evil-1\t", "ran:<diff><evil-1$(touch pwned)>"},
		{"rcc diff evil-2\t", "ran:<diff><evil-2;touch pwned>"},
		{"rcc diff evil-3\t", "ran:<diff><evil-3`touch pwned`>"},
		{"rcc diff evil-4\t", `ran:<diff><evil-4'"&touch pwned>`},
	} {
		typeIn(tt.typed+"\r", tt.ran)
		if want := "<diff><" + strings.TrimSuffix(strings.TrimPrefix(tt.typed, "rcc diff "), "\t") + ">\n"; log() != want {
			t.Errorf("%s: rcc was not asked %q", command, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "work", "pwned")); err == nil {
		t.Errorf("%s ran a candidate as code:\n%q", command, p.output())
	}
}
