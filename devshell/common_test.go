package devshell

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// need skips a test for want of a program, or fails it where RCC_REQUIRE=all
// lets nothing be missing.
func need(t testing.TB, what string, have bool) {
	t.Helper()
	switch {
	case have:
	case os.Getenv("RCC_REQUIRE") == "all":
		t.Fatalf("this machine lacks %s, which RCC_REQUIRE=all asks for", what)
	default:
		t.Skipf("needs %s", what)
	}
}

// world is a Nix store of a test's own, a cache, and a tree. Nothing of the
// machine's store is touched: garbage is collected for real here, and any user
// can do it.
type world struct {
	t       testing.TB
	dir     string
	tree    string
	environ []string
	nix     *Nix
	cache   *Cache
}

// Where Debian's bash-static and busybox-static have their programs.
const (
	staticBash    = "/bin/bash-static"
	staticBusybox = "/bin/busybox"
)

func newWorld(t testing.TB) *world {
	t.Helper()
	nix, err := exec.LookPath("nix")
	need(t, "nix", err == nil)
	for _, file := range []string{staticBash, staticBusybox} {
		_, err := os.Stat(file)
		need(t, file, err == nil)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, tree: filepath.Join(dir, "tree"), cache: OpenCache(filepath.Join(dir, "cache"))}
	w.environ = []string{
		"PATH=" + filepath.Dir(nix) + ":/usr/bin:/bin", "HOME=" + filepath.Join(dir, "home"), "TMPDIR=" + filepath.Join(dir, "tmp"),
		"NIX_STORE_DIR=" + filepath.Join(dir, "store"), "NIX_STATE_DIR=" + filepath.Join(dir, "var"), "NIX_LOG_DIR=" + filepath.Join(dir, "log"),
		"NIX_CONF_DIR=" + filepath.Join(dir, "conf"),
		"NIX_CONFIG=sandbox = false\nbuild-users-group =\nsubstituters =\nflake-registry =\nconnect-timeout = 1\ndownload-attempts = 1",
	}
	for _, name := range []string{"home", "tmp", "conf"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if w.nix, err = Find(w.environ); err != nil {
		t.Fatal(err)
	}
	// Store paths are read-only, also for the owner who wants to remove them.
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				_ = os.Chmod(path, 0o755)
			}
			return nil
		})
	})
	return w
}

// flake puts the flake of testdata into a folder of the tree.
func (w *world) flake(folder string) {
	w.t.Helper()
	dir := filepath.Join(w.tree, folder)
	if err := os.CopyFS(dir, os.DirFS("testdata/flake")); err != nil {
		w.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "flake.nix"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(filepath.Join(folder, "flake.nix"), strings.ReplaceAll(string(text), "@system@", system()))
	w.tools(folder)
}

func (w *world) tools(folder string) {
	w.t.Helper()
	for name, from := range map[string]string{"bash": staticBash, "busybox": staticBusybox} {
		data, err := os.ReadFile(from)
		if err != nil {
			w.t.Fatal(err)
		}
		w.write(filepath.Join(folder, "tools", name), string(data))
		if err := os.Chmod(filepath.Join(w.tree, folder, "tools", name), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
}

// write writes a file of the tree.
func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.tree, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// edit replaces a text in a file of the tree.
func (w *world) edit(name, old, new string) {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.tree, name))
	if err != nil || !strings.Contains(string(data), old) {
		w.t.Fatalf("%s has no %q: %v", name, old, err)
	}
	w.write(name, strings.Replace(string(data), old, new, 1))
}

// source is the tree as a source, with one file that stands for its content.
func (w *world) source(kind, folder, attr string) Source {
	return Source{Kind: kind, Dir: folder, Attr: attr, Files: []File{{filepath.Join(folder, "flake.nix"), "100644", "id"}}}
}

func (w *world) options() Options {
	return Options{
		Export:  func(_ context.Context, dir string) error { return os.CopyFS(dir, os.DirFS(w.tree)) },
		Timeout: time.Minute,
	}
}

// shell makes or finds a shell, which is released at the end.
func (w *world) shell(s Source) *Shell {
	w.t.Helper()
	shell, err := w.cache.Shell(context.Background(), w.nix, s, w.options())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(shell.Release)
	return shell
}

// run runs a program with the world's environment and gives its standard output.
func (w *world) run(args ...string) string {
	w.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = w.dir, w.environ
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%q: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}
