package isolate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeStore is a folder with store paths: of each kind one that is shown, and
// some that are not.
type fakeStore struct {
	dir                         string
	folder, file, link, program string // shown, as paths inside
	hidden, hiddenFile          string // not shown, as names
}

func newFakeStore(t *testing.T) fakeStore {
	t.Helper()
	names := fakeNames(6)
	in := func(i int) string { return StoreDir + "/" + names[i] }
	s := fakeStore{t.TempDir(), in(0), in(1), in(2), in(3), names[4], names[5]}
	stage, err := os.ReadFile(stagePath)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		names[0] + "/share/text": "in a folder", names[1]: "a file", names[4] + "/secret": "nonce", names[5]: "nonce", ".links/hash": "nonce",
		names[3] + "/bin/probe": string(stage),
	} {
		path := filepath.Join(s.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(s.folder+"/share", filepath.Join(s.dir, names[2])), os.Chmod(s.dir, 0o755), openParents(s.dir)); err != nil {
		t.Fatal(err)
	}
	// The program owns it all: what holds it back is the mount.
	if os.Getuid() == 0 {
		if out, err := exec.Command("chown", "-hR", "1879048200:1879048200", s.dir).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	return s
}

// openParents lets everybody reach a test's folder, as everybody does a store.
func openParents(dir string) error { return os.Chmod(filepath.Dir(dir), 0o755) }

func (s fakeStore) job(tools string) func(*Job) {
	return func(j *Job) {
		j.Tools, j.StoreSource, j.Store = tools, s.dir, []string{s.program, s.link, s.folder, s.file}
		j.Path = []string{s.program + "/bin"}
	}
}

// probe runs the test's own program and gives what it printed.
func (w *world) probe(t *testing.T, args ...string) string {
	t.Helper()
	r, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := w.Spawn(Program{Args: append([]string{"probe"}, args...), Files: []*os.File{wr, wr, wr}})
	wr.Close()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if status, waitErr := p.Wait(); err != nil || waitErr != nil || status != 0 {
		t.Errorf("probe %q: status %d %v %v: %s", args, status, err, waitErr, b)
	}
	return strings.TrimSpace(string(b))
}

// TestStore: the store paths that were asked for are there, of each kind, and
// cannot be changed; the rest of the store is not.
func TestStore(t *testing.T) {
	for _, tools := range []string{ToolsStore, ToolsBoth} {
		t.Run(tools, func(t *testing.T) {
			s := newFakeStore(t)
			w := newWorld(t, s.job(tools))
			want := []string{s.program, s.link, s.folder, s.file}
			slices.Sort(want)
			if got := w.probe(t, "ls", StoreDir); got != strings.ReplaceAll(strings.Join(want, "\n"), StoreDir+"/", "") {
				t.Errorf("the store has\n%s", got)
			}
			for path, text := range map[string]string{s.folder + "/share/text": "in a folder", s.file: "a file", s.link + "/text": "in a folder"} {
				if got := w.probe(t, "cat", path); got != text {
					t.Errorf("%s has %q", path, got)
				}
			}
			w.absent(t, StoreDir+"/"+s.hidden, StoreDir+"/"+s.hiddenFile, StoreDir+"/.links", "/nix/var", storeAt, s.dir)
			for _, name := range []string{s.hidden, s.hiddenFile, ".links"} { // control
				if _, err := os.Lstat(filepath.Join(s.dir, name)); err != nil {
					t.Errorf("no control: %v", err)
				}
			}
			w.held(t, StoreDir, s.folder, s.folder+"/share", s.folder+"/share/text", s.file, s.link)
		})
	}
}

// absent wants none of the paths to exist inside.
func (w *world) absent(t *testing.T, paths ...string) {
	t.Helper()
	for line := range strings.Lines(w.probe(t, append([]string{"see"}, paths...)...)) {
		if path, seen, _ := strings.Cut(strings.TrimSpace(line), " "); seen != "false" {
			t.Errorf("%s is there", path)
		}
	}
}

// held wants that the program can change none of the paths, and can elsewhere.
func (w *world) held(t *testing.T, paths ...string) {
	t.Helper()
	for line := range strings.Lines(w.probe(t, append([]string{"spoil"}, paths...)...)) {
		if path, done, _ := strings.Cut(strings.TrimSpace(line), " "); done != "held" {
			t.Errorf("%s could be changed: %s", path, done)
		}
	}
	if got := w.probe(t, "spoil", "/tmp"); strings.HasSuffix(got, "held") {
		t.Errorf("no control: %s", got)
	}
}

// TestStoreAttributes: what a store holds with set-user-id bits or as a device
// is neither inside.
func TestStoreAttributes(t *testing.T) {
	s := newFakeStore(t)
	w := newWorld(t, s.job(ToolsStore))
	mounts := map[string]string{}
	for line := range strings.Lines(w.probe(t, "cat", "/proc/self/mountinfo")) {
		if f := strings.Fields(line); len(f) > 5 && strings.HasPrefix(f[4], "/nix") {
			mounts[f[4]] = f[5]
			if strings.Contains(strings.Join(f[6:], " "), "shared:") || strings.Contains(strings.Join(f[6:], " "), "master:") {
				t.Errorf("%s is not private: %s", f[4], line)
			}
		}
	}
	for _, path := range []string{s.folder, s.file, s.program} {
		for _, want := range []string{"ro", "nosuid", "nodev"} {
			if !slices.Contains(strings.Split(mounts[path], ","), want) {
				t.Errorf("%s is mounted %q, want %s", path, mounts[path], want)
			}
		}
	}
	if len(mounts) != 3 {
		t.Errorf("mounts below /nix: %v", mounts)
	}
}

// TestToolsStore: of the host there are a few files of data and no programs.
func TestToolsStore(t *testing.T) {
	s := newFakeStore(t)
	w := newWorld(t, func(j *Job) {
		s.job(ToolsStore)(j)
		j.Links = []HostPath{{"/bin/sh", s.program + "/bin/probe"}, {"/usr/bin/env", s.program + "/bin/probe"}}
	})
	if got := w.probe(t, "ls", "/"); got != "bin\ndev\netc\nnix\nproc\nrcc\nrun\nsrv\ntmp\nusr\nvar" {
		t.Errorf("the root has %q", got)
	}
	for dir, want := range map[string]string{"/usr": "bin", "/usr/bin": "env", "/bin": "sh", "/nix": "store"} {
		if got := w.probe(t, "ls", dir); got != want {
			t.Errorf("%s has %q, want %q", dir, got, want)
		}
	}
	w.absent(t, "/lib", "/lib64", "/sbin", "/usr/lib", "/usr/share", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/os-release", "/etc/bash.bashrc", "/etc/shells")
	if got := w.probe(t, "env"); !strings.Contains(got+"\n", "PATH="+s.program+"/bin\n") {
		t.Errorf("the environment is %s", got)
	}
	// What is shown of /etc leads somewhere inside: nothing hangs in /usr.
	for name := range strings.Lines(w.probe(t, "ls", "/etc")) {
		path := "/etc/" + strings.TrimSpace(name)
		if got := w.probe(t, "see", path+"/."); strings.HasSuffix(got, "true") {
			continue
		}
		w.probe(t, "cat", path)
	}
	if got, err := os.ReadFile("/etc/localtime"); err == nil && w.probe(t, "cat", "/etc/localtime") != strings.TrimSpace(string(got)) {
		t.Error("the clock is not the host's")
	}
	if certs := LookHost(nil).Certs; certs != "" {
		want, err := os.ReadFile(certs)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range certTargets {
			if w.probe(t, "cat", path) != strings.TrimSpace(string(want)) {
				t.Errorf("%s is not %s", path, certs)
			}
		}
	}
	// The sandbox's own parts need no tools: a program that is bound in, and
	// another start of this executable.
	p, err := w.Spawn(Program{Args: []string{"/bin/sh", "see", "/"}})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); status != 0 || err != nil {
		t.Errorf("through a link: %d %v", status, err)
	}
	if p, err = w.Spawn(Program{Args: []string{"any", "see", "/"}, Self: true}); err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); status != 0 || err != nil {
		t.Errorf("this executable: %d %v", status, err)
	}
	var ee *ExecError
	if _, err := w.Spawn(Program{Args: []string{"ls"}}); !errors.As(err, &ee) || ee.Status != 127 {
		t.Errorf("ls of the host: %v, want that there is none", err)
	}
}

// TestStoreBind: a static program of the host's can be bound in where there is
// no /usr, as git's file system monitor is.
func TestStoreBind(t *testing.T) {
	s := newFakeStore(t)
	w := newWorld(t, func(j *Job) {
		s.job(ToolsStore)(j)
		j.Binds = append(j.Binds, Bind{Source: stagePath, Target: "/rcc/rcc-fsmonitor"})
	})
	p, err := w.Spawn(Program{Args: []string{"/rcc/rcc-fsmonitor", "see", "/"}})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); status != 0 || err != nil {
		t.Errorf("%d %v", status, err)
	}
}

// startStore makes a sandbox with store paths and gives its error.
func startStore(t *testing.T, edit func(*Job)) error {
	t.Helper()
	job := Job{Dir: "/", UID: 1000, GID: 1000, HostUID: os.Getuid(), HostGID: os.Getgid(), User: "agent", Tools: ToolsStore}
	if os.Getuid() == 0 {
		job.HostUID, job.HostGID = 1879048200, 1879048200
	}
	edit(&job)
	p, err := NewPlan(Policy{Net: "none"}, job, LookHost(os.Environ()))
	if err != nil {
		t.Fatal(err)
	}
	sb, err := Start(context.Background(), p)
	if err == nil {
		err = sb.Close()
	}
	return err
}

func TestStorePathMissing(t *testing.T) {
	s := newFakeStore(t)
	if err := startStore(t, s.job(ToolsStore)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, filepath.Base(s.file))); err != nil {
		t.Fatal(err)
	}
	err := startStore(t, s.job(ToolsStore))
	if path, ok := MissingStorePath(err); !ok || path != s.file || !strings.Contains(err.Error(), "cannot show "+s.file+": no such file") {
		t.Errorf("got %v (%q, %v), want one that names %s", err, path, ok, s.file)
	}
	// Other errors are not about a path that is gone.
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := startStore(t, s.job(ToolsStore)); err == nil {
		t.Error("a store that is not there was shown")
	} else if path, ok := MissingStorePath(err); ok {
		t.Errorf("a store that is not there is told as the path %q: %v", path, err)
	}
}

// TestStoreOddFile: what no store has is refused, not opened.
func TestStoreOddFile(t *testing.T) {
	s := newFakeStore(t)
	path := filepath.Join(s.dir, filepath.Base(s.file))
	if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := startStore(t, s.job(ToolsStore)); err == nil || !strings.Contains(err.Error(), s.file+": it is neither") {
		t.Errorf("got %v", err)
	}
}

// TestStoreMany: thousands of paths need no descriptors of their own. The test
// runs itself again with few of them: Go's runtime takes all that it is allowed.
func TestStoreMany(t *testing.T) {
	if os.Getenv("RCC_TEST_MANY") == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command("sh", "-c", `ulimit -n 200 && exec "$0" -test.run='^TestStoreMany$' -test.v`, self)
		c.Env = append(os.Environ(), "RCC_TEST_MANY=1", "RCC_TEST_STAGE="+stagePath)
		if out, err := c.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestStoreMany")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	const many = 3000
	s := newFakeStore(t)
	w := newWorld(t, func(j *Job) {
		s.job(ToolsStore)(j)
		for _, name := range fakeNames(many)[10:] {
			if err := os.Mkdir(filepath.Join(s.dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
			j.Store = append(j.Store, StoreDir+"/"+name)
		}
	})
	if got := strings.Count(w.probe(t, "ls", StoreDir), "\n") + 1; got != many-10+4 {
		t.Errorf("%d store paths are shown, want %d", got, many-10+4)
	}
}

// TestRealStore: a path that Nix itself has added, at its own place.
func TestRealStore(t *testing.T) {
	shown, hidden := realPaths(t)
	w := newWorld(t, func(j *Job) {
		j.Tools, j.Store, j.Path = ToolsStore, []string{shown}, []string{shown + "/bin"}
	})
	if got := w.probe(t, "ls", StoreDir); got != filepath.Base(shown) {
		t.Errorf("the store has %q", got)
	}
	w.absent(t, hidden, "/nix/var", StoreDir+"/.links", "/usr")
	w.held(t, shown, shown+"/bin/probe")
	for _, path := range []string{hidden, "/nix/var", "/usr"} {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("no control: %v", err)
		}
	}
}

// realPaths gives two store paths, the first with the test's program in it.
// Only root may add to a store without a daemon: the user's run looks for what
// root's has left.
func realPaths(t *testing.T) (shown, hidden string) {
	t.Helper()
	nix := need(t, "nix-store")
	stage, err := os.ReadFile(stagePath)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		found, err := filepath.Glob(StoreDir + "/*-rcc-probe/bin/probe")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if b, err := os.ReadFile(f); err == nil && bytes.Equal(b, stage) {
				return filepath.Dir(filepath.Dir(f)), addedBefore(t)
			}
		}
		t.Skip("only root adds to Nix's store, and has not")
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"rcc-probe/bin/probe": stage, "rcc-hidden": []byte("nonce")} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for name, path := range map[string]*string{"rcc-probe": &shown, "rcc-hidden": &hidden} {
		c := exec.Command(nix, "--add", filepath.Join(dir, name))
		c.Env = append(os.Environ(), "NIX_CONFIG=substituters =\nsandbox = false\nbuild-users-group =", "HOME="+dir)
		out, err := c.Output()
		if err != nil {
			t.Fatalf("nix-store --add: %v", err)
		}
		*path = strings.TrimSpace(string(out))
	}
	return shown, hidden
}

func addedBefore(t *testing.T) string {
	t.Helper()
	list, err := filepath.Glob(StoreDir + "/*-rcc-hidden")
	if err != nil || len(list) == 0 {
		t.Skip("only root adds to Nix's store, and has not: ", errors.Join(err, fs.ErrNotExist))
	}
	return list[0]
}

// TestStoreSubmounts: a store path that is a mount of its own is shown as it is
// on the host; what is mounted below one does not come along. The test runs
// itself again in a mount namespace where there are such.
func TestStoreSubmounts(t *testing.T) {
	if dir := os.Getenv("RCC_TEST_SUBMOUNTS"); dir != "" {
		store := fakeStore{dir: dir}
		names := fakeNames(2)
		store.program, store.folder = StoreDir+"/"+names[0], StoreDir+"/"+names[1]
		store.file, store.link = store.program, store.program // one is enough
		shown := func(paths ...string) func(*Job) {
			return func(j *Job) { store.job(ToolsStore)(j); j.Store = paths }
		}
		w := newWorld(t, shown(store.program))
		if out := w.probe(t, "see", store.program+"/bin/probe"); !strings.HasSuffix(out, "true") {
			t.Errorf("a mount is not shown: %s", out)
		}
		if _, err := os.Stat(filepath.Join(dir, names[1], "sub/secret")); err != nil {
			t.Errorf("no control: %v", err)
		}
		if os.Getuid() != 0 { // who could uncover by it what is hidden
			if err := startStore(t, shown(store.program, store.folder)); err == nil || !strings.Contains(err.Error(), "cannot show "+store.folder+": something else") {
				t.Errorf("got %v", err)
			}
			return
		}
		w = newWorld(t, shown(store.program, store.folder))
		if out := w.probe(t, "ls", store.folder+"/sub"); out != "own" {
			t.Errorf("below a store path there is %q", out)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root mounts on the host; its run tests this for a user too")
	}
	dir, names := t.TempDir(), fakeNames(2)
	if err := errors.Join(os.Chmod(dir, 0o755), openParents(dir)); err != nil {
		t.Fatal(err)
	}
	stage, err := os.ReadFile(stagePath)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"from/bin/probe": stage, names[0] + "/covered": nil, names[1] + "/sub/own": nil} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	// The program and its stage where the user reaches them.
	tmp := filepath.Join(dir, "tmp")
	self, err := os.ReadFile("/proc/self/exe")
	if err := errors.Join(err, os.Mkdir(tmp, 0o755), os.Chmod(tmp, 0o777|os.ModeSticky), os.WriteFile(tmp+"/test", self, 0o755), os.WriteFile(tmp+"/stage", stage, 0o755)); err != nil {
		t.Fatal(err)
	}
	script := `mount --bind from ` + names[0] + ` && mount -t tmpfs none ` + names[1] + `/sub && touch ` + names[1] + `/sub/secret && exec "$@"`
	for name, as := range map[string][]string{"root": {"env"}, "user": {need(t, "setpriv"), "--reuid=54321", "--regid=54321", "--clear-groups"}} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"-m", "sh", "-c", script, "sh"}, as...)
			c := exec.Command("unshare", append(args, tmp+"/test", "-test.run=^TestStoreSubmounts$", "-test.v")...)
			c.Dir = dir
			c.Env = append(os.Environ(), "RCC_TEST_SUBMOUNTS="+dir, "RCC_TEST_STAGE="+tmp+"/stage", "TMPDIR="+tmp)
			if out, err := c.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestStoreSubmounts")) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
