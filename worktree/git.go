package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Git runs the git program. It is the only place in rcc that starts it.
type Git struct {
	path   string   // absolute path of the program
	env    []string // complete; see gitEnviron
	mortal bool     // its processes die with us
	bare   bool     // it may find a bare repository that its working directory lies in
}

// outputCap bounds what one call may print into memory. The longest legitimate
// output is a list of paths or objects: two million lines of 64 bytes and more.
const outputCap = 512 << 20

// stderrCap bounds the part of standard error that is kept for the message.
const stderrCap = 16 << 10

// GitError is a git program that ended with a status other than 0.
type GitError struct {
	Args   []string // without the fixed options that every call carries
	Status int      // exit status; -1 when a signal or the time limit ended it
	Stderr string   // its end, at most 16 KiB
}

func (e *GitError) Error() string {
	msg := lastLine(e.Stderr)
	if msg == "" {
		msg = "status " + strconv.Itoa(e.Status)
	}
	return verb(e.Args) + ": " + msg
}

// verb is the command in git's arguments, as messages name it.
func verb(args []string) string {
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			return "git " + a
		}
	}
	return "git"
}

// NewGit finds git on the PATH of environ, in absolute entries only: a program
// named git in the current folder, or in a folder named by a relative entry,
// is not looked at. The version is asked for in the background and judged by
// the first Open, so that it costs no time of its own.
func NewGit(environ []string) (*Git, error) {
	path, ok := lookPath("git", getenv(environ, "PATH"))
	if !ok {
		return nil, errors.New("cannot find git on PATH: install it, for example: apt install git")
	}
	return &Git{path: path, env: gitEnviron(environ)}, nil
}

func lookPath(name, path string) (string, bool) {
	for dir := range strings.SplitSeq(path, ":") {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return file, true
		}
	}
	return "", false
}

// checkVersion refuses a git without merge-tree --write-tree (2.38,
// git-merge-tree(1)).
func (g *Git) checkVersion(ctx context.Context) error {
	out, err := g.run(ctx, call{dir: "/"}, "version")
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", g.path, err)
	}
	text := strings.TrimPrefix(strings.TrimSpace(string(out)), "git version ")
	part := strings.SplitN(text, ".", 3)
	if len(part) >= 2 {
		major, err1 := strconv.Atoi(part[0])
		minor, err2 := strconv.Atoi(part[1])
		if err1 == nil && err2 == nil && (major > 2 || major == 2 && minor >= 38) {
			return nil
		}
	}
	return fmt.Errorf("cannot use git %s: rcc needs 2.38 or newer, install a newer git", text)
}

// Version is what git says of itself, such as "2.39.5"; an error when that is
// too old for rcc.
func (g *Git) Version(ctx context.Context) (string, error) {
	if err := g.checkVersion(ctx); err != nil {
		return "", err
	}
	out, err := g.run(ctx, call{dir: "/"}, "version")
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "git version "), err
}

// Path is where the git program lies.
func (g *Git) Path() string { return g.path }

// call is one run of git. The zero value of each field is its default.
type call struct {
	dir    string        // absolute; git's working directory
	env    []string      // added to the runner's environment
	config []string      // further -c settings
	in     io.Reader     // default: empty
	out    io.Writer     // default: collected and returned, capped
	files  []*os.File    // descriptors 3 and up
	apart  bool          // in a process group of its own: ^C at the terminal does not reach it
	limit  time.Duration // how long it may take; 0: as long as ctx
}

// fixed is carried by every call: nothing that git would run or start on its
// own account. gc and maintenance would rewrite the user's object store;
// submodule.recurse would enter folders that are not ours to enter.
var fixed = []string{
	"--no-pager",
	"-c", "core.hooksPath=/dev/null",
	"-c", "core.fsmonitor=false",
	"-c", "gc.auto=0",
	"-c", "maintenance.auto=false",
	"-c", "submodule.recurse=false",
}

// Run runs git in dir, an absolute path, and returns its standard output.
func (g *Git) Run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	return g.run(ctx, call{dir: dir}, args...)
}

func (g *Git) run(ctx context.Context, c call, args ...string) ([]byte, error) {
	wait, err := g.start(ctx, &c, args...)
	if err != nil {
		return nil, err
	}
	err = wait()
	if buf, ok := c.out.(*capped); ok {
		if err == nil && buf.over {
			err = fmt.Errorf("%s: it printed more than %d MiB", verb(args), outputCap>>20)
		}
		return buf.Bytes(), err
	}
	return nil, err
}

// start begins a run; the function it returns must be called.
func (g *Git) start(ctx context.Context, c *call, args ...string) (func() error, error) {
	if !filepath.IsAbs(c.dir) {
		return nil, fmt.Errorf("%s: %q is not an absolute path", verb(args), c.dir)
	}
	cancel := context.CancelFunc(func() {})
	if c.limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, c.limit)
	}
	full := append([]string{}, fixed...)
	if !g.bare {
		// Anybody can commit a folder that git takes for a bare repository, whose
		// configuration names programs (git-config(1), safe.bareRepository; 2.38).
		full = append(full, "-c", "safe.bareRepository=explicit")
	}
	for _, kv := range c.config {
		full = append(full, "-c", kv)
	}
	cmd := exec.CommandContext(ctx, g.path, append(full, args...)...)
	cmd.Dir = c.dir
	cmd.Env = append(append([]string{}, g.env...), c.env...)
	cmd.Stdin = c.in
	if c.out == nil {
		c.out = &capped{max: outputCap}
	}
	cmd.Stdout = c.out
	stderr := &tail{max: stderrCap}
	cmd.Stderr = stderr
	cmd.ExtraFiles = c.files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: c.apart}
	if g.mortal {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	// A helper that git left behind may hold the pipes: do not wait for it for ever.
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("cannot start git: %w", err)
	}
	return func() error {
		defer cancel()
		return gitResult(ctx, cmd, args, stderr)
	}, nil
}

func gitResult(ctx context.Context, cmd *exec.Cmd, args []string, stderr *tail) error {
	err := cmd.Wait()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s did not end in time (%w)", verb(args), ctx.Err())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &GitError{Args: args, Status: exit.ExitCode(), Stderr: stderr.String()}
	}
	return fmt.Errorf("%s: %w", verb(args), err)
}

// status is the exit status in err: 0 for nil, -1 when git did not end by itself.
func status(err error) int {
	var ge *GitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ge):
		return ge.Status
	}
	return -1
}

func stderrOf(err error) string {
	var ge *GitError
	if errors.As(err, &ge) {
		return ge.Stderr
	}
	return ""
}

// keptGit are the variables of git's own (git(1), "Environment Variables")
// that a caller may set. All others that begin with GIT_ are dropped: they
// redirect where git reads and writes, or name programs for it to run.
var keptGit = []string{
	"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
	"GIT_AUTHOR_", "GIT_COMMITTER_", "GIT_SSL_",
	"GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM",
}

func gitEnviron(environ []string) []string {
	var env []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "GIT_") && !kept(name):
		case name == "LC_ALL", name == "LANGUAGE":
		default:
			env = append(env, kv)
		}
	}
	// A task has none of the replacements (git-replace(1)) of the user's: what
	// the host sees must be what the task sees.
	return append(env, "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_NO_REPLACE_OBJECTS=1", "LC_ALL=C")
}

func kept(name string) bool {
	for _, k := range keptGit {
		if name == k || strings.HasSuffix(k, "_") && strings.HasPrefix(name, k) {
			return true
		}
	}
	return false
}

// getenv is the last value of name in environ, as the C library's getenv of a
// new process would not be asked twice: later entries win in os/exec too.
func getenv(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			value = v
		}
	}
	return value
}

// capped collects up to max bytes and remembers that there was more. It goes
// on reading, so that the writer is not killed by a closed pipe.
type capped struct {
	buf  bytes.Buffer // not embedded: io.Copy would find its ReadFrom, and no bound
	max  int
	over bool
}

func (c *capped) Bytes() []byte { return c.buf.Bytes() }

func (c *capped) Write(p []byte) (int, error) {
	room := c.max - c.buf.Len()
	if len(p) > room {
		c.over = true
		c.buf.Write(p[:room])
		return len(p), nil
	}
	return c.buf.Write(p)
}

// tail keeps the last max bytes.
type tail struct {
	buf []byte
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.buf) }

// lastLine is the line of git's standard error that says what went wrong: the
// first that begins with fatal or error, else the last one.
func lastLine(text string) string {
	last := ""
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		for _, p := range []string{"fatal: ", "error: "} {
			if rest, ok := strings.CutPrefix(line, p); ok {
				return inert(rest)
			}
		}
		if line != "" {
			last = line
		}
	}
	return inert(last)
}
