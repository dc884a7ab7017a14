package isolate

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Finding is one thing that the sandbox needs of the machine.
type Finding struct {
	Name   string
	OK     bool
	Detail string
	Mend   string // a command or a sentence; empty when OK
}

// minKernel is the first kernel with everything that Start uses:
// mount_setattr(2) and openat2(2) with MOUNT_ATTR_IDMAP, 5.12.
var minKernel = [2]int{5, 12}

// Probe looks at what the sandbox needs, without making one.
func Probe() []Finding {
	return []Finding{probeKernel(), probeUserNamespaces(), probeProc()}
}

func probeKernel() Finding {
	f := Finding{Name: "kernel"}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		f.Detail = err.Error()
		return f
	}
	f.Detail = "Linux " + unix.ByteSliceToString(u.Release[:])
	var major, minor int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	f.OK = major > minKernel[0] || major == minKernel[0] && minor >= minKernel[1]
	if !f.OK {
		f.Mend = fmt.Sprintf("boot Linux %d.%d or newer", minKernel[0], minKernel[1])
	}
	return f
}

func probeUserNamespaces() Finding {
	f := Finding{Name: "user namespaces", OK: true, Detail: "allowed"}
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		return Finding{Name: f.Name, Detail: "the kernel has none", Mend: "use a kernel with CONFIG_USER_NS"}
	}
	if os.Geteuid() == 0 {
		f.Detail = "not restricted for root"
		if sysctl("user/max_user_namespaces") != "0" {
			return f
		}
	}
	if mend := userNamespaceMend(); mend != "" {
		return Finding{Name: f.Name, Detail: "not allowed for this user", Mend: mend}
	}
	return f
}

// probeProc: a procfs of one's own is refused where the present one is covered
// in part, as it is in many containers.
func probeProc() Finding {
	f := Finding{Name: "proc", OK: true, Detail: "visible in full"}
	for _, p := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sys"} {
		var at, proc unix.Stat_t
		if unix.Lstat(p, &at) == nil && unix.Lstat("/proc", &proc) == nil && at.Dev != proc.Dev {
			return Finding{Name: f.Name, Detail: p + " is covered by another mount", Mend: "run rcc outside of the container, or start that with an unmasked /proc (docker: --security-opt systempaths=unconfined)"}
		}
	}
	return f
}

// Mend gives what to do about an error of Start, or "".
func Mend(err error) string {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return fmt.Sprintf("boot Linux %d.%d or newer", minKernel[0], minKernel[1])
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSPC):
		return userNamespaceMend()
	}
	return ""
}
