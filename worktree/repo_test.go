package worktree

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOpenErrors(t *testing.T) {
	w := newWorld(t, "sha1")
	w.sh(w.dir, "git", "init", "-q", "line\nbreak")
	w.sh(w.dir, "git", "init", "-q", "bytes\xff")
	os.Mkdir(filepath.Join(w.dir, "empty"), 0o755)
	for dir, want := range map[string]string{
		"empty":       "cannot find a git repository",
		"nowhere":     "no such file",
		"proj/.git":   "inside a git directory",
		"line\nbreak": "line break",
		"bytes\xff":   "UTF-8",
	} {
		_, err := w.git.Open(t.Context(), filepath.Join(w.dir, dir))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", dir, err, want)
		}
	}
	if _, err := NewGit([]string{"PATH=.:bin:"}); err == nil || !strings.Contains(err.Error(), "install it") {
		t.Errorf("without git: %v", err)
	}
	old := filepath.Join(w.dir, "oldgit")
	w.write(filepath.Join(old, "git"), "#!/bin/sh\necho git version 2.37.9\n")
	os.Chmod(filepath.Join(old, "git"), 0o755)
	g, err := NewGit([]string{"PATH=" + old})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Open(t.Context(), w.repo); err == nil || !strings.Contains(err.Error(), "2.38 or newer") {
		t.Errorf("old git: %v", err)
	}
}

func TestOpenForeignRepository(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a repository to somebody else")
	}
	w := newWorld(t, "sha1")
	w.sh(w.dir, "chown", "-R", "12345", w.repo)
	_, err := w.git.Open(t.Context(), w.repo)
	if err == nil || !strings.Contains(err.Error(), "git config --global --add safe.directory") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

// A program named git where a hostile checkout could put it is not run.
func TestGitIsNotTakenFromRelativePath(t *testing.T) {
	w := newWorld(t, "sha1")
	w.write("proj/git", "#!/bin/sh\ntouch "+w.dir+"/nonce\n")
	os.Chmod(filepath.Join(w.repo, "git"), 0o755)
	t.Chdir(w.repo)
	g, err := NewGit(append([]string{}, "PATH=.::bin:"+os.Getenv("PATH"), "HOME="+w.dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Open(t.Context(), w.repo); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(w.dir + "/nonce"); err == nil {
		t.Error("./git was run")
	}
}

func TestEnvironmentDoesNotRedirect(t *testing.T) {
	w := newWorld(t, "sha1")
	w.sh(w.dir, "git", "init", "-q", "other")
	env := append(w.environ, "GIT_DIR="+w.dir+"/other/.git", "GIT_WORK_TREE="+w.dir+"/other", "GIT_INDEX_FILE=/nonexistent/i",
		"GIT_OBJECT_DIRECTORY=/nonexistent/o", "GIT_NAMESPACE=n", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=core.bare", "GIT_CONFIG_VALUE_0=true",
		"GIT_CONFIG_PARAMETERS='core.bare=true'", "GIT_EXTERNAL_DIFF=touch "+w.dir+"/nonce", "GIT_TRACE="+w.dir+"/trace")
	g, err := NewGit(env)
	if err != nil {
		t.Fatal(err)
	}
	r, err := g.Open(t.Context(), filepath.Join(w.repo, "dir"))
	if err != nil || r.Top != w.repo || r.GitDir != w.repo+"/.git" || r.Bare {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := os.Lstat(w.dir + "/trace"); err == nil {
		t.Error("GIT_TRACE was followed")
	}
}

func TestHooksAndMonitorsOfTheHostDoNotRun(t *testing.T) {
	w := newWorld(t, "sha1")
	nonce := w.dir + "/nonce"
	for _, h := range []string{"post-checkout", "post-merge", "reference-transaction", "post-index-change", "pre-auto-gc", "post-commit", "pre-commit"} {
		w.write("proj/.git/hooks/"+h, "#!/bin/sh\ntouch "+nonce+"\n")
		os.Chmod(w.repo+"/.git/hooks/"+h, 0o755)
	}
	w.g("-c", "core.hooksPath=/dev/null", "config", "core.fsmonitor", "touch "+nonce)
	os.Remove(nonce)
	r, tree, spec := w.ready("t")
	in := w.plan(r, spec)
	if err := r.ApplyMerge(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if err := r.OpenWorktree(t.Context(), "t", tree.Base, w.dir+"/opened"); err != nil {
		t.Fatal(err)
	}
	if err := r.CloseWorktree(t.Context(), "t", tree.Base, w.dir+"/opened"); err != nil {
		t.Fatal(err)
	}
	if err := r.DropBranch(t.Context(), "t", spec.Tip); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(nonce); err == nil {
		t.Error("something ran")
	}
	w.g("update-ref", "refs/heads/control", "HEAD")
	if _, err := os.Lstat(nonce); err != nil {
		t.Error("no control")
	}
}

func TestKey(t *testing.T) {
	w := newWorld(t, "sha1")
	r := w.open()
	if !strings.HasPrefix(r.Key(), "proj-") || len(r.Key()) != len("proj-")+8 {
		t.Errorf("key %q", r.Key())
	}
	w.g("worktree", "add", "-q", w.dir+"/linked")
	l, err := w.git.Open(t.Context(), w.dir+"/linked")
	if err != nil || l.Key() != r.Key() || l.Path != w.dir+"/linked" {
		t.Errorf("linked worktree: %q, %v", l.Key(), err)
	}
	for dir, want := range map[string]string{"/x/..hidden.git": "hidden-", "/x/a b\nc/.git": "a-b-c-", "/.git": "repository-", "/x/ä/.git": "repository-"} {
		got := (&Repo{CommonDir: dir}).Key()
		if !strings.HasPrefix(got, strings.TrimSuffix(want, "-")) || strings.ContainsAny(got, "/\n ") {
			t.Errorf("%q: %q", dir, got)
		}
	}
}

func TestResolve(t *testing.T) {
	w := newWorld(t, "sha1")
	head := w.g("rev-parse", "HEAD")
	w.g("tag", "-a", "v1", "-m", "v1")
	w.g("branch", "--", "x")
	r := w.open()
	for rev, want := range map[string]string{"HEAD": head, "main": head, "v1": head, head[:8]: head, ":/start": head, "@": head} {
		if got, err := r.Resolve(t.Context(), rev); err != nil || got != want {
			t.Errorf("%q: %q, %v", rev, got, err)
		}
	}
	for _, rev := range []string{"", "nope", "--upload-pack=touch x", "-n", "^HEAD", "HEAD..main", "HEAD:a.txt", "HEAD^{tree}", "HEAD\nHEAD", "a\x00b", "--all"} {
		if got, err := r.Resolve(t.Context(), rev); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q, %v", rev, got, err)
		}
	}
	w.sh(w.dir, "git", "init", "-q", "unborn")
	u, err := w.git.Open(t.Context(), w.dir+"/unborn")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Resolve(t.Context(), "HEAD"); !errors.Is(err, errUnborn) {
		t.Errorf("unborn: %v", err)
	}
}

func TestReadFile(t *testing.T) {
	w := newWorld(t, "sha1")
	os.Symlink("a.txt", w.repo+"/rcc.toml")
	w.write("proj/big", strings.Repeat("x", maxFile+1))
	c := w.commit("files")
	r := w.open()
	if data, ok, err := r.ReadFile(t.Context(), c, "dir/b.txt"); err != nil || !ok || string(data) != "b\n" {
		t.Errorf("%q, %v, %v", data, ok, err)
	}
	if _, ok, err := r.ReadFile(t.Context(), c, "nope"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	for _, name := range []string{"rcc.toml", "big", "dir"} {
		if _, _, err := r.ReadFile(t.Context(), c, name); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestNotes(t *testing.T) {
	w := newWorld(t, "sha1")
	w.sh(w.dir, "git", "init", "-q", "sub")
	w.sh(w.dir+"/sub", "git", "commit", "-q", "--allow-empty", "-m", "s")
	w.g("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", w.dir+"/sub", "libs/sub")
	w.write("proj/.gitattributes", "*.bin filter=lfs\n")
	c := w.commit("s")
	w.g("config", "core.sparseCheckout", "true")
	_, sight, err := w.git.Look(t.Context(), w.repo, c, "t")
	if err != nil {
		t.Fatal(err)
	}
	notes, err := w.open().Notes(t.Context(), sight)
	if err != nil || !has(notes, "libs/sub") || !has(notes, "LFS") || !has(notes, "sparse") {
		t.Errorf("%q, %v", notes, err)
	}
	// The submodule stays as it is, through a task and its merge.
	r, tree := w.task("t", false)
	w.agent(tree, "echo x > x; echo y > libs/sub/y")
	h := w.accept(r, tree)
	if !has(h.Notes, "libs/sub") || strings.Contains(w.g("diff", "--name-only", "main", h.Tip), "sub") {
		t.Errorf("notes %q", h.Notes)
	}
	if err := r.ApplyMerge(t.Context(), w.plan(r, MergeSpec{ID: "t", Base: tree.Base, Start: tree.Start, Tip: h.Tip})); err != nil {
		t.Fatal(err)
	}
}

func TestHeadBranch(t *testing.T) {
	w := newWorld(t, "sha1")
	if b, err := w.open().HeadBranch(t.Context()); b != "main" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	w.g("checkout", "-q", "--detach")
	if b, err := w.open().HeadBranch(t.Context()); b != "" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// Every kind of repository that a task can start from.
func TestKindsOfRepository(t *testing.T) {
	for name, prepare := range map[string]func(w *world){
		"plain":    func(w *world) {},
		"detached": func(w *world) { w.g("checkout", "-q", "--detach") },
		"linked":   func(w *world) { w.g("worktree", "add", "-q", w.dir+"/l"); w.repo = w.dir + "/l" },
		"shallow": func(w *world) {
			w.commit("two")
			w.commit("three")
			w.sh(w.dir, "git", "clone", "-q", "--depth=2", "file://"+w.repo, "s")
			w.repo = w.dir + "/s"
		},
		"borrowing": func(w *world) {
			w.sh(w.dir, "git", "clone", "-q", "-s", w.repo, "s")
			w.sh(w.dir, "git", "clone", "-q", "-s", "s", "s2")
			w.write("s2/.git/objects/info/alternates", "# comment\n\""+w.dir+"/\\163/.git/objects\"\n/nonexistent\n")
			w.repo = w.dir + "/s2"
		},
		"submodule": func(w *world) {
			w.sh(w.dir, "git", "init", "-q", "super")
			w.sh(w.dir+"/super", "git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", w.repo, "in")
			w.repo = w.dir + "/super/in"
		},
		"odd path": func(w *world) {
			to := w.dir + "/a:b \"c\" ä,d"
			os.Rename(w.repo, to)
			w.repo = to
		},
		"packed": func(w *world) { w.g("gc", "-q"); w.g("pack-refs", "--all") },
		"sparse": func(w *world) { w.g("sparse-checkout", "set", "dir") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "sha1")
			prepare(w)
			r, tree := w.task("t", false)
			if name == "borrowing" && len(tree.Stores) != 3 {
				t.Errorf("stores %+v", tree.Stores)
			}
			w.agent(tree, "test -f a.txt; git log -1 --format=%s >log.txt; git fsck --connectivity-only 2>/dev/null; echo x >> dir/b.txt; git commit -qam w; echo y > y; rm log.txt")
			h := w.accept(r, tree)
			spec := MergeSpec{ID: "t", Base: tree.Base, Start: tree.Start, Tip: h.Tip}
			in := w.plan(r, spec)
			if err := r.ApplyMerge(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			if got := w.g("rev-parse", "HEAD"); got != h.Tip {
				t.Errorf("HEAD is %s", got)
			}
			w.clean(w.repo)
			if name == "detached" && in.Ref != "HEAD" {
				t.Errorf("moved %s", in.Ref)
			}
			if err := r.UndoMerge(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			w.clean(w.repo)
		})
	}
}

func TestBareRepository(t *testing.T) {
	w := newWorld(t, "sha1")
	w.sh(w.dir, "git", "clone", "-q", "--bare", w.repo, "b.git")
	w.repo = w.dir + "/b.git"
	r, tree := w.task("t", false)
	if r.Path != w.repo || r.Top != "" {
		t.Errorf("%+v", r)
	}
	if _, err := r.NewTree(t.Context(), TreeSpec{Dir: w.dir, ID: "d", Base: tree.Base, Dirty: true, UID: -1}); err == nil || !strings.Contains(err.Error(), "bare") {
		t.Errorf("dirty: %v", err)
	}
	w.agent(tree, "echo x > x")
	h := w.accept(r, tree)
	spec := MergeSpec{ID: "t", Base: tree.Base, Start: tree.Start, Tip: h.Tip}
	if err := r.ApplyMerge(t.Context(), w.plan(r, spec)); err != nil {
		t.Fatal(err)
	}
	if got := w.g("rev-parse", "main"); got != h.Tip {
		t.Errorf("main is %s", got)
	}
	// A linked worktree that stands on the branch moves along.
	w.g("worktree", "add", "-q", w.dir+"/l", "main")
	w.sh(w.dir+"/l", "git", "reset", "-q", "--hard", "HEAD~1")
	in := w.plan(r, spec)
	if err := r.ApplyMerge(t.Context(), in); err != nil || in.Worktree != w.dir+"/l" {
		t.Fatalf("%+v, %v", in, err)
	}
	w.clean(w.dir + "/l")
}

func TestInto(t *testing.T) {
	w := newWorld(t, "sha1")
	w.g("branch", "free")
	w.g("worktree", "add", "-q", "-b", "used", w.dir+"/used")
	r, _, spec := w.ready("t")
	for _, into := range []string{"free", "used"} {
		spec.Into = into
		in := w.plan(r, spec)
		if err := r.ApplyMerge(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if got := w.g("rev-parse", into); got != spec.Tip {
			t.Errorf("%s is at %s", into, got)
		}
		if done, err := r.RecoverMerge(t.Context(), in); !done || err != nil {
			t.Errorf("recover: %v, %v", done, err)
		}
		if into == "used" {
			w.clean(w.dir + "/used")
		}
	}
	if w.read("proj/a.txt") != "one\ntwo\nthree\n" || w.g("status", "--porcelain") != "" {
		t.Error("the checkout moved along")
	}
	for into, want := range map[string]string{"nope": "no such branch", "-x": "no such branch", "a b": "no name for a branch", "a..b": "no name", "rcc/t": "into itself"} {
		spec.Into = into
		if _, err := r.PlanMerge(t.Context(), spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", into, err)
		}
	}
}

func TestIgnoredAsOnTheHost(t *testing.T) {
	w := newWorld(t, "sha1")
	w.write("home/rules", "\xef\xbb\xbf*.global\n!*.both")
	w.g("config", "--global", "core.excludesFile", "~/rules")
	w.write("proj/.git/info/exclude", "*.local\n*.both\n")
	w.write("proj/.gitignore", "*.o\n!keep.o\n/out/\n")
	w.write("proj/out/tracked", "x\n")
	w.g("add", "-f", "out/tracked")
	w.commit("rules")
	r, tree := w.task("t", false)
	w.agent(tree, "touch x.global x.local x.both x.o keep.o plain out/new forced.o; mkdir -p sub/out deep/er; touch sub/out/kept sub/y.o deep/er/z.local; git add -f forced.o")
	if got, want := w.agent(tree, "git status --porcelain -uall"), "A  forced.o\n?? keep.o\n?? plain\n?? sub/out/kept"; got != want {
		t.Errorf("status inside %q, want %q", got, want)
	}
	h := w.accept(r, tree)
	want := []string{".gitignore", "a.txt", "dir/b.txt", "forced.o", "keep.o", "out/tracked", "plain", "sub/out/kept"}
	if got := w.files(h.Tip); !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

func TestLineEndingsAsOnTheHost(t *testing.T) {
	w := newWorld(t, "sha1")
	w.g("config", "--global", "core.autocrlf", "true")
	w.write("proj/.gitattributes", "*.bin -text\n*.u16 working-tree-encoding=UTF-16\n")
	w.commit("attributes")
	r, tree := w.task("t", false)
	if got := w.agent(tree, "git status --porcelain; od -c a.txt | head -1"); !strings.Contains(got, `\r`) {
		t.Errorf("in the tree: %q", got)
	}
	w.agent(tree, `printf 'x\r\ny\r\n' > n.txt; printf 'x\r\n' > n.bin; printf x > broken.u16`)
	h := w.accept(r, tree)
	if got := w.g("cat-file", "blob", h.Tip+":n.bin"); got != "x\r" {
		t.Errorf("n.bin %q", got)
	}
	if !has(h.Notes, "byte for byte") {
		t.Errorf("notes %q", h.Notes)
	}
}
