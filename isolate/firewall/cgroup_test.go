package firewall

import (
	"bufio"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is made in a task's cgroup, or beneath it, does not get to a private
// address; the host's resolver and answers to who came are left alone.
func TestCgroups(t *testing.T) {
	need(t, "ip", "nft")
	if os.Getuid() != 0 {
		t.Skip("making a cgroup takes root")
	}
	root, err := cgroupRoot()
	if err != nil || unix.Access(root, unix.W_OK) != nil {
		lacking(t, "cgroup2")
	}
	if !inNamespace(t) {
		return
	}
	name := filepath.Base(t.TempDir())
	name = "rcc-test-" + name + "-" + strings.ReplaceAll(time.Now().Format("150405.000000"), ".", "")
	group := filepath.Join(root, name)
	inner := filepath.Join(group, "inner")
	if err := errors.Join(os.Mkdir(group, 0o755), os.Mkdir(inner, 0o755)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		os.Remove(inner)
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	}()
	v4, _, _, public := somePrivate(t)
	in := func(dir string) func(*exec.Cmd) {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return func(c *exec.Cmd) { c.SysProcAttr.UseCgroupFD, c.SysProcAttr.CgroupFD = true, int(f.Fd()) }
	}
	if why := dialAs(t, 0, v4, in(inner)); why != "" {
		t.Errorf("control: without the wall: %s", why)
	}
	wall := Wall{Cgroups: []string{name}}
	loadWall(t, wall)
	for _, dir := range []string{group, inner} {
		if why := dialAs(t, 0, v4, in(dir)); why == "" {
			t.Errorf("from %s a task reached %s", dir, v4)
		}
	}
	if why := dialAs(t, 0, public, in(inner)); why != "" {
		t.Errorf("a task did not reach %s: %s", public, why)
	}
	if why := dialAs(t, 0, v4, nil); why != "" {
		t.Errorf("from outside of the cgroup: %s", why)
	}
	if why := dialAs(t, 0, "udp:"+strings.Split(v4, ":")[0]+":53", in(inner)); why != "" {
		t.Errorf("the host's resolver is out of reach: %s", why)
	}
	if why := dialAs(t, 0, "udp:"+strings.Split(v4, ":")[0]+":54", in(inner)); why == "" {
		t.Error("a packet that is not DNS was sent")
	}
	serve := exec.Command("/proc/self/exe")
	serve.Env = []string{"RCC_TEST_SERVE=127.0.0.1:0"}
	serve.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in(inner)(serve)
	out, err := serve.StdoutPipe()
	if err == nil {
		err = serve.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if why := dialAs(t, 0, strings.TrimSpace(addr), nil); why != "" {
		t.Errorf("a published port does not answer: %s", why)
		serve.Process.Kill()
	}
	if err := serve.Wait(); err != nil {
		t.Errorf("the server of a published port: %v", err)
	}

	if _, err := (Wall{Cgroups: []string{name + "/none"}}).Table(); err == nil || !strings.Contains(err.Error(), "cannot find the cgroup "+name+"/none") {
		t.Errorf("a cgroup that is not there: %v", err)
	}

	// nft looks for cgroups in one place only; here it may be another.
	if root != "/sys/fs/cgroup" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(root, "/sys/fs/cgroup", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		group = filepath.Join("/sys/fs/cgroup", name)
		inner = filepath.Join(group, "inner")
	}
	table, err := wall.Table()
	if err != nil {
		t.Fatal(err)
	}
	compareWithNft(t, "cgroups", table)

	// A cgroup that was made anew has another number, and the rule does not hold.
	loadWall(t, wall)
	os.Remove(inner)
	if err := errors.Join(os.Remove(group), os.Mkdir(group, 0o755)); err != nil {
		t.Fatal(err)
	}
	again, err := wall.Table()
	if err != nil {
		t.Fatal(err)
	}
	l, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if diff, err := l.Differs(again); err != nil || strings.Join(diff, " ") != "chain output" {
		t.Errorf("a cgroup made anew: %q, %v", diff, err)
	}
}

// The bytes of a cgroup's number are the machine's.
func TestCgroupNumber(t *testing.T) {
	p := cgroup("a", 1, 0x0102)
	text := messages(t, Table{chains: []chain{{"x", nil, []rule{{p}}}}})
	want := "0201000000000000"
	if binary.NativeEndian.Uint16([]byte{1, 2}) == 0x0102 {
		want = "0000000000000102"
	}
	if !strings.Contains(strings.NewReplacer("\n", "", "\t", "").Replace(text), want) {
		t.Errorf("no %s in\n%s", want, text)
	}
}
