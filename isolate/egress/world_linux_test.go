package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// worldEnv is set in a test binary that runs in a network namespace of its own,
// in which every address is local: nothing of a test can leave it.
const worldEnv = "RCC_TEST_WORLD"

// Two such namespaces: what a test does happens inside unless it says otherwise.
var insideNet, outsideNet int

// enterWorld runs this test binary again in such a namespace. Without one the
// tests that need it say so.
func enterWorld() {
	if in := os.Getenv(worldEnv); in != "" { // "ready" in what the tests start again, as fuzzing does
		if err := makeNets(in != "ready"); err != nil {
			fmt.Fprintln(os.Stderr, "cannot make two networks for the tests:", err)
			os.Exit(1)
		}
		os.Setenv(worldEnv, "ready")
		return
	}
	runtime.LockOSThread() // its end would be the parent's for Pdeathsig (prctl(2))
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), worldEnv+"=inside")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL,
	}
	err := cmd.Start()
	if err != nil {
		return
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	case err != nil:
		fmt.Fprintln(os.Stderr, "cannot run the tests in a network namespace:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// needWorld skips a test where there is no such namespace, or fails it where
// RCC_REQUIRE=all asks for it.
func needWorld(t testing.TB) {
	t.Helper()
	switch {
	case os.Getenv(worldEnv) == "ready":
	case os.Getenv("RCC_REQUIRE") == "all":
		t.Fatal("this machine makes no user and network namespace, which RCC_REQUIRE=all asks for")
	default:
		t.Skip("this machine makes no user and network namespace")
	}
}

// makeNets makes every address local in another namespace, and, if it is new, in
// this one.
func makeNets(fresh bool) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if fresh {
		if err := allLocal(); err != nil {
			return err
		}
	}
	const own = "/proc/thread-self/ns/net"
	if insideNet, err = unix.Open(own, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := allLocal(); err != nil {
		return err
	}
	if outsideNet, err = unix.Open(own, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	return unix.Setns(insideNet, unix.CLONE_NEWNET)
}

// outside calls f in the other namespace. Sockets stay where they were made.
func outside(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setns(outsideNet, unix.CLONE_NEWNET); err != nil {
		panic(err)
	}
	defer func() {
		if err := unix.Setns(insideNet, unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
	}()
	f()
}

// allLocal brings lo up and gives it every address, as a sandbox has it: "ip
// link set lo up; ip route add local 0.0.0.0/0 dev lo", and ::/0.
func allLocal() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	up := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(up[4:], 1) // lo
	binary.NativeEndian.PutUint32(up[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(up[12:], unix.IFF_UP)
	if err := netlink(fd, unix.RTM_NEWLINK, 0, up); err != nil {
		return fmt.Errorf("link up: %w", err)
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		route := make([]byte, unix.SizeofRtMsg)
		route[0], route[4] = family, unix.RT_TABLE_LOCAL
		route[5], route[6], route[7] = unix.RTPROT_STATIC, unix.RT_SCOPE_HOST, unix.RTN_LOCAL
		route = binary.NativeEndian.AppendUint16(route, 8)
		route = binary.NativeEndian.AppendUint16(route, unix.RTA_OIF)
		route = binary.NativeEndian.AppendUint32(route, 1)
		if err := netlink(fd, unix.RTM_NEWROUTE, unix.NLM_F_CREATE, route); err != nil {
			return fmt.Errorf("route of family %d: %w", family, err)
		}
	}
	return nil
}

// netlink sends one request and waits for its acknowledgement (netlink(7)).
func netlink(fd int, kind, flags uint16, body []byte) error {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = append(b, make([]byte, 8)...)
	if err := unix.Sendto(fd, append(b, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	reply := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, reply, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return errors.New("a short answer")
	}
	if errno := -int32(binary.NativeEndian.Uint32(reply[unix.SizeofNlMsghdr:])); errno != 0 {
		return syscall.Errno(errno)
	}
	return nil
}
