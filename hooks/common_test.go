package hooks

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Started as "rcc", the test binary is the stub that the hooks call, see stub_test.go.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "rcc" {
		os.Exit(stub(os.Args[1:]))
	}
	os.Exit(m.Run())
}

var allShells = []string{"bash", "zsh", "fish"}

// need finds a program. Missing, it is a skip that is told, or a failure where
// RCC_REQUIRE asks for it: all, or a list with exec:NAME.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	for what := range strings.SplitSeq(os.Getenv("RCC_REQUIRE"), ",") {
		if what == "all" || what == "exec:"+program {
			t.Fatalf("%s is not installed; RCC_REQUIRE=%s asks for it", program, os.Getenv("RCC_REQUIRE"))
		}
	}
	t.Skipf("skipped: %s is not installed", program)
	return ""
}

// forShells runs a test in each shell that there is.
func forShells(t *testing.T, f func(t *testing.T, shell string)) {
	for _, shell := range allShells {
		t.Run(shell, func(t *testing.T) {
			need(t, shell)
			f(t, shell)
		})
	}
}

// plainArgs start a shell without the user's configuration.
func plainArgs(shell string) []string {
	return map[string][]string{
		"bash": {"--norc", "--noprofile"},
		"zsh":  {"-f"},
		"fish": {"--no-config"},
	}[shell]
}

// A live shell evaluates lines of code, one at a time, as eval "$(…)" does.
type live struct {
	in  io.WriteCloser
	out *bufio.Reader
	cmd *exec.Cmd
}

func startLive(t testing.TB, shell string, environ []string) *live {
	t.Helper()
	loop := `while IFS= read -r line; do eval "$line"; done`
	switch shell {
	case "zsh":
		loop = `while IFS= read -r line; do eval $line; done`
	case "fish":
		loop = `while read -l line; eval $line; end`
	}
	cmd := exec.Command(need(t, shell), append(plainArgs(shell), "-c", loop)...)
	cmd.Env, cmd.Stderr = environ, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := &live{in, bufio.NewReader(out), cmd}
	t.Cleanup(func() {
		in.Close()
		timer := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
	})
	return l
}

// print evaluates words in printf and returns what they stand for.
func (l *live) print(t testing.TB, words ...string) []string {
	t.Helper()
	fmt.Fprintf(l.in, "printf '%%s\\0' %s\n", strings.Join(words, " "))
	var got []string
	for range words {
		s, err := l.out.ReadString(0)
		if err != nil {
			t.Fatalf("the shell ended: %v", err)
		}
		got = append(got, strings.TrimSuffix(s, "\x00"))
	}
	return got
}

// runCode runs pieces of code in a shell started with an environment, and
// returns the environment after each, as a program sees it.
func runCode(t testing.TB, shell string, environ []string, pieces ...func(environ []string) string) [][]string {
	t.Helper()
	dir := t.TempDir()
	env := need(t, "env")
	var got [][]string
	// Each piece is made from the environment that the one before it left: the
	// shell waits for the next line of a pipe.
	in, stdin := io.Pipe()
	args := append(plainArgs(shell), "-c", map[string]string{
		"bash": `while IFS= read -r f; do . "$f"; echo done; done`,
		"zsh":  `while IFS= read -r f; do . "$f"; echo done; done`,
		"fish": `while read -l f; source $f; echo done; end`,
	}[shell])
	cmd := exec.Command(need(t, shell), args...)
	var stderr bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stderr = environ, in, &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		stdin.Close()
		timer := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
	})
	defer end()
	lines := bufio.NewReader(stdout)
	now := environ
	for i, piece := range pieces {
		dump := filepath.Join(dir, fmt.Sprint("env", i))
		file := filepath.Join(dir, fmt.Sprint("code", i))
		code := piece(now) + "\n" + env + " -0 >" + dump + "\n"
		if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(stdin, file)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				end()
				t.Fatalf("the shell ended: %v\n%s\ncode:\n%s", err, &stderr, code)
			}
			if line == "done\n" {
				break
			}
		}
		data, err := os.ReadFile(dump)
		if err != nil {
			t.Fatal(err)
		}
		now = strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
		got = append(got, now)
	}
	if end(); stderr.Len() > 0 {
		t.Errorf("the shell says: %s", &stderr)
	}
	return got
}

// same compares environments without what shells set for themselves.
func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	g, w := toMap(got), toMap(want)
	names := sortedNames(g, w)
	if _, ok := g[StateVariable]; ok {
		names = append(names, StateVariable)
		if _, ok := w[StateVariable]; ok {
			names = names[:len(names)-1] // its value is compared elsewhere
		}
	}
	for _, name := range slices.Compact(names) {
		a, there := g[name]
		b, wanted := w[name]
		if there != wanted || a != b {
			t.Errorf("%s: %s is %q (set: %v), want %q (set: %v)", what, name, a, there, b, wanted)
		}
	}
}
