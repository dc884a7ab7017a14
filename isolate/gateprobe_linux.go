//go:build rccprobe

package isolate

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The stage that tests try the gate's confinement with; no released build has
// it. Its arguments say how it is confined and what it tries; it ends with 0 when
// that worked, with 3 when it was refused, or by the filter.
func init() { stages["rcc-probe"] = probe }

func probe(wire) error {
	err := confine(os.Args[1])
	if err == nil {
		err = attempts[os.Args[2]]()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
	return nil
}

// publishedPort is the port that a probe which is "published" may connect to.
const publishedPort = 5

func confine(how string) error {
	switch how {
	case "free":
		return nil
	case "gate":
		_, err := harden(nil)
		return err
	case "published":
		_, err := harden([]uint16{publishedPort})
		return err
	case "landlock":
		if err := dropAll(true); err != nil {
			return err
		}
		_, err := landlockGate([]uint16{publishedPort})
		return err
	}
	return errors.New("unknown confinement")
}

// call makes a system call that needs nothing to be seen by the kernel.
func call(number uintptr, args ...uintptr) func() error {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		_, _, e := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		switch e {
		case 0:
			return nil
		case unix.EFAULT, unix.EBADF, unix.EINVAL, unix.EPERM, unix.ESRCH, unix.ENOTCONN, unix.ECONNREFUSED, unix.ENOKEY, unix.EOPNOTSUPP, unix.ENOMEM:
			return nil // the kernel looked at it
		}
		return e
	}
}

const none = ^uintptr(0)

var root = []byte("/\x00")

// attempts are what a gate that was taken over would try. Each gives nil where
// nothing holds it.
var attempts = map[string]func() error{
	"work":        work,
	"open":        func() error { f, err := os.Open("/etc/passwd"); f.Close(); return err },
	"create":      func() error { return os.WriteFile(os.Args[3], nil, 0o600) },
	"stat":        func() error { _, err := os.Stat("/"); return err },
	"exec":        func() error { return unix.Exec("/bin/true", []string{"true"}, nil) },
	"fork":        fork,
	"clone3":      call(unix.SYS_CLONE3, 0, 0),
	"kill":        func() error { return unix.Kill(os.Getppid(), 0) },
	"tgkill":      func() error { return unix.Tgkill(os.Getppid(), os.Getppid(), 0) },
	"ptrace":      call(unix.SYS_PTRACE, unix.PTRACE_TRACEME),
	"mem":         call(unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid())),
	"pidfd":       call(unix.SYS_PIDFD_OPEN, uintptr(os.Getpid())),
	"pidfd_getfd": call(unix.SYS_PIDFD_GETFD, none),
	"io_uring":    call(unix.SYS_IO_URING_SETUP, 1, 0),
	"bpf":         call(unix.SYS_BPF, 0, 0, 0),
	"perf":        call(unix.SYS_PERF_EVENT_OPEN, 0),
	"userfaultfd": call(unix.SYS_USERFAULTFD, none),
	"keyctl":      call(unix.SYS_KEYCTL, none),
	"mount":       call(unix.SYS_MOUNT, 0, 0, 0, 0, 0),
	"unshare":     call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
	"setns":       call(unix.SYS_SETNS, none, 0),
	"chroot":      call(unix.SYS_CHROOT, uintptr(unsafe.Pointer(&root[0]))),
	"setuid":      call(unix.SYS_SETUID, 0),
	"memfd":       call(unix.SYS_MEMFD_CREATE, 0),
	"mprotect":    call(unix.SYS_MPROTECT, 0, 4096, unix.PROT_READ|unix.PROT_EXEC),
	"code":        code,
	"dup":         call(unix.SYS_DUP, 0),
	"tcp":         func() error { return socket(unix.AF_INET, unix.SOCK_STREAM) },
	"udp":         func() error { return socket(unix.AF_INET, unix.SOCK_DGRAM) },
	"unix":        func() error { return socket(unix.AF_UNIX, unix.SOCK_STREAM) },
	"netlink":     func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) },
	"vsock":       func() error { return call(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM)() },
	"bind":        call(unix.SYS_BIND, none, 0, 0),
	"listen":      call(unix.SYS_LISTEN, none, 1),
	"connect":     call(unix.SYS_CONNECT, none, 0, 0),
	"transparent": call(unix.SYS_SETSOCKOPT, none, unix.SOL_IP, unix.IP_TRANSPARENT, 0, 0),
	"dial":        func() error { return dial(os.Args[3]) },
}

// work is what Go's runtime does by itself: threads, memory, timers, preemption.
func work() error {
	var group sync.WaitGroup
	stop := time.Now().Add(200 * time.Millisecond)
	for range 32 {
		group.Go(func() {
			runtime.LockOSThread()
			for n := 0; time.Now().Before(stop); n++ {
				b := make([]byte, 1<<16) // as a head's: with far more, a slow collector reaches gateData
				b[n%len(b)] = 1
				if n%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for range 5 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	group.Wait()
	return nil
}

func fork() error {
	_, _, e := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_VFORK, 0, 0, 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil // in both; the child ends first
}

// code asks for memory that can be written to and run.
func code() error {
	_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return err
}

func socket(family, kind int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	unix.Close(fd)
	return err
}

// dial connects to a port of the loopback address; that nobody listens there is
// as good.
func dial(port string) error {
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: n, Addr: [4]byte{127, 0, 0, 1}})
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.ENETUNREACH) {
		return nil
	}
	return err
}
