package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv("RCC_TEST_DIAL"); addr != "" {
		os.Exit(dialOnce(addr))
	}
	if addr := os.Getenv("RCC_TEST_SERVE"); addr != "" {
		os.Exit(serveOnce(addr))
	}
	os.Exit(m.Run())
}

// taskUID is an id of the range that Wall.UIDs has in these tests.
const taskUID = 1879048200

var taskUIDs = [2]uint32{1879048192, 2147483647}

// ordinaryUID is nobody's: the tests run a second time under it.
const ordinaryUID = 54322

// TestAsOrdinaryUser runs every other test of this package as a user without
// any privilege.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 || inside() {
		t.Skip("runs the tests again as an ordinary user; this is one")
	}
	dir, err := os.MkdirTemp("/var/tmp", "rcc-firewall-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "firewall.test")
	if err := errors.Join(os.Chmod(dir, 0o777|os.ModeSticky), os.WriteFile(bin, self, 0o755)); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(bin, "-test.v", "-test.skip=Golden")
	c.Dir = dir
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "RCC_REQUIRE=" + os.Getenv("RCC_REQUIRE")}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUID, Gid: ordinaryUID}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("as an ordinary user: %v\n%s", err, out)
	}
	if n := bytes.Count(out, []byte("\n--- PASS")); n < 6 {
		t.Errorf("only %d tests passed as an ordinary user:\n%s", n, out)
	}
}

// need skips a test for want of a program, or fails it where RCC_REQUIRE says
// that it may not be missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacking(t, "exec:"+p)
		}
	}
}

func lacking(t *testing.T, what string) {
	t.Helper()
	for want := range strings.SplitSeq(os.Getenv("RCC_REQUIRE"), ",") {
		if want == "all" || want == what {
			t.Fatalf("this machine lacks %s, which RCC_REQUIRE=%s asks for", what, os.Getenv("RCC_REQUIRE"))
		}
	}
	t.Skipf("this machine lacks %s", what)
}

func inside() bool { return os.Getenv("RCC_TEST_NAMESPACE") != "" }

// inNamespace runs the test once more in a network namespace of its own, whose
// only device is lo, and tells whether this is that run. Root stays root there;
// an ordinary user becomes taskUID, with the privileges over that namespace.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if inside() {
		if err := loopbackUp(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	c.Env = append(os.Environ(), "RCC_TEST_NAMESPACE=1")
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	if os.Getuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: taskUID, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: taskUID, HostID: os.Getgid(), Size: 1}}
		attr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE}
	}
	c.SysProcAttr = attr
	out, err := c.CombinedOutput()
	if errors.Is(err, os.ErrPermission) && os.Getuid() != 0 {
		lacking(t, "userns")
	}
	switch {
	case err != nil:
		t.Errorf("in a network namespace: %v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP: "+t.Name()+" ")):
		t.Skipf("%s", out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")):
		t.Errorf("the test did not run in its network namespace:\n%s", out)
	}
	return false
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// command runs a program and gives what it printed.
func command(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// dialOnce is what this program does as another user or in a cgroup: it connects,
// reads what the server says, and tells by its status how that went. An address
// that begins with udp: gets a packet.
func dialOnce(addr string) int {
	if a, ok := strings.CutPrefix(addr, "udp:"); ok {
		if err := sendUDP(a); err != nil {
			fmt.Println(err)
			return 7
		}
		return 0
	}
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		fmt.Println(err)
		return 7
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 2)
	if _, err := c.Read(b); err != nil || string(b) != "hi" {
		fmt.Println(err)
		return 7
	}
	return 0
}

// serveOnce says "hi" to one who connects. It prints where.
func serveOnce(addr string) int {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(l.Addr())
	l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	c, err := l.Accept()
	if err != nil {
		return 1
	}
	defer c.Close()
	fmt.Fprint(c, "hi")
	return 0
}

// dialAs starts this program under a user id; it gives "" or why there was no
// connection.
func dialAs(t *testing.T, uid uint32, addr string, edit func(*exec.Cmd)) string {
	t.Helper()
	// Not the test's own program: another user may not be able to reach it.
	c := exec.Command("/proc/self/exe")
	c.Env = []string{"RCC_TEST_DIAL=" + addr}
	c.SysProcAttr = &syscall.SysProcAttr{}
	if int(uid) != os.Getuid() {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	if edit != nil {
		edit(c)
	}
	out, err := c.CombinedOutput()
	if err == nil {
		return ""
	}
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() != 7 {
		t.Fatalf("dial %s as %d: %v\n%s", addr, uid, err, out)
	}
	return strings.TrimSpace(string(out))
}

// listen says "hi" to whoever connects.
func listen(t *testing.T, l net.Listener) {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "hi")
			c.Close()
		}
	}()
}

func counter(t *testing.T, name string) Counter {
	t.Helper()
	l, err := Read()
	if err != nil || l == nil {
		t.Fatalf("read: %v, %v", l, err)
	}
	for _, c := range l.Counters {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no counter %s in %v", name, l.Counters)
	return Counter{}
}
