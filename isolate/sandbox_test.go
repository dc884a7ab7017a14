package isolate

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
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Main()
	// AllThreadsSyscall does not work in a program that has cgo, as this one
	// has under the race detector: the stages then are a program without.
	dir, err := os.MkdirTemp("/var/tmp", "rcc-isolate-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Chmod(dir, 0o755)
	stage := os.Getenv("RCC_TEST_STAGE")
	if stage == "" {
		stage = filepath.Join(dir, "stage")
		build := exec.Command("go", "build", "-tags", "rccprobe", "-o", stage, "./testdata/stage")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the stage: %v\n%s", err, out)
			os.Exit(1)
		}
	}
	stagePath = stage
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// ordinaryUID is nobody's: the tests run a second time under it.
const ordinaryUID = 54321

// TestAsOrdinaryUser runs every other test of this package as a user without
// any privilege.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("runs the tests again as an ordinary user; this is one")
	}
	dir, err := os.MkdirTemp("/var/tmp", "rcc-isolate-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "isolate.test")
	if err := os.WriteFile(bin, self, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("nix-store"); err == nil {
		realPaths(t) // which only root can add
	}
	c := exec.Command(bin, "-test.v", "-test.skip=Golden")
	c.Dir = dir
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "RCC_TEST_STAGE=" + stagePath}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUID, Gid: ordinaryUID}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("as an ordinary user: %v\n%s", err, out)
	}
	if n := bytes.Count(out, []byte("--- PASS")); n < 15 {
		t.Errorf("only %d tests passed as an ordinary user:\n%s", n, out)
	}
}

// need skips a test for want of a program, or fails it where RCC_REQUIRE=all
// says that nothing may be missing.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
	case os.Getenv("RCC_REQUIRE") == "all":
		t.Fatalf("%s is not installed", program)
	default:
		t.Skipf("%s is not installed", program)
	}
	return path
}

// world is a sandbox with a writable tree at /srv/proj.
type world struct {
	*Sandbox
	tree   string
	closed sync.Once
	err    error
}

func (w *world) Close() error {
	w.closed.Do(func() { w.err = w.Sandbox.Close() })
	return w.err
}

func newWorld(t *testing.T, edit func(*Job)) *world {
	t.Helper()
	return newWorldNet(t, Policy{Net: NetNone}, edit)
}

func newWorldNet(t *testing.T, policy Policy, edit func(*Job)) *world {
	t.Helper()
	w := &world{}
	p := worldPlan(t, policy, &w.tree, edit)
	w.start(t, p)
	return w
}

func (w *world) start(t *testing.T, p *Plan) {
	t.Helper()
	var err error
	if w.Sandbox, err = Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
}

// worldPlan is the plan of a world with this network; tree is set to its tree.
func worldPlan(t *testing.T, policy Policy, place *string, edit func(*Job)) *Plan {
	t.Helper()
	tree := t.TempDir()
	job := Job{
		Dir: "/srv/proj", UID: 1000, GID: 1000, HostUID: os.Getuid(), HostGID: os.Getgid(), User: "agent",
		Binds: []Bind{{Source: tree, Target: "/srv/proj", Writable: true}},
	}
	if os.Getuid() == 0 {
		job.HostUID, job.HostGID = 1879048200, 1879048200
		if err := os.Chown(tree, job.HostUID, job.HostGID); err != nil {
			t.Fatal(err)
		}
	}
	if edit != nil {
		edit(&job)
	}
	p, err := NewPlan(policy, job, LookHost(os.Environ()))
	if err != nil {
		t.Fatal(err)
	}
	*place = tree
	return p
}

// sh runs a script inside and gives what it printed and its status.
func (w *world) sh(t *testing.T, script string) (string, int) {
	t.Helper()
	r, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p, err := w.Spawn(Program{Args: []string{"sh", "-c", script}, Files: []*os.File{null, wr, wr}})
	wr.Close()
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() { b, _ := io.ReadAll(r); got <- string(b) }()
	status, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-got:
		return strings.TrimSpace(s), status
	case <-time.After(10 * time.Second):
		t.Fatal("output does not end")
		return "", 0
	}
}

// want runs a script and compares all that it printed.
func (w *world) want(t *testing.T, script, want string) {
	t.Helper()
	if got, _ := w.sh(t, script); got != want {
		t.Errorf("%s\ngot  %q\nwant %q", script, got, want)
	}
}

func TestIdentity(t *testing.T) {
	w := newWorld(t, nil)
	w.want(t, "id -u; id -g; id -un; hostname; pwd; echo $HOME; cat /etc/machine-id", "1000\n1000\nagent\nrcc\n/srv/proj\n/rcc/home\n"+strings.Repeat("0", 32))
	w.want(t, "touch made && stat -c %u made", "1000")
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(w.tree, "made"), &st); err != nil {
		t.Fatal(err)
	}
	if int(st.Uid) != w.plan.HostUID || st.Uid == 0 {
		t.Errorf("a file of the program belongs to %d on the host, want %d", st.Uid, w.plan.HostUID)
	}
}

func TestNoPrivileges(t *testing.T) {
	w := newWorld(t, nil)
	zero := strings.Repeat("0", 16)
	for _, pid := range []string{"self", "1"} {
		w.want(t, "grep -E '^(Cap...|NoNewPrivs):' /proc/"+pid+"/status | tr -d '\\t' | tr '\\n' ' '",
			fmt.Sprintf("CapInh:%s CapPrm:%s CapEff:%s CapBnd:%s CapAmb:%s NoNewPrivs:1", zero, zero, zero, zero, zero))
	}
	if os.Getuid() == 0 {
		w.want(t, "grep Groups: /proc/self/status | tr -d '\\t '", "Groups:")
	}
	for _, script := range []string{"unshare -U true", "unshare -Ur true", "mount -t tmpfs x /tmp", "chroot / true", "unshare -m true"} {
		if out, status := w.sh(t, script); status == 0 {
			t.Errorf("%s worked: %s", script, out)
		}
	}
	// Control: the same works for this user outside, so that it is the
	// sandbox that refuses.
	if out, err := exec.Command("unshare", "-Ur", "true").CombinedOutput(); err != nil {
		t.Errorf("no control: unshare does not work here either: %v %s", err, out)
	}
}

func TestOwnNamespaces(t *testing.T) {
	w := newWorld(t, nil)
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		host, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		if in, _ := w.sh(t, "readlink /proc/self/ns/"+ns); in == host || !strings.HasPrefix(in, ns+":[") {
			t.Errorf("%s is %s inside, %s outside", ns, in, host)
		}
	}
	// The network namespace belongs to the outer user namespace, which not
	// even a root of the inner one could change (NS_GET_USERNS, ioctl_nsfs(2)).
	init := children(t, w.keeper.Process.Pid)
	if len(init) != 1 {
		t.Fatalf("keeper has children %v, want init alone", init)
	}
	if a, b := namespaceOwner(t, init[0], "net"), namespaceID(t, w.keeper.Process.Pid, "user"); a != b {
		t.Errorf("the network belongs to user namespace %d, want the keeper's %d", a, b)
	}
	if a, b := namespaceOwner(t, init[0], "mnt"), namespaceID(t, init[0], "user"); a != b {
		t.Errorf("the mounts belong to user namespace %d, want init's %d", a, b)
	}
}

func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	for f := range strings.FieldsSeq(string(b)) {
		n, _ := strconv.Atoi(f)
		pids = append(pids, n)
	}
	return pids
}

func namespaceID(t *testing.T, pid int, ns string) uint64 {
	t.Helper()
	out := strings.Trim(readlink(t, fmt.Sprintf("/proc/%d/ns/%s", pid, ns)), ns+":[]")
	id, err := strconv.ParseUint(out, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func readlink(t *testing.T, path string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may look into processes that hide themselves")
	}
	s, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func namespaceOwner(t *testing.T, pid int, ns string) uint64 {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may look into processes that hide themselves")
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.NS_GET_USERNS, 0)
	if e != 0 {
		t.Fatal(e)
	}
	defer unix.Close(int(fd))
	var st unix.Stat_t
	if err := unix.Fstat(int(fd), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestFilesOfTheHost(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("nonce"), 0o666); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil)
	for _, p := range []string{secret, "/etc/shadow", "/etc/ssh", "/etc/gitconfig", "/root", "/home", "/sys", "/boot", "/run/systemd", "/var/lib", "/var/run/docker.sock", "/dev/kvm", "/dev/vda", "/dev/fuse", "/dev/mem", "/opt", "/mnt", "/media"} {
		if out, status := w.sh(t, "ls -d "+p); status == 0 {
			t.Errorf("%s is visible: %s", p, out)
		}
	}
	if err := exec.Command("cat", secret).Run(); err != nil {
		t.Errorf("no control: %v", err)
	}
	w.want(t, "ls -A /", "bin\ndev\netc\n"+insideLib()+"proc\nrcc\nrun\nsbin\nsrv\ntmp\nusr\nvar")
	for _, p := range []string{"/x", "/usr/x", "/etc/x", "/dev/x", "/proc/sys/kernel/hostname", "/srv/x", "/rcc/x", "/var/x"} {
		if out, status := w.sh(t, "echo y > "+p); status == 0 {
			t.Errorf("%s is writable: %s", p, out)
		}
	}
	for _, p := range []string{"/tmp/x", "/var/tmp/x", "/run/x", "/dev/shm/x", "/srv/proj/x", "$HOME/x", "/dev/null"} {
		if out, status := w.sh(t, "echo y > "+p); status != 0 {
			t.Errorf("%s is not writable: %s", p, out)
		}
	}
	for _, p := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger"} {
		if out, _ := w.sh(t, "cat "+p+" 2>/dev/null | wc -c"); out != "0" {
			t.Errorf("%s shows %s bytes", p, out)
		}
	}
}

func insideLib() string {
	out := ""
	for _, l := range []string{"lib", "lib32", "lib64", "libx32"} {
		if _, err := os.Lstat("/" + l); err == nil {
			out += l + "\n"
		}
	}
	return out
}

func TestNothingInherited(t *testing.T) {
	r, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer wr.Close()
	// A descriptor that was left open without FD_CLOEXEC, as shells do.
	leak, err := unix.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	t.Setenv("SECRET_TOKEN", "nonce")
	w := newWorld(t, nil)
	w.want(t, "ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3") // 3 is the folder that ls reads
	w.want(t, "env | grep -v ^PATH= | sort | tr '\\n' ' '", "HOME=/rcc/home LOGNAME=agent PWD=/srv/proj SHELL=/bin/sh USER=agent")
	w.want(t, "ulimit -Hc", "0") // in blocks: 1 byte, which stops handlers too
}

// keyScript looks a key up in the session keyring and tries to leave one there:
// add_key and keyctl by number, since no program for it is everywhere.
const keyScript = `import ctypes, sys
c = ctypes.CDLL(None, use_errno=True)
ADD, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[__import__("os").uname().machine]
JOIN, SEARCH, SESSION = 1, 10, -3
def find(name): return c.syscall(KEYCTL, SEARCH, SESSION, b"user", name, 0) >= 0
def add(name): return c.syscall(ADD, b"user", name, b"nonce", 5, SESSION) >= 0
if sys.argv[1] == "outside":
    assert c.syscall(KEYCTL, JOIN, None) >= 0 and add(b"rcc:secret")
    import subprocess
    print("control", subprocess.run([sys.executable, "-c", sys.argv[2], "inside", ""], capture_output=True, text=True).stdout.strip())
    assert c.syscall(KEYCTL, 9, c.syscall(KEYCTL, SEARCH, SESSION, b"user", b"rcc:planted", 0), SESSION) >= 0
    subprocess.run(sys.argv[3:])
    print("planted on the host", find(b"rcc:planted"))
else:
    print("reads", find(b"rcc:secret"), "plants", add(b"rcc:planted"))
`

// TestKeyring runs itself again under a session keyring with a secret in it.
func TestKeyring(t *testing.T) {
	python := need(t, "/usr/bin/python3")
	if os.Getenv("RCC_TEST_KEYRING") != "" {
		w := newWorld(t, nil)
		if err := os.WriteFile(filepath.Join(w.tree, "key.py"), []byte(keyScript), 0o644); err != nil {
			t.Fatal(err)
		}
		out, _ := w.sh(t, python+" key.py inside")
		fmt.Println("sandbox", out)
		return
	}
	c := exec.Command(python, "-c", keyScript, "outside", keyScript, "/proc/self/exe", "-test.run=^TestKeyring$", "-test.v")
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	c.Args[5] = self
	c.Env = append(os.Environ(), "RCC_TEST_KEYRING=1", "RCC_TEST_STAGE="+stagePath)
	b, err := c.CombinedOutput()
	out := string(b)
	if err != nil || !strings.Contains(out, "control reads True plants True") {
		t.Fatalf("no control: %v\n%s", err, out)
	}
	if !strings.Contains(out, "sandbox reads False plants True") || !strings.Contains(out, "planted on the host False") {
		t.Errorf("the host's keyring was reached:\n%s", out)
	}
}

func TestDataLimit(t *testing.T) {
	const script = "head -c 200000000 /dev/zero | tail -c 150000000 | wc -c" // tail keeps it in memory
	w := newWorld(t, nil)
	w.want(t, script, "150000000")
	w = newWorld(t, func(j *Job) { j.Data = 100 << 20 })
	if out, _ := w.sh(t, script); !strings.Contains(out, "memory exhausted") {
		t.Errorf("150 MB were held under a limit of 100 MiB: %s", out)
	}
}

func TestNetworkNone(t *testing.T) {
	w := newWorld(t, nil)
	w.want(t, "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '", "lo")
	w.want(t, "cat /proc/net/route | wc -l", "1")
	need(t, "/usr/bin/python3")
	w.want(t, `/usr/bin/python3 -c '
import socket
s=socket.create_server(("127.0.0.1",0)); c=socket.create_connection(s.getsockname()); print("loopback")
for a in ("192.0.2.1","10.0.0.1","8.8.8.8"):
    try: socket.create_connection((a,80),2); print("reached",a)
    except OSError as e: print(e.errno)'`, "loopback\n101\n101\n101")
}

// marked gives the processes of the host that have text in their command line.
// spawnOnly runs a script whose children may hold its output.
// TestSupervisorKilled shows that nothing outlives the process that called
// Start, however it ends.
// TestMountTargetIsALink: what the program leaves in a folder that is mounted
// must not lead a later mount elsewhere.
func TestMountTargetIsALink(t *testing.T) {
	tree := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(tree, "inner")); err != nil {
		t.Fatal(err)
	}
	inner := t.TempDir()
	job := Job{
		Dir: "/srv/proj", UID: 1000, GID: 1000, HostUID: os.Getuid(), HostGID: os.Getgid(), User: "u",
		Binds: []Bind{{Source: tree, Target: "/srv/proj", Writable: true}, {Source: inner, Target: "/srv/proj/inner", Writable: true}},
	}
	if os.Getuid() == 0 {
		job.HostUID, job.HostGID = 1879048200, 1879048200
	}
	p, err := NewPlan(Policy{Net: "none"}, job, LookHost(os.Environ()))
	if err != nil {
		t.Fatal(err)
	}
	sb, err := Start(context.Background(), p)
	if err == nil {
		sb.Close()
		t.Fatal("a mount followed a link")
	}
	if !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v, want ELOOP", err)
	}
}

func TestMapOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root starts programs under another id")
	}
	store := t.TempDir()
	if err := os.WriteFile(filepath.Join(store, "object"), []byte("closed"), 0o400); err != nil {
		t.Fatal(err)
	}
	os.Chmod(store, 0o700)
	for _, mapped := range []bool{false, true} {
		w := newWorld(t, func(j *Job) {
			j.Binds = append(j.Binds, Bind{Source: store, Target: "/rcc/objects/0", MapOwner: mapped})
		})
		out, status := w.sh(t, "cat /rcc/objects/0/object")
		if (status == 0) != mapped {
			t.Errorf("mapped %v: status %d %s", mapped, status, out)
		}
		if out, status := w.sh(t, "echo x > /rcc/objects/0/object"); status == 0 {
			t.Errorf("mapped %v: writable %s", mapped, out)
		}
	}
}

// TestInitKilled: when the sandbox ends before its program, who waits is told.
