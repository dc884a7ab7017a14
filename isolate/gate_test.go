package isolate

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	abi "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// tryAsGate has a stage confine itself and try something. Like the keeper's
// children, it is the root of a user namespace that owns its network.
func tryAsGate(t *testing.T, how string, what ...string) (syscall.WaitStatus, string) {
	t.Helper()
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	c := exec.Command(stagePath)
	c.Args = append([]string{"rcc-probe", how}, what...)
	c.Env = []string{"GOMAXPROCS=2"}
	c.ExtraFiles = []*os.File{theirs}
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.Sys().(syscall.WaitStatus), string(out)
}

// TestGateFilter: what is not on the list ends the gate. Each probe works where
// nothing holds it.
func TestGateFilter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "made")
	for _, what := range []string{
		"open", "create", "stat", "exec", "fork", "clone3", "kill", "tgkill", "ptrace", "mem", "pidfd", "pidfd_getfd", "io_uring", "bpf", "perf", "userfaultfd", "keyctl",
		"mount", "unshare", "setns", "chroot", "setuid", "memfd", "mprotect", "code", "dup", "tcp", "udp", "unix", "netlink", "vsock", "bind", "listen", "connect", "transparent",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if st, out := tryAsGate(t, "free", what, file); st.ExitStatus() != 0 {
				t.Fatalf("no control: %v %s", st, out)
			}
			if st, out := tryAsGate(t, "gate", what, file); !st.Signaled() || st.Signal() != unix.SIGSYS {
				t.Errorf("got status %d signal %v, want SIGSYS\n%s", st.ExitStatus(), st.Signal(), out)
			}
		})
	}
}

// TestGateWorks: what Go's runtime does by itself is on the list.
func TestGateWorks(t *testing.T) {
	for _, how := range []string{"free", "gate", "published"} {
		if st, out := tryAsGate(t, how, "work"); st.ExitStatus() != 0 {
			t.Errorf("%s: status %d signal %v\n%s", how, st.ExitStatus(), st.Signal(), out)
		}
	}
}

// TestGatePublish: with a published port the gate connects to that one.
func TestGatePublish(t *testing.T) {
	if st, out := tryAsGate(t, "published", "dial", fmt.Sprint(5)); st.ExitStatus() != 0 {
		t.Errorf("the published port: %v %s", st, out)
	}
	for _, what := range []string{"udp", "unix", "netlink", "vsock", "bind", "listen", "open"} {
		if st, _ := tryAsGate(t, "published", what); !st.Signaled() || st.Signal() != unix.SIGSYS {
			t.Errorf("%s: %v, want SIGSYS", what, st)
		}
	}
	if landlockABI(t) >= 4 {
		if st, out := tryAsGate(t, "published", "dial", "6"); st.ExitStatus() != 3 || !strings.Contains(out, "permission denied") {
			t.Errorf("another port: %v %s", st, out)
		}
	}
}

func landlockABI(t *testing.T) int {
	t.Helper()
	version, err := abi.LandlockGetABIVersion()
	if err != nil || version < 1 {
		if os.Getenv("RCC_REQUIRE") == "all" {
			t.Fatal("this kernel has no Landlock")
		}
		t.Skip("this kernel has no Landlock")
	}
	return version
}

// TestGateLandlock shows what Landlock holds by itself, without the filter.
func TestGateLandlock(t *testing.T) {
	version := landlockABI(t)
	file := filepath.Join(t.TempDir(), "made")
	for _, tc := range []struct {
		since int
		what  []string
	}{
		{1, []string{"open"}},
		{1, []string{"create", file}},
		{1, []string{"exec"}},
		{4, []string{"dial", "6"}},
		{6, []string{"kill"}},
	} {
		if version < tc.since {
			continue
		}
		if st, out := tryAsGate(t, "free", tc.what...); st.ExitStatus() != 0 {
			t.Errorf("%v: no control: %v %s", tc.what, st, out)
		}
		os.Remove(file)
		st, out := tryAsGate(t, "landlock", tc.what...)
		if st.ExitStatus() != 3 || !strings.Contains(out, "permission denied") && !strings.Contains(out, "not permitted") {
			t.Errorf("%v: %v %s", tc.what, st, out)
		}
	}
	if st, out := tryAsGate(t, "landlock", "dial", "5"); st.ExitStatus() != 0 {
		t.Errorf("the published port: %v %s", st, out)
	}
	if got := missingOfLandlock(version); version >= 6 && len(got) > 0 || len(missingOfLandlock(0)) != 3 || len(missingOfLandlock(5)) != 1 {
		t.Errorf("missing: %q", got)
	}
}

// gatePID is the keeper's other child.
func (w *world) gatePID(t *testing.T) int {
	t.Helper()
	for _, pid := range children(t, w.keeper.Process.Pid) {
		if pid != w.pid {
			return pid
		}
	}
	t.Fatal("there is no gate")
	return 0
}

// TestGatePosture compares what the gate has with what it shall have.
func TestGatePosture(t *testing.T) {
	w := newWorldNet(t, Policy{Net: NetAllow, Forward: []uint16{5432}, Publish: []uint16{3000}}, nil)
	gate := w.gatePID(t)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", gate))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("threads %v, %v", tasks, err)
	}
	zero := strings.Repeat("0", 16)
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "Seccomp_filters:\t1", "CapInh:\t" + zero, "CapPrm:\t" + zero, "CapEff:\t" + zero, "CapAmb:\t" + zero} {
			if !strings.Contains(string(b), want+"\n") {
				t.Errorf("%s has no line %q:\n%s", task, want, b)
			}
		}
	}
	var limits unix.Rlimit
	if err := unix.Prlimit(gate, unix.RLIMIT_DATA, nil, &limits); os.Getuid() == 0 && (err != nil || limits.Cur != gateData || limits.Max != gateData) {
		t.Errorf("RLIMIT_DATA is %v, %v", limits, err)
	}
	if os.Getuid() != 0 {
		return // the rest is in /proc for root alone
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", gate)); err != nil || strings.TrimRight(string(b), "\x00") != "GOMAXPROCS=2\x00GODEBUG=containermaxprocs=0" {
		t.Errorf("environment %q, %v", b, err)
	}
	count := map[string]int{}
	for _, name := range entries(fmt.Sprintf("/proc/%d/fd", gate)) {
		to := readlink(t, fmt.Sprintf("/proc/%d/fd/%s", gate, name))
		kind, number, _ := strings.Cut(to, ":[")
		if kind == "anon_inode" {
			kind = number
		}
		count[kind]++
	}
	// The link, 2 for flows, 4 for names, 2 for the forwarded port, the log.
	sockets := 1 + 2 + 4 + 2 + 1
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		sockets = 1 + 1 + 2 + 1 + 1
	}
	want := map[string]int{"socket": sockets, "eventpoll]": 1, "eventfd]": 1, "/dev/null": 2, "pipe": 1}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("descriptors %v, want %v", count, want)
	}
	// Nobody else holds a listener: they end with the gate.
	for pid, want := range map[int]int{w.keeper.Process.Pid: 1, w.pid: 1} { // the keeper has the link, for a last word; init its wire
		have := 0
		for _, name := range entries(fmt.Sprintf("/proc/%d/fd", pid)) {
			if strings.HasPrefix(readlink(t, fmt.Sprintf("/proc/%d/fd/%s", pid, name)), "socket:") {
				have++
			}
		}
		if have != want {
			t.Errorf("process %d has %d sockets, want %d", pid, have, want)
		}
	}
	for _, ns := range []string{"pid", "ipc", "uts"} {
		if readlink(t, fmt.Sprintf("/proc/%d/ns/%s", gate, ns)) == readlink(t, "/proc/self/ns/"+ns) {
			t.Errorf("the gate is in the host's %s namespace", ns)
		}
	}
	for _, ns := range []string{"net", "user"} {
		if readlink(t, fmt.Sprintf("/proc/%d/ns/%s", gate, ns)) != readlink(t, fmt.Sprintf("/proc/%d/ns/%s", w.keeper.Process.Pid, ns)) {
			t.Errorf("the gate is not in the keeper's %s namespace", ns)
		}
	}
	if !slices.Equal(w.Degraded(), missingOfLandlock(landlockABI(t))) {
		t.Errorf("degraded: %q", w.Degraded())
	}
}
