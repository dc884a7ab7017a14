package worktree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Repo is a repository of the user's, seen from one of its checkouts.
type Repo struct {
	Path      string // where the tree stands inside the sandbox: the checkout's top folder, or the bare repository itself
	Top       string // top folder of the checkout; "" when bare
	GitDir    string // of this checkout
	CommonDir string // of the repository; the same for all its linked worktrees
	Format    string // "sha1" or "sha256"

	Bare         bool
	Shallow      bool
	Sparse       bool
	PartialClone bool

	git    *Git
	config config
	halt   func(step string) bool // tests only: stop a merge here as a SIGKILL would
}

// Open finds the repository that dir, an absolute path, lies in. The answer
// comes from one git process; the configuration and git's version are asked
// for at the same time.
func (g *Git) Open(ctx context.Context, dir string) (*Repo, error) {
	version := make(chan error, 1)
	go func() { version <- g.checkVersion(ctx) }()
	type listing struct {
		config config
		err    error
	}
	listed := make(chan listing, 1)
	go func() {
		c, err := g.readConfig(ctx, dir)
		listed <- listing{c, err}
	}()

	r, err := g.locate(ctx, dir)
	l := <-listed
	if err != nil && strings.Contains(stderrOf(err), bareRefused) {
		if r, err = g.locateBare(ctx, dir); err == nil {
			l.config, l.err = r.git.readConfig(ctx, dir)
		}
	}
	if verr := <-version; verr != nil {
		return nil, verr
	}
	if err != nil {
		return nil, err
	}
	if l.err != nil {
		return nil, fmt.Errorf("cannot read the git configuration: %w", l.err)
	}
	r.config = l.config
	r.Sparse = r.config.bool("core.sparsecheckout")
	r.PartialClone = r.config.promisor()
	return r, nil
}

// bareRefused is how git refuses to find a bare repository by itself (setup.c,
// setup_git_directory_gently).
const bareRefused = "cannot use bare repository"

// locateBare is locate for a bare repository. One that lies in a checkout, or in
// another bare repository, is refused: whoever commits can put it there, and its
// configuration names programs for git to run.
func (g *Git) locateBare(ctx context.Context, dir string) (*Repo, error) {
	free := *g
	free.bare = true
	r, err := free.locate(ctx, dir)
	if err != nil {
		return nil, err
	}
	if !r.Bare { // its configuration says so, and names a checkout
		return nil, fmt.Errorf("cannot use the repository at %s: it is a bare one that names a checkout; change to the checkout", quotePath(r.CommonDir))
	}
	above := filepath.Dir(r.CommonDir)
	_, err = g.run(ctx, call{dir: above}, "rev-parse", "--git-dir")
	if err == nil || !strings.Contains(stderrOf(err), "not a git repository") {
		return nil, fmt.Errorf("cannot use the repository at %s: it is a bare one inside of another repository, where anybody who commits can put it; move it out", quotePath(r.CommonDir))
	}
	return r, nil
}

func (g *Git) locate(ctx context.Context, dir string) (*Repo, error) {
	// --show-toplevel comes last: it is an error in a bare repository, and what
	// was printed before it stands.
	out, err := g.run(ctx, call{dir: dir}, "rev-parse", "--path-format=absolute",
		"--is-bare-repository", "--is-inside-git-dir", "--is-shallow-repository", "--show-object-format",
		"--absolute-git-dir", "--git-common-dir", "--show-toplevel")
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	bare := lines[0] == "true"
	switch {
	case err == nil && len(lines) == 7:
	case err != nil && len(lines) == 6 && bare:
	case err != nil && len(lines) == 6:
		return nil, fmt.Errorf("cannot start in %s: it is inside a git directory; change to the checkout", quotePath(dir))
	case err != nil && strings.Contains(stderrOf(err), bareRefused):
		return nil, err
	case err == nil || len(lines) > 6:
		return nil, fmt.Errorf("cannot use the repository at %s: its path has a line break; move it", quotePath(dir))
	default:
		return nil, openError(dir, err)
	}
	r := &Repo{git: g, Bare: bare, Shallow: lines[2] == "true", Format: lines[3]}
	if r.Format != "sha1" && r.Format != "sha256" {
		return nil, fmt.Errorf("cannot use the repository at %s: its object format %q is not known", quotePath(dir), inert(r.Format))
	}
	if r.GitDir, err = filepath.EvalSymlinks(lines[4]); err != nil {
		return nil, fmt.Errorf("cannot use the repository at %s: %w", quotePath(dir), err)
	}
	if r.CommonDir, err = filepath.EvalSymlinks(lines[5]); err != nil {
		return nil, fmt.Errorf("cannot use the repository at %s: %w", quotePath(dir), err)
	}
	// Paths are kept in JSON, which would change such bytes in silence.
	if !utf8.ValidString(strings.Join(lines, "")) {
		return nil, fmt.Errorf("cannot use the repository at %s: its path is not valid UTF-8; move it", quotePath(dir))
	}
	r.Path = r.CommonDir
	if !bare {
		if r.Top, err = filepath.EvalSymlinks(lines[6]); err != nil {
			return nil, fmt.Errorf("cannot use the checkout at %s: %w", quotePath(dir), err)
		}
		r.Path = r.Top
	}
	return r, nil
}

// NotRepositoryError tells that a folder is in no repository.
type NotRepositoryError struct{ Dir string }

func (e *NotRepositoryError) Error() string {
	return fmt.Sprintf("cannot find a git repository at %s: change to one, or make one: git init", quotePath(e.Dir))
}

// openError turns git's refusal into one line. For a repository that belongs
// to somebody else (safe.directory in git-config(1)) the mend is git's own.
func openError(dir string, err error) error {
	text := stderrOf(err)
	switch {
	case text == "":
		if _, serr := os.Stat(dir); serr != nil {
			return fmt.Errorf("cannot look for a repository in %s: %w", quotePath(dir), errors.Unwrap(serr))
		}
	case strings.Contains(text, "not a git repository"):
		return &NotRepositoryError{Dir: dir}
	case strings.Contains(text, "dubious ownership"):
		mend := "git config --global --add safe.directory " + dir
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "git config ") {
				mend = line
			}
		}
		return fmt.Errorf("cannot use the repository at %s: it belongs to another user; if you trust it: %s", quotePath(dir), inert(mend))
	}
	return fmt.Errorf("cannot use the repository at %s: %s", quotePath(dir), lastLine(text))
}

// Key is the name of the repository's folder in the state folder. It is the
// same for all linked worktrees of a repository.
func (r *Repo) Key() string {
	base := filepath.Base(r.CommonDir)
	if base == ".git" {
		base = filepath.Base(filepath.Dir(r.CommonDir))
	}
	base = strings.TrimSuffix(base, ".git")
	safe := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
			return c
		}
		return '-'
	}, base)
	safe = strings.TrimLeft(safe, ".-")
	if len(safe) > 48 {
		safe = safe[:48]
	}
	if safe == "" {
		safe = "repository"
	}
	sum := sha256.Sum256([]byte(r.CommonDir))
	return safe + "-" + hex.EncodeToString(sum[:4])
}

// dir is where git runs for this repository.
func (r *Repo) dir() string { return r.Path }

func (r *Repo) run(ctx context.Context, args ...string) ([]byte, error) {
	return r.git.run(ctx, call{dir: r.dir()}, args...)
}

// line runs git and returns its output without the line break.
func (r *Repo) line(ctx context.Context, args ...string) (string, error) {
	out, err := r.run(ctx, args...)
	return strings.TrimSuffix(string(out), "\n"), err
}

// config is the configuration that git has for a repository, all files
// included: keys as git prints them (section and name in lower case), values in
// order of precedence, the last one counts.
type config map[string][]string

func (g *Git) readConfig(ctx context.Context, dir string) (config, error) {
	out, err := g.run(ctx, call{dir: dir}, "config", "--list", "-z", "--includes")
	if err != nil {
		return nil, err
	}
	c := config{}
	for _, entry := range splitNul(out) {
		key, value, ok := strings.Cut(entry, "\n")
		if !ok {
			value = "true" // git-config(1): a name without a value is a true boolean
		}
		c[key] = append(c[key], value)
	}
	return c, nil
}

func (c config) get(key string) string {
	if v := c[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

func (c config) bool(key string) bool {
	switch strings.ToLower(c.get(key)) {
	case "true", "yes", "on", "1":
		return true
	}
	return false
}

func (c config) promisor() bool {
	if c.get("extensions.partialclone") != "" {
		return true
	}
	for key := range c {
		if strings.HasPrefix(key, "remote.") && strings.HasSuffix(key, ".promisor") && c.bool(key) {
			return true
		}
	}
	return false
}

// filterDrivers are the names of the filter drivers (gitattributes(5)) that
// are configured.
func (c config) filterDrivers() []string {
	seen := map[string]bool{}
	var names []string
	for key := range c {
		rest, ok := strings.CutPrefix(key, "filter.")
		if !ok {
			continue
		}
		if i := strings.LastIndexByte(rest, '.'); i > 0 && !seen[rest[:i]] {
			seen[rest[:i]] = true
			names = append(names, rest[:i])
		}
	}
	return names
}
