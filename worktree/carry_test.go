package worktree

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const carryMess = `
cat >>.gitignore <<'E'
node_modules/
.env*
/target
*.log
!keep.log
data/*
/mixed/
E
mkdir -p node_modules/a/target node_modules/.bin packages/p/node_modules/q target/release dir/deep/er data mixed empty/.venv
echo 1 > node_modules/a/index.js; ln -s ../a/index.js node_modules/.bin/a; echo t > node_modules/a/target/t; echo e > node_modules/a/.env
echo 2 > packages/p/node_modules/q/i.js; echo p > packages/p/tracked
echo KEY=1 > .env; echo KEY=2 > dir/deep/.env.local
echo r > target/release/bin; echo d > target/debug
echo l > dir/deep/er/x.log; echo k > dir/deep/er/keep.log; echo k > keep.log
echo d > data/d; echo s > data/keep
mkdir -p mixed/sub/deep mixed/all; echo t > mixed/tracked; echo u > mixed/untracked; echo t > mixed/sub/tracked; echo u > mixed/sub/deep/u; echo a > mixed/all/tracked
echo v > empty/.venv/not-ignored
git add -f .gitignore packages/p/tracked mixed/tracked mixed/sub/tracked mixed/all
git commit -qm mess
`

func (w *world) find(spec CarrySpec) *Carried {
	w.t.Helper()
	c, err := w.open().FindCarried(w.t.Context(), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	if c == nil {
		c = &Carried{}
	}
	return c
}

// layer writes the layer and returns its folder.
func (w *world) layer(c *Carried) string {
	w.t.Helper()
	dir := w.t.TempDir()
	w.t.Cleanup(func() { RemoveAll(dir) }) // it may have read-only folders
	if err := c.write(w.t.Context(), dir); err != nil {
		w.t.Fatal(err)
	}
	return dir + "/" + layerName
}

// listing is what is below dir: the paths of files and empty folders.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if inside, _ := os.ReadDir(path); path != dir && (!d.IsDir() || len(inside) == 0) {
			list = append(list, strings.TrimPrefix(path, dir+"/"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Each case is asked for twice: by name, and, with a pattern that matches
// nothing but needs git's matching, by git alone.
func TestCarryFind(t *testing.T) {
	w := newWorld(t, "sha1")
	w.sh(w.repo, "sh", "-ec", carryMess)
	before := w.fingerprint(w.repo, true)
	for _, c := range []struct{ patterns, want string }{
		{"node_modules", "node_modules packages/p/node_modules"},
		{"node_modules/", "node_modules packages/p/node_modules"},
		{"node_modules/a", "node_modules/a"},
		{"target", "node_modules/a/target target"},
		{"target/release", "target/release"},
		{"target/debug/", ""},
		{".env", ".env node_modules/a/.env"},
		{".env/", ""},
		{".env node_modules", ".env node_modules packages/p/node_modules"},
		{"data", "data/d data/keep"},
		{"data/d", "data/d"},
		{"dir", "dir/deep/.env.local dir/deep/er/x.log"},
		{"packages", "packages/p/node_modules"},
		{".venv", ""},
		{"mixed", "mixed/sub/deep mixed/untracked"},
		{"a.txt keep.log", ""},
		{"nothing/there", ""},
		{"*.log", "dir/deep/er/x.log"},
		{"data/* !data/keep", "data/d"},
		{".env* !.env", "dir/deep/.env.local"},
		{"*", ".env data/d data/keep dir/deep/.env.local dir/deep/er/x.log mixed/sub/deep mixed/untracked node_modules packages/p/node_modules target"},
	} {
		patterns := strings.Fields(c.patterns)
		for range 2 {
			got := w.find(CarrySpec{Patterns: patterns, Tree: "HEAD"})
			paths := strings.Join(got.Paths, " ")
			if paths != c.want || len(got.Notes) > 0 {
				t.Errorf("%q: %q, want %q; notes %q", patterns, paths, c.want, got.Notes)
			}
			patterns = append([]string{"*.nothing-is-called-so"}, patterns...)
		}
	}
	same(t, "the repository", before, w.fingerprint(w.repo, true))

	got := listing(t, w.layer(w.find(CarrySpec{Patterns: []string{"mixed", "packages"}, Tree: "HEAD"})))
	if want := []string{"mixed/sub/deep/u", "mixed/untracked", "packages/p/node_modules/q/i.js"}; !slices.Equal(got, want) {
		t.Errorf("layer %q, want %q", got, want)
	}
}

func TestCarryPatterns(t *testing.T) {
	w := newWorld(t, "sha1")
	for pattern, want := range map[string]string{
		"": "empty", " ": "empty", "!": "empty", "/etc/passwd": "absolute", "!/x": "absolute", "../x": `".."`, "a/../b": `".."`,
		"a\x00b": "NUL", "a\nb": "line break", "./x": `"."`, "a//b": `""`, "~/x": "home", ".git": "git directory", "a/.GIT/config": "git directory", "!a": "take back",
	} {
		_, err := w.open().FindCarried(t.Context(), CarrySpec{Patterns: []string{pattern}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", inert(pattern))) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	w.write("proj/out/#x", "x\n")
	if got := w.find(CarrySpec{Patterns: []string{"#x"}}); !slices.Equal(got.Paths, []string{"out/#x"}) && !slices.Equal(got.Paths, []string{"out"}) {
		t.Errorf("%+v", got)
	}
	c, err := w.open().FindCarried(t.Context(), CarrySpec{})
	if c != nil || err != nil {
		t.Errorf("without patterns %+v, %v", c, err)
	}
	w.sh(w.dir, "git", "clone", "-q", "--bare", w.repo, "b.git")
	w.repo = w.dir + "/b.git"
	c, err = w.open().FindCarried(t.Context(), CarrySpec{Patterns: []string{"x"}, Include: true})
	if c != nil || err != nil {
		t.Errorf("bare: %+v, %v", c, err)
	}
}

func TestCarryInclude(t *testing.T) {
	w := newWorld(t, "sha1")
	w.sh(w.repo, "sh", "-ec", carryMess)
	for text, want := range map[string]string{
		"\ufeff# comment\r\n\r\n/.env\r\n/target/\n": ".env target",
		".env*\n!node_modules\n":                     ".env dir/deep/.env.local node_modules/a/.env",
		"/node_modules/../.env\n//x\n":               "",
		"a\x00b\n":                                   "",
		strings.Repeat("x\n", 1<<20):                 "",
	} {
		w.write("proj/.worktreeinclude", text)
		if got := w.find(CarrySpec{Include: true}); strings.Join(got.Paths, " ") != want {
			t.Errorf("%.40q: %q", text, got.Paths)
		} else if noted := has(got.Notes, "is not read"); noted != (len(text) > 1<<20 || strings.Contains(text, "\x00")) {
			t.Errorf("%.40q: notes %q", text, got.Notes)
		}
	}
	// The configuration has the last word.
	w.write("proj/.worktreeinclude", ".env\ntarget\n")
	if got := w.find(CarrySpec{Include: true, Patterns: []string{"!target", "node_modules/.bin"}}); !slices.Equal(got.Paths, []string{".env", "node_modules/.bin", "node_modules/a/.env"}) {
		t.Errorf("%q", got.Paths)
	}
	if got := w.find(CarrySpec{Patterns: []string{"nope"}}); got.Paths != nil {
		t.Errorf("not asked for: %q", got.Paths)
	}
	os.Remove(w.repo + "/.worktreeinclude")
	os.Symlink(w.dir+"/home/.gitconfig", w.repo+"/.worktreeinclude")
	if got := w.find(CarrySpec{Include: true}); got.Paths != nil || !has(got.Notes, "symbolic link") {
		t.Errorf("%+v", got)
	}
}

// What leads out, what git or the sandbox would stumble over.
func TestCarryDangers(t *testing.T) {
	w := newWorld(t, "sha1")
	w.write("outside/secret", "secret\n")
	w.write("proj/.gitignore", "ign*\nwas\nnowfolder\nfolder\n/file\n")
	w.write("proj/was", "tracked once\n")
	w.write("proj/folder/sub/f", "f\n")
	w.write("proj/nowfolder", "f\n")
	w.write("proj/file", "f\n")
	w.g("add", "-f", "was", "folder", "nowfolder", "file")
	base := w.commit("base")
	w.g("rm", "-q", "-r", "was", "folder", "nowfolder", "file")
	w.commit("gone")
	w.sh(w.repo, "sh", "-ec", `
echo mine > was; mkdir -p nowfolder/ign file; echo n > nowfolder/n; echo i > nowfolder/ign/i; echo f > file/ignored; ln -s /etc folder
ln -s ../outside ign-parent; ln -s a.txt ign-in; ln -s /etc/passwd ign-out; ln -s ../proj ign-round
mkdir -p ign/sub; mkfifo ign/pipe; echo x > ign/sub/x; git init -q ign/nested; echo n > ign/nested/n
printf x > "$(printf 'ign-\377')"; printf y > "$(printf 'ign/sub/q\n\377')"
echo 'gitdir: /nowhere' > ign/sub/.git
`)
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	os.Chdir(w.repo + "/ign")
	defer os.Chdir("/")
	if err := unix.Bind(l, &unix.SockaddrUnix{Name: "sock"}); err != nil {
		t.Fatal(err)
	}
	c := w.find(CarrySpec{Patterns: []string{"ign*", "was", "nowfolder", "folder", "file"}, Tree: base})
	if want := []string{"ign", "ign-in", "ign-out", "ign-parent", "ign-round"}; !slices.Equal(c.Paths, want) {
		t.Errorf("%q", c.Paths)
	}
	dir := w.layer(c)
	if got, want := listing(t, dir), []string{"ign/nested/n", "ign/sub/q\n\xff", "ign/sub/x", "ign-in", "ign-out", "ign-parent", "ign-round"}; !slices.Equal(got, want) {
		t.Errorf("layer %q", got)
	}
	if to, err := os.Readlink(dir + "/ign-parent"); to != "../outside" {
		t.Errorf("%q, %v", to, err)
	}
	for _, want := range []string{
		"not UTF-8: \"ign-", "a pipe: ign/pipe", "a socket: ign/sock", "its own: ign/nested", "its own: ign/sub",
		"leads out of the checkout: ign-out", "leads out of the checkout: ign-parent",
		"tracked as a file: nowfolder", "a folder with tracked files in its place: folder", "tracked as a file: file",
	} {
		if !has(c.Notes, want) {
			t.Errorf("no note %q in %q", want, c.Notes)
		}
	}
	if len(c.Notes) != 10 {
		t.Errorf("notes %q", c.Notes)
	}
	w.g("add", "-f", "ign/sub/x")
	if c := w.find(CarrySpec{Patterns: []string{"ign"}}); !slices.Equal(c.Paths, []string{"ign/nested", "nowfolder/ign"}) || !has(c.Notes, "not UTF-8: \"ign/sub/q") {
		t.Errorf("beside a tracked file: %+v", c)
	}
	// By name.
	for pattern, want := range map[string]string{"ign-parent/secret": "a symbolic link or a file leads to it", "ign/nested/n": "repository of its own"} {
		if c := w.find(CarrySpec{Patterns: []string{pattern}}); c.Paths != nil || !has(c.Notes, want) {
			t.Errorf("%s: %+v", pattern, c)
		}
	}
	if c := w.find(CarrySpec{Patterns: []string{"nowfolder/ign"}, Tree: base}); c.Paths != nil || !has(c.Notes, "nowfolder is tracked as a file: nowfolder/ign") {
		t.Errorf("below a tracked file: %+v", c)
	}
	for _, pattern := range []string{"secret", "n"} {
		if c := w.find(CarrySpec{Patterns: []string{pattern}}); len(c.Paths) > 1 || len(c.Paths) == 1 && c.Paths[0] != "nowfolder/n" {
			t.Errorf("%s: %+v", pattern, c)
		}
	}
}
