package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// surroundings are what a command works in: passed on, never global.
type surroundings struct {
	dir     string // where rcc was started
	environ []string
	caller  []string // of a supervisor: the whole environment that it was given, for the user's own hooks
	stdin   *os.File
	stdout  *os.File
	stderr  *os.File
	dirs    dirs
}

func (e *surroundings) getenv(name string) string {
	for i := len(e.environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(e.environ[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// say tells the user a line on standard error.
func (e *surroundings) say(format string, args ...any) {
	fmt.Fprintf(e.stderr, "rcc: "+format+"\n", args...)
}

// passed are the caller's variables that a program in the sandbox finds as
// well: how to show text, and nothing that tells who or where the caller is.
var passed = []string{"TERM", "COLORTERM", "LANG", "LANGUAGE", "LC_*", "TZ", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"}

func passedEnv(environ []string) []string { return selectEnv(environ, passed) }

// supervised are those that a supervisor needs: to find git, the folders of
// rcc, and the user's git configuration. Keys and tokens that may stand in
// the caller's environment are not its business.
var supervised = append([]string{
	"HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
	"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_AUTHOR_*", "GIT_COMMITTER_*", "EMAIL", "GIT_CEILING_DIRECTORIES",
	"RCC_CRASH_AT", // read only by a build with the tag rcccrash
}, passed...)

func selectEnv(environ, names []string) []string {
	var out []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		for _, n := range names {
			if prefix, ok := strings.CutSuffix(n, "*"); n == name || ok && strings.HasPrefix(name, prefix) {
				out = append(out, e)
				break
			}
		}
	}
	return out
}

// userName is the caller's name, for /etc/passwd inside; root's tasks run as
// "agent".
func userName(env *surroundings) string {
	if os.Geteuid() == 0 {
		return "agent"
	}
	if f, err := os.Open("/etc/passwd"); err == nil {
		defer f.Close()
		uid := strconv.Itoa(os.Geteuid())
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if p := strings.Split(sc.Text(), ":"); len(p) > 3 && p[2] == uid && plainName(p[0]) {
				return p[0]
			}
		}
	}
	if n := env.getenv("USER"); plainName(n) {
		return n
	}
	return "user"
}

// plainName keeps what would break a line of /etc/passwd out of it.
func plainName(s string) bool {
	return s != "" && len(s) <= 32 && !strings.ContainsAny(s, ":/\n\r\t ")
}

// insideShell is the login shell inside: bash where the tools have it.
func insideShell() string {
	for _, s := range []string{"/bin/bash", "/usr/bin/bash"} {
		if _, err := os.Stat(s); err == nil {
			return s
		}
	}
	return "/bin/sh"
}

func readUpTo(r io.Reader, n int64) string {
	b, _ := io.ReadAll(io.LimitReader(r, n))
	io.Copy(io.Discard, r)
	return string(b)
}

// oneLine is an error as rcc shows it: what others said in it is made inert.
func oneLine(err error) string { return Inert(strings.TrimSpace(err.Error())) }
