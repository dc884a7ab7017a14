package worktree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == HarvestName {
		os.Exit(HarvestMain())
	}
	if filepath.Base(os.Args[0]) == mounterName {
		os.Exit(mounter())
	}
	if filepath.Base(os.Args[0]) == victimName {
		os.Exit(victim())
	}
	if filepath.Base(os.Args[0]) == bakerName {
		os.Exit(bakerMain())
	}
	os.Exit(m.Run())
}

// world is a scratch home, a repository in it, and a folder for tasks.
type world struct {
	t       *testing.T
	dir     string
	repo    string
	environ []string
	git     *Git
	limits  Limits
}

func newWorld(t *testing.T, format string) *world {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, repo: filepath.Join(dir, "proj")}
	w.environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(dir, "home"), "USER=tester",
		"GIT_CONFIG_GLOBAL=" + filepath.Join(dir, "home", ".gitconfig"), "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
	}
	w.write("home/.gitconfig", "[user]\n\tname = Ursula User\n\temail = u@example.org\n[init]\n\tdefaultBranch = main\n")
	if w.git, err = NewGit(w.environ); err != nil {
		t.Fatal(err)
	}
	w.sh(dir, "git", "init", "-q", "--object-format="+format, w.repo)
	w.write("proj/a.txt", "one\ntwo\nthree\n")
	w.write("proj/dir/b.txt", "b\n")
	w.write("proj/.gitignore", "*.o\n/out/\n")
	w.commit("start")
	return w
}

// sh runs a program as a person would, with the world's environment.
func (w *world) sh(dir string, args ...string) string {
	w.t.Helper()
	out, err := w.try(dir, args...)
	if err != nil {
		w.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return strings.TrimSuffix(out, "\n")
}

func (w *world) try(dir string, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, w.environ
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w *world) g(args ...string) string {
	w.t.Helper()
	return w.sh(w.repo, append([]string{"git"}, args...)...)
}

func (w *world) write(name, data string) {
	w.t.Helper()
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(w.dir, name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

func (w *world) commit(message string) string {
	w.t.Helper()
	w.g("add", "-A")
	w.g("commit", "-q", "--allow-empty", "-m", message)
	return w.g("rev-parse", "HEAD")
}

func (w *world) open() *Repo {
	w.t.Helper()
	r, err := w.git.Open(w.t.Context(), w.repo)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// task makes a tree and fills it.
func (w *world) task(id string, dirty bool) (*Repo, *Tree) {
	w.t.Helper()
	r := w.open()
	base, err := r.Resolve(w.t.Context(), "HEAD")
	if err != nil {
		w.t.Fatal(err)
	}
	dir := filepath.Join(w.dir, "tasks", id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	tree, err := r.NewTree(w.t.Context(), TreeSpec{Dir: dir, ID: id, Base: base, Dirty: dirty, UID: -1, GID: -1, samePaths: true})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, args := range tree.Populate() {
		w.sh(tree.path(treeName), args...)
	}
	if err := tree.Populated(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return r, tree
}

// in is a path in a task's tree, relative to the world.
func in(tree *Tree, name string) string { return filepath.Join(tree.path(treeName), name) }

// agent runs a shell script in the tree, as the agent would.
func (w *world) agent(tree *Tree, script string) string {
	w.t.Helper()
	if tree.overlay() {
		return w.overlayAgent(tree, script)
	}
	return w.sh(tree.path(treeName), "sh", "-ec", script)
}

// confine starts the harvester without any confinement: its parameters carry
// every path, so those inside are replaced by those outside.
func confine(ctx context.Context, j Job) (func() (int, error), error) {
	var p harvestParams
	if err := json.Unmarshal([]byte(j.Args[1]), &p); err != nil {
		return nil, err
	}
	outside := func(path string) string {
		for _, m := range j.Mounts {
			if rest, ok := strings.CutPrefix(path, m.Target); ok && m.Source != "" && (rest == "" || rest[0] == '/') {
				return m.Source + rest
			}
		}
		return path
	}
	var overlays []overlayMount
	for _, m := range j.Mounts {
		if len(m.Lower) > 0 {
			o := overlayMount{Target: filepath.Join(filepath.Dir(m.Lower[0].Dir), "merged")}
			for _, l := range m.Lower {
				o.Lower = append(o.Lower, l.Dir)
			}
			overlays = append(overlays, o)
			j.Mounts = append(j.Mounts, Mount{Source: o.Target, Target: m.Target})
		}
	}
	p.Tree, p.Home, p.Upper = outside(p.Tree), outside(p.Home), outside(p.Upper)
	arg, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, j.Limit)
	cmd := exec.CommandContext(ctx, self, string(arg))
	cmd.Args[0] = j.Args[0]
	cmd.Dir, cmd.Env = outside(j.Dir), j.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = j.Files[0], j.Files[1], j.Files[2], j.Files[3:]
	if len(overlays) > 0 {
		cmd.Args = append([]string{mounterName, overlayArg(overlays), self}, cmd.Args...)
	}
	// What a sandbox does: nothing outlives it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if len(overlays) > 0 {
		ownMounts(cmd.SysProcAttr)
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	_ = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: 8 << 30, Max: 8 << 30}, nil)
	return func() (int, error) {
		defer cancel()
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode(), nil
	}, nil
}

func (w *world) harvest(r *Repo, tree *Tree) *Harvested {
	w.t.Helper()
	h, err := tree.Harvest(w.t.Context(), r, confine, HarvestOptions{Message: "left over\n", Time: time.Unix(1700000000, 0), Limits: w.limits})
	if err != nil {
		w.t.Fatalf("harvest: %v", err)
	}
	return h
}

func (w *world) accept(r *Repo, tree *Tree) *Harvested {
	w.t.Helper()
	h := w.harvest(r, tree)
	if err := tree.Accept(w.t.Context(), r, h.Tip); err != nil {
		w.t.Fatalf("accept: %v", err)
	}
	return h
}

// files lists a commit's paths.
func (w *world) files(commit string) []string {
	w.t.Helper()
	out := w.g("ls-tree", "-r", "-z", "--name-only", commit)
	return splitNul([]byte(out))
}

// fingerprint is the state of a repository: every file with its mode and
// content, refs and logs of rcc left out, and without objects when asked.
func (w *world) fingerprint(dir string, objects bool) string {
	w.t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if !objects && strings.HasPrefix(rel, ".git/objects/") {
			return nil
		}
		if strings.HasPrefix(rel, ".git/refs/heads/rcc") || strings.HasPrefix(rel, ".git/logs/refs/heads/rcc") {
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		data := []byte{}
		switch {
		case fi.Mode().IsRegular():
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		case fi.Mode().Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			data = []byte(link)
		}
		lines = append(lines, fmt.Sprintf("%s %v %x", rel, fi.Mode(), sha256.Sum256(data)))
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// same fails when two fingerprints differ, and shows where.
func same(t *testing.T, what, before, after string) {
	t.Helper()
	if before == after {
		return
	}
	seen := map[string]bool{}
	for l := range strings.SplitSeq(before, "\n") {
		seen[l] = true
	}
	var b bytes.Buffer
	for l := range strings.SplitSeq(after, "\n") {
		if !seen[l] {
			b.WriteString("+ " + l + "\n")
		}
		delete(seen, l)
	}
	for l := range seen {
		b.WriteString("- " + l + "\n")
	}
	t.Errorf("%s changed:\n%s", what, b.String())
}

func has(list []string, part string) bool {
	for _, s := range list {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}
