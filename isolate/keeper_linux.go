package isolate

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// keeper is the first stage: alone in user namespace A, owner of network
// namespace N. It prepares N, starts init in namespace B, gives up what it may
// do, and lives as long as init.
func keeper(w wire) error {
	runtime.LockOSThread()
	p, err := readPlan()
	if err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return stepError("bring up the loopback device", err)
	}
	// Before there is an init: nothing of the program's runs before the rules
	// stand.
	gate := 0
	if p.Net != NetNone {
		if gate, err = wayOut(w, p); err != nil {
			return err
		}
	}
	pid, err := startInit(p)
	if err != nil {
		return stepError("start the inner namespaces", err)
	}
	// Only now: until init's ids were written, init shared our memory and
	// /proc/PID/uid_map would have been closed to us.
	if err := undumpable(); err != nil {
		return stepError("hide the keeper", err)
	}
	if err := dropAll(true); err != nil {
		return stepError("drop the keeper's privileges", err)
	}
	// The socket is init's now: a keeper that held it would keep the
	// supervisor from seeing init's end.
	unix.Close(wireFD)
	w.conn.Close()
	for {
		var ws unix.WaitStatus
		ended, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || ended == pid:
			return nil
		case ended == gate:
			lastWord(ws)
		}
	}
}

// startInit clones init into the inner user namespace and all that it owns.
func startInit(p *Plan) (int, error) {
	return syscall.ForkExec(self, []string{initName}, &syscall.ProcAttr{
		Env:   []string{"GOMAXPROCS=2", "GOGC=off"},
		Files: []uintptr{0, 1, 2, wireFD, planFD},
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID |
				unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: p.UID, HostID: 0, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: p.GID, HostID: 0, Size: 1}},
			// A uid other than 0 keeps nothing over execve(2); ambient
			// capabilities do (capabilities(7)). SYS_ADMIN to mount,
			// SYS_RESOURCE for /proc/sys/user, SETPCAP to drop the rest.
			// An overlay works on its layers as who mounted it does, after it
			// has asked what the program may do (Documentation/filesystems/
			// overlayfs.rst, "Permission model"). DAC_OVERRIDE lets it mark a
			// folder that not even its owner may write to; it counts for files
			// of the ids in this namespace only, which are the program's own
			// (user_namespaces(7), "Effect of capabilities").
			AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE, unix.CAP_SETPCAP, unix.CAP_DAC_OVERRIDE},
			Pdeathsig:   unix.SIGKILL,
		},
	})
}

// loopbackUp makes 127.0.0.1 and ::1 usable inside: test-suites need them.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return os.NewSyscallError("ioctl SIOCSIFFLAGS", err)
	}
	return nil
}

// dropAll takes every privilege from every thread of this process. bounding
// says whether the calling thread's bounding set goes too; that takes
// CAP_SETPCAP, and a call for each capability.
func dropAll(bounding bool) error {
	if bounding {
		if err := dropBounding(); err != nil {
			return err
		}
	}
	// Without any capability, no_new_privs and with these bits locked, no
	// execve(2) gives one back (capabilities(7), "The securebits flags").
	const bits = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<6 | 1<<7 // NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE and their locks
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, bits, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_SECUREBITS", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_CAP_AMBIENT", err)
	}
	if _, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return os.NewSyscallError("prctl PR_SET_NO_NEW_PRIVS", e)
	}
	return dropCapabilities()
}

// dropBounding empties the calling thread's bounding set, which what it starts
// inherits.
func dropBounding() error {
	for c := uintptr(0); c <= 63; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) { // past the kernel's last one
			return nil
		}
		if err != nil {
			return os.NewSyscallError("prctl PR_CAPBSET_DROP", err)
		}
	}
	return nil
}
