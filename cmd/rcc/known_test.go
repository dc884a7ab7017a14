package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rcc/worktree"
)

func TestHostOf(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"https://a.example/x.tgz", "a.example:443"},
		{"http://a.example", "a.example:80"},
		{"HTTPS://A.example:8443/x", "A.example:8443"},
		{"https://user:p@ss@a.example/x@y", "a.example:443"},
		{"https://a.example?x=/@b.example", "a.example:443"},
		{"https://a.example#@b.example", "a.example:443"},
		{"git+https://a.example/x?rev=1#2", "a.example:443"},
		{"git+ssh://git@a.example/x", "a.example:22"},
		{"ssh+git://git@a.example/x", "a.example:22"},
		{"git+ssh://git@a.example:owner/x.git", "a.example:22"},
		{"ssh://a.example:2222/x", "a.example:2222"},
		{"git://a.example/x", "a.example:9418"},
		{"registry+https://a.example/index", "a.example:443"},
		{"sparse+https://a.example/index/", "a.example:443"},
		{"https://[2001:db8::1]:8443/x", "[2001:db8::1]:8443"},
		{"https://203.0.113.1/x", "203.0.113.1:443"},
		{"https://a.example:x/y", ""},
		{"https://a.example:0/", ""},
		{"https://a.example:70000/", ""},
		{"https://a.example:1-9/", ""},
		{"https:///x", ""},
		{"file:///x", ""},
		{"s3://bucket", ""},
		{"../x", ""},
		{"", ""},
	} {
		host, port, ok := hostOf(tt.in)
		if got := (place{Host: host, Port: port}).String(); ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("%q: %s, %v, want %q", tt.in, got, ok, tt.want)
		}
	}
}

func TestHostOfRemote(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"https://a.example/x.git", "a.example:443"},
		{"ssh://git@a.example:2222/x", "a.example:2222"},
		{"git@a.example:x/y.git", "a.example:22"},
		{"a.example:x", "a.example:22"},
		{"me@[2001:db8::1]:x", "[2001:db8::1]:22"},
		{"[a.example:2222]:x", "a.example:2222"},
		{"me@[a.example:2222]:x", "a.example:2222"},
		{"/srv/x.git", ""},
		{"./a:b", ""},
		{"../x", ""},
		{"x", ""},
		{"file:///srv/x", ""},
		{"ext::ssh a.example", ""},
		{"helper::https://a.example/", ""},
		{"[a.example", ""},
		{"", ""},
	} {
		host, port, ok := hostOfRemote(tt.in)
		if got := (place{Host: host, Port: port}).String(); ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("%q: %s, %v, want %q", tt.in, got, ok, tt.want)
		}
	}
}

// What is in a lock file but is not fetched from, such as a home page, is not found.
func TestLockFiles(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{
			"package-lock.json", `{"name": "x", "packages": {"": {}, "node_modules/a": {"version": "1", "resolved":
			"https://npm.example/a.tgz", "funding": {"url": "https://fund.example"}}, "b": {"resolved":"git+ssh://git@git.example/b.git#1"}, "c": {"resolved": false},
			"d": {"description": "say \"resolved\": \"https://no.example/\""}}, "dependencies": {"e": {"dependencies": {"f": {"resolved" : "http://old.example:8080/f"}}}}}`,
			"npm.example:443 git.example:22 old.example:8080",
		},
		{"npm-shrinkwrap.json", `{"dependencies": {"a": {"resolved": "https://npm.example/a.tgz"}}}`, "npm.example:443"},
		{"yarn.lock", "# yarn lockfile v1\na@^1:\n  version \"1\"\n  resolved \"https://yarn.example/a.tgz#123\"\n  integrity x\n", "yarn.example:443"},
		{"yarn.lock", "\"a@npm:^1\":\n  resolution: \"a@npm:1.0.0\"\n\"@s/b@https://git.example/b.git\":\n  resolution: \"@s/b@https://git.example/b.git#commit=1\"\n", "git.example:443"},
		{"pnpm-lock.yaml", "packages:\n  /a@1:\n    resolution: {integrity: x, tarball: https://npm.example/a.tgz}\n  b:\n    resolution:\n      tarball: 'https://other.example/b.tgz'\n  c:\n    resolution: {commit: 1, repo: https://git.example/c, type: git}\n", "npm.example:443 other.example:443 git.example:443"},
		{"Cargo.lock", "[[package]]\nname = \"a\"\nsource = \"registry+https://index.example/\"\n[[package]]\nsource = \"git+https://git.example/b?branch=x#1\"\nresource = \"https://no.example\"\n", "index.example:443 git.example:443"},
		{"poetry.lock", "[[package]]\nname = \"a\"\nfiles = [{file = \"a.whl\", hash = \"x\"}]\n[package.source]\ntype = \"legacy\"\nurl = \"https://py.example/simple\"\n", "py.example:443"},
		{"uv.lock", "[[package]]\nsource = { registry = \"https://py.example/simple\" }\nsdist = { url = \"https://files.example/a.tar.gz\", hash = \"x\" }\nwheels = [\n    { url = \"https://files.example/a.whl\" },\n]\n[[package]]\nsource = { git = \"https://git.example/b?rev=1#1\" }\n", "py.example:443 files.example:443 git.example:443"},
		{"Pipfile.lock", `{"_meta": {"sources": [{"name": "x", "url": "https://py.example/simple", "verify_ssl": true}]}, "default": {"a": {"version": "==1", "index": "x"}, "b": {"git": "https://git.example/b"}, "c": 3}}`, "py.example:443 git.example:443"},
		{"Gemfile.lock", "GIT\n  remote: https://git.example/a.git\n  revision: 1\nGEM\n  remote: https://gems.example/\n  specs:\n    b (1)\n", "git.example:443 gems.example:443"},
		{"composer.lock", `{"packages": [{"name": "a", "homepage": "https://no.example", "source": {"type": "git", "url": "https:\/\/git.example/a.git"}, "dist": {"url": "https://zip.example/a.zip"}, "support": {"source": "https://no.example"}, "funding": [{"url": "https://no.example"}]}], "packages-dev": [{"dist": {"url": "https://dev.example/b"}}]}`, "git.example:443 zip.example:443 dev.example:443"},
		{".npmrc", "; registry=https://no.example\nregistry = https://npm.example/\n@s:registry=\"https://scope.example:8443/npm/\"\n//npm.example/:_authToken=secret\nproxy=https://no.example\n", "npm.example:443 scope.example:8443"},
	} {
		read := lockReader(t, tt.name)
		var s placeSet
		read([]byte(tt.in), func(url string) { s.add(url, tt.name) })
		var got []string
		for _, p := range s.list {
			got = append(got, p.String())
		}
		want := strings.Fields(tt.want)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", tt.name, got, want)
		}
		for cut := range len(tt.in) { // half a file is no reason to fall over
			read([]byte(tt.in[:cut]), func(string) {})
		}
	}
}

func lockReader(t *testing.T, name string) func([]byte, func(string)) {
	t.Helper()
	for _, l := range lockFiles {
		if l.name == name {
			return l.read
		}
	}
	t.Fatalf("nothing reads %s", name)
	return nil
}

func TestPlaceRules(t *testing.T) {
	var s placeSet
	for _, url := range []string{
		"https://b.example/", "https://B.example./", "https://a.example", "http://a.example", "https://[2a00::1]/", "https://1.2.3.4/",
		"https://localhost:4873/", "https://x.localhost/", "http://127.0.0.1:8080/", "http://[::1]/", "https://10.1.2.3/", "http://169.254.169.254/",
		"https://*.example.org/", "https://user name.example/", "https://0x7f.1/", "https://[fd00::1]:8443/",
	} {
		s.add(url, "x.lock")
	}
	rules, leftOut := s.rules()
	var got []string
	for _, r := range rules {
		if r.From != "x.lock" {
			t.Errorf("%s comes from %q", r, r.From)
		}
		if r.Wild || r.Private() {
			t.Errorf("%s must not be there", r)
		}
		got = append(got, r.String())
	}
	want := []string{"1.2.3.4:443", "[2a00::1]:443", "a.example:443", "a.example:80", "b.example:443"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	var told []string
	for _, l := range leftOut {
		told = append(told, l.Text)
	}
	for _, part := range []string{"localhost:4873: it is this machine itself; --forward 4873", "x.localhost:443: it is this", "127.0.0.1:8080: it is this", "[::1]:80: it is this", "10.1.2.3:443: it is a private", "169.254.169.254:80: ", "*.example.org:443: it is no host", "user name.example:443: ", "0x7f.1:443: ", "[fd00::1]:8443: it is a private"} {
		if !slices.ContainsFunc(told, func(s string) bool { return strings.HasPrefix(s, part) }) {
			t.Errorf("nothing is said of %s: %q", part, told)
		}
	}

	s = placeSet{}
	for i := range 1000 {
		s.add(fmt.Sprintf("https://h%d.example/", i), "x.lock")
	}
	rules, leftOut = s.rules()
	if len(rules) != maxPlaces || len(leftOut) != 1 || !strings.HasPrefix(leftOut[0].Text, "more than 256 hosts") {
		t.Errorf("%d rules, %v", len(rules), leftOut)
	}
}

// A toolbox is a home with configuration and programs that write down each start.
type toolbox struct {
	t     *testing.T
	dir   string
	tools toolPlaces
}

func newToolbox(t *testing.T, files ...string) *toolbox {
	dir := t.TempDir()
	b := &toolbox{t: t, dir: dir}
	env := &surroundings{environ: []string{
		"HOME=" + dir + "/home", "PATH=relative:" + dir + "/top/bin:" + dir + "/bin:/usr/bin:/bin",
		"XDG_CONFIG_DIRS=" + dir + "/xdg", "NIX_CONF_DIR=" + dir + "/etc/nix",
	}, dirs: dirs{Cache: dir + "/cache"}}
	b.tools = toolPlaces{env: env, top: dir + "/top", has: func(name string) bool { return slices.Contains(files, name) }}
	return b
}

func (b *toolbox) write(name, content string) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	mode := os.FileMode(0o600)
	if strings.HasPrefix(content, "#!") {
		mode = 0o700
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		b.t.Fatal(err)
	}
}

func (b *toolbox) set(name, value string) {
	b.tools.env.environ = append(b.tools.env.environ, name+"="+value)
}

// look gives "HOST:PORT FROM" of each place, sorted. Places of the machine that the
// test runs on, in /etc, are left out.
func (b *toolbox) look() (out []string) {
	b.t.Helper()
	tools := b.tools
	tools.find(b.t.Context())
	for _, p := range tools.found.list {
		if !strings.HasPrefix(p.From, "/etc/") {
			out = append(out, p.String()+" "+strings.ReplaceAll(p.From, b.dir, "T"))
		}
	}
	for _, l := range tools.failed {
		out = append(out, "failed: "+l.Text)
	}
	slices.Sort(out)
	return out
}

func (b *toolbox) expect(want ...string) {
	b.t.Helper()
	if got := b.look(); !slices.Equal(got, want) {
		b.t.Errorf("got  %q\nwant %q", got, want)
	}
}

func (b *toolbox) starts() int {
	data, _ := os.ReadFile(filepath.Join(b.dir, "starts"))
	return strings.Count(string(data), "\n")
}

// fakeTool answers as the tool does, from a file, and writes down that it ran.
func (b *toolbox) fakeTool(name, answer string) {
	b.write("answer-"+name, answer)
	b.write("bin/"+name, "#!/bin/sh\necho \"$PWD $GOTOOLCHAIN $*\" >>"+b.dir+"/starts\ncat "+b.dir+"/answer-"+name+"\n")
}

func TestGoProxies(t *testing.T) {
	b := newToolbox(t, "go.mod")
	b.write("top/bin/go", "#!/bin/sh\ntouch "+b.dir+"/planted\necho https://planted.example\n")
	b.write("linked/x", "") // a folder of PATH with a link into the checkout
	if err := os.Symlink(b.dir+"/top/bin/go", b.dir+"/linked/go"); err != nil {
		t.Fatal(err)
	}
	b.set("PATH", b.dir+"/linked:"+b.tools.env.getenv("PATH"))
	b.fakeTool("go", "https://proxy.example/path,https://two.example|http://three.example:8080,direct\nsum.example+key+abc\n")
	want := []string{
		"proxy.example:443 go env GOPROXY", "sum.example:443 go env GOSUMDB", "three.example:8080 go env GOPROXY", "two.example:443 go env GOPROXY",
	}
	b.expect(want...)
	b.expect(want...)
	if data, _ := os.ReadFile(filepath.Join(b.dir, "starts")); string(data) != "/ local env GOPROXY GOSUMDB\n" {
		t.Errorf("go was run as %q", data)
	}
	// What decides the answer changes: it is asked again.
	b.write("home/.config/go/env", "GOPROXY=off\n")
	b.fakeTool("go", "off\nsum.example https://mirror.example\n")
	b.expect("mirror.example:443 go env GOSUMDB")
	b.set("GOPROXY", "x")
	b.fakeTool("go", "direct\noff\n")
	b.expect()
	if b.starts() != 3 {
		t.Errorf("%d starts", b.starts())
	}
	if _, err := os.Stat(filepath.Join(b.dir, "planted")); err == nil {
		t.Error("a program of the checkout was run")
	}
}

// Without a file of that kind no tool is asked.
func TestToolsOnlyWhereNeeded(t *testing.T) {
	b := newToolbox(t, "README", "main.c")
	b.fakeTool("go", "https://proxy.example\noff\n")
	b.fakeTool("npm", "https://npm.example\n")
	b.write("home/.npmrc", "registry=https://npm.example\n")
	b.set("PIP_INDEX_URL", "https://py.example")
	b.expect()
	if b.starts() != 0 {
		t.Error("a tool was asked")
	}
}

func TestToolThatFails(t *testing.T) {
	b := newToolbox(t, "go.mod")
	b.write("bin/go", "#!/bin/sh\necho 'go: broken\nmore' >&2; exit 3\n")
	b.expect("failed: cannot ask go env GOPROXY GOSUMDB: exit status 3: go: broken")

	b.write("bin/go", "#!/bin/sh\nsleep 60 & sleep 60\n")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	tools := b.tools
	tools.find(ctx)
	if len(tools.failed) != 1 || !strings.HasSuffix(tools.failed[0].Text, "did not answer within 5s") || time.Since(began) > 4*time.Second {
		t.Errorf("%v after %v", tools.failed, time.Since(began))
	}
}

// A tool's configuration may lie in the checkout, where others write: what it names
// is none of the user's.
func TestToolsOfTheCheckout(t *testing.T) {
	b := newToolbox(t, "Cargo.toml", "go.mod", "package.json", "pyproject.toml")
	b.fakeTool("go", "https://go.example\noff\n")
	b.fakeTool("npm", "https://npm.example/\n")
	b.write("top/cargo/config.toml", "[registries]\nmine = { index = 'https://cargo.example/index' }\n")
	b.write("top/.venv/pip.conf", "[global]\nindex-url = https://pip.example\n")
	b.write("top/goenv", "GOPROXY=https://go.example\n")
	b.write("top/npmrc", "prefix=/repo\n@scope:registry=https://scope.example\n")
	b.write("home/.config/pip/pip.conf", "[global]\nindex-url = https://own.example\n")
	// By a link as well.
	if err := os.Symlink(b.dir+"/top/cargo", b.dir+"/cargo"); err != nil {
		t.Fatal(err)
	}
	b.set("CARGO_HOME", b.dir+"/cargo")
	b.set("VIRTUAL_ENV", b.dir+"/top/.venv")
	b.set("GOENV", b.dir+"/top/goenv")
	b.set("NPM_CONFIG_USERCONFIG", b.dir+"/top/npmrc")
	b.expect("own.example:443 ~/.config/pip/pip.conf")
	tools := b.tools
	tools.find(t.Context())
	var got []string
	for _, p := range tools.committed.list {
		got = append(got, p.Host)
	}
	slices.Sort(got)
	if want := []string{"cargo.example", "go.example", "npm.example", "pip.example", "scope.example"}; !slices.Equal(got, want) {
		t.Errorf("of the checkout: %q, not %q", got, want)
	}
}

func TestNPM(t *testing.T) {
	b := newToolbox(t, "package.json")
	b.fakeTool("npm", "https://npm.example/\n")
	b.expect("npm.example:443 npm config get registry")
	b.write("home/.npmrc", "@scope:registry=https://scope.example\n//npm.example/:_authToken=secret\n")
	b.expect("npm.example:443 npm config get registry", "scope.example:443 ~/.npmrc")
	if b.starts() != 2 {
		t.Errorf("%d starts", b.starts())
	}
	// A registry that is named is npm's own no more.
	b.write("home/.npmrc", "registry=https://mine.example/npm\n")
	b.expect("mine.example:443 ~/.npmrc")
	b.set("npm_config_registry", "http://env.example:4873")
	b.expect("env.example:4873 npm_config_registry", "mine.example:443 ~/.npmrc")
	if b.starts() != 2 {
		t.Error("npm was asked in vain")
	}
}

func TestPython(t *testing.T) {
	b := newToolbox(t, "pyproject.toml")
	b.set("PIP_EXTRA_INDEX_URL", "https://one.example https://user:secret@two.example/simple")
	b.set("UV_INDEX", "torch=https://three.example/x https://four.example/?a=b")
	b.set("PIP_CONFIG_FILE", b.dir+"/own.conf")
	b.write("own.conf", "[install]\nfind-links: https://links.example/\n")
	b.write("home/.config/pip/pip.conf", "[global]\n# index-url = https://no.example\nindex_url = https://five.example/simple\nextra-index-url =\n    https://six.example\n    https://seven.example\ntimeout = 60\n    https://no.example\ntrusted-host = no.example\n")
	b.write("xdg/uv/uv.toml", "index-url = 'https://eight.example'\n[[index]]\nname = 'x'\nurl = 'https://nine.example'\n[pip]\nextra-index-url = ['https://ten.example']\n[other]\nindex-url = 'https://no.example'\n")
	b.expect(
		"eight.example:443 T/xdg/uv/uv.toml", "five.example:443 ~/.config/pip/pip.conf", "four.example:443 UV_INDEX", "links.example:443 T/own.conf",
		"nine.example:443 T/xdg/uv/uv.toml", "one.example:443 PIP_EXTRA_INDEX_URL", "seven.example:443 ~/.config/pip/pip.conf", "six.example:443 ~/.config/pip/pip.conf",
		"ten.example:443 T/xdg/uv/uv.toml", "three.example:443 UV_INDEX", "two.example:443 PIP_EXTRA_INDEX_URL",
	)
}

func TestCargo(t *testing.T) {
	b := newToolbox(t, "Cargo.toml")
	b.set("CARGO_REGISTRIES_MINE_INDEX", "sparse+https://env.example/index/")
	b.write("home/.cargo/config.toml", "[source.crates]\nreplace-with = 'mirror'\n[source.mirror]\nregistry = 'sparse+https://mirror.example/index/'\n[registries]\nmine = { index = 'https://git.example/index' }\n[http]\nproxy = 'https://no.example'\n")
	b.expect("env.example:443 CARGO_REGISTRIES_MINE_INDEX", "git.example:443 ~/.cargo/config.toml", "mirror.example:443 ~/.cargo/config.toml")
	b.write("home/.cargo/config.toml", "[source\n")
	b.expect("env.example:443 CARGO_REGISTRIES_MINE_INDEX", "failed: it is no TOML")
}

func TestNixSubstituters(t *testing.T) {
	b := newToolbox(t, "flake.nix")
	b.write("etc/nix/nix.conf", "substituters = https://one.example https://two.example?priority=10 # https://no.example\ntrusted-public-keys = no.example-1:x\n")
	b.write("home/.config/nix/nix.conf", "extra-substituters = ssh://three.example s3://no\n")
	b.set("NIX_CONFIG", "experimental-features = flakes\nsubstituters = http://four.example:8080")
	b.expect("four.example:8080 NIX_CONFIG", "one.example:443 T/etc/nix/nix.conf", "three.example:22 ~/.config/nix/nix.conf", "two.example:443 T/etc/nix/nix.conf")
}

// A lock file is read once for its content, in one go for all; then no git is
// started.
func TestLockedIsRemembered(t *testing.T) {
	dir := t.TempDir()
	repo := filepath.Join(dir, "repo")
	environ := append(os.Environ(), "HOME="+dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	git, err := worktree.NewGit(environ)
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		if _, err := git.Run(t.Context(), repo, append([]string{"-c", "user.name=n", "-c", "user.email=e@example.org"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	var lock strings.Builder
	for i := range 10000 { // 1 MB
		fmt.Fprintf(&lock, "\"node_modules/p%d\": {\"version\": \"1.0.0\", \"resolved\": \"https://npm%d.example/p%d/-/p-1.0.0.tgz\"},\n", i, i%3, i)
	}
	if err := os.Mkdir(repo, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"package-lock.json": lock.String(), "Gemfile.lock": "  remote: https://gems.example\n", "yarn.lock": strings.Repeat(" ", maxLock+1)} {
		if err := os.WriteFile(filepath.Join(repo, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("init", "-q")
	run("add", "Gemfile.lock", "package-lock.json")
	run("commit", "-qm", "locks")
	n := netSource{env: &surroundings{environ: environ, dirs: dirs{Cache: dir + "/cache"}}}
	look := func() {
		t.Helper()
		if n.repo, n.sight, err = git.Look(t.Context(), repo, "HEAD", "x"); err != nil {
			t.Fatal(err)
		}
	}
	look()
	want := []place{{"npm0.example", 443, "package-lock.json"}, {"npm1.example", 443, "package-lock.json"}, {"npm2.example", 443, "package-lock.json"}, {"gems.example", 443, "Gemfile.lock"}}
	began := time.Now()
	got := n.locked(t.Context())
	cold := time.Since(began)
	if !slices.Equal(got.Places, want) || len(got.Failed) > 0 {
		t.Fatalf("%+v", got)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel() // with which no git starts
	began = time.Now()
	got = n.locked(gone)
	warm := time.Since(began)
	if !slices.Equal(got.Places, want) || len(got.Failed) > 0 {
		t.Errorf("remembered: %+v", got)
	}
	t.Logf("cold %v, warm %v", cold, warm)

	// What is too large is that for good, too.
	run("add", "-A")
	run("commit", "-qm", "too large")
	look()
	const tooLarge = "the file is over 16 MiB, or with those before it over 32 MiB"
	for _, ctx := range []context.Context{t.Context(), gone} {
		got = n.locked(ctx)
		if !slices.Equal(got.Places, want) || !slices.Equal(got.Failed, []netLine{{"ignored", tooLarge, "@project: yarn.lock"}}) {
			t.Errorf("%+v", got)
		}
	}

	// So is what is too much.
	for _, name := range []string{"package-lock.json", "yarn.lock", "Cargo.lock"} {
		if err := os.WriteFile(filepath.Join(repo, name), []byte(lock.String()+strings.Repeat(" ", maxLock-lock.Len()-len(name))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("commit", "-qam", "too much")
	run("add", "Cargo.lock")
	run("commit", "-qm", "far too much")
	look()
	for _, ctx := range []context.Context{t.Context(), gone} {
		got = n.locked(ctx)
		if !slices.Equal(got.Places, want[:3]) || !slices.Equal(got.Failed, []netLine{{"ignored", tooLarge, "@project: Cargo.lock"}, {"ignored", tooLarge, "@project: Gemfile.lock"}}) {
			t.Errorf("%+v", got)
		}
	}
}

// Whoever commits does not decide how long a start takes. What there was time for
// counts, and another try is put off.
func TestLockedInTime(t *testing.T) {
	b := newToolbox(t)
	git, err := worktree.NewGit(os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := git.Run(t.Context(), b.dir, append([]string{"-c", "user.name=n", "-c", "user.email=e@example.org"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	b.write("one.lock", "one")
	b.write("two.lock", "two")
	run("init", "-q")
	run("add", "one.lock", "two.lock")
	run("commit", "-qm", "locks")
	n := netSource{env: b.tools.env}
	if n.repo, n.sight, err = git.Look(t.Context(), b.dir, "HEAD", "x"); err != nil {
		t.Fatal(err)
	}
	slow := make(chan bool)
	defer close(slow)
	files := []lockFile{
		{"one.lock", run("rev-parse", "HEAD:one.lock"), func(_ []byte, found func(string)) { found("https://one.example") }},
		{"two.lock", run("rev-parse", "HEAD:two.lock"), func([]byte, func(string)) { <-slow }},
	}
	began := time.Now()
	memo, keep := n.readLocks(t.Context(), files, 500*time.Millisecond)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	want := []netLine{{"ignored", "it was not read within 500ms", "@project: two.lock"}}
	if !slices.Equal(memo.Places, []place{{"one.example", 443, "one.lock"}}) || !slices.Equal(memo.Failed, want) || !memo.Late || !keep {
		t.Errorf("%+v, %v", memo, keep)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if memo, keep := n.readLocks(gone, files[:1], time.Minute); keep || memo.Late || len(memo.Failed) != 1 {
		t.Errorf("ended by the caller: %+v, %v", memo, keep)
	}

	memo.Key, memo.When = "k", time.Now()
	fresh := memo.stands("k")
	memo.When = memo.When.Add(-2 * lateFor)
	if old := memo.stands("k"); !fresh || old {
		t.Errorf("it stands: fresh %v, old %v", fresh, old)
	}
	if memo.Late = false; !memo.stands("k") || memo.stands("other") {
		t.Error("what was read whole stands for its key")
	}
}
