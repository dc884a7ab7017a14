package isolate

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A gateCall is a system call that the gate may make, and what for.
type gateCall struct {
	call uintptr
	why  string
	args []argRule
}

// gateCalls is all that the gate may do once it reads; anything else ends it.
// What comes often stands first, for the filter tries one after the other.
var gateCalls = []gateCall{
	{unix.SYS_FUTEX, "Go's runtime: its threads wait and wake", nil},
	{unix.SYS_EPOLL_PWAIT, "Go's netpoller", nil},
	{unix.SYS_EPOLL_CTL, "Go's netpoller", nil},
	{unix.SYS_READ, "the link, flows, the log of refused packets", nil},
	{unix.SYS_WRITE, "the link, the netpoller's eventfd, a last word on standard error", nil},
	{unix.SYS_RECVMSG, "queries, descriptors over the link", nil},
	{unix.SYS_SENDMSG, "replies, descriptors over the link", nil},
	{unix.SYS_RECVFROM, "the first bytes of a flow, which stay (MSG_PEEK)", nil},
	{unix.SYS_ACCEPT4, "flows", nil},
	{unix.SYS_CLOSE, "flows", nil},
	{unix.SYS_GETSOCKNAME, "where a flow was meant to go", nil},
	{unix.SYS_GETPEERNAME, "whose a flow is", nil},
	{unix.SYS_GETSOCKOPT, "net.FileConn, errors of a connection", nil},
	{unix.SYS_SETSOCKOPT, "a flow that is refused is reset; keepalive", []argRule{intArg(1, unix.SOL_SOCKET), intArg(2, unix.SO_LINGER, unix.SO_KEEPALIVE)}},
	{unix.SYS_SETSOCKOPT, "what Go sets on each connection", []argRule{intArg(1, unix.IPPROTO_TCP), intArg(2, unix.TCP_NODELAY, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT)}},
	{unix.SYS_SHUTDOWN, "the end of one direction of a flow", nil},
	{unix.SYS_FCNTL, "net.FileConn duplicates; descriptors are made non-blocking", []argRule{intArg(1, unix.F_DUPFD_CLOEXEC, unix.F_GETFL, unix.F_SETFL)}},
	// Memory can be had, but none that code could be written to and run from.
	{unix.SYS_MMAP, "Go's heap", []argRule{{2, unix.PROT_EXEC, []uint64{0}}, {3, unix.MAP_ANONYMOUS, []uint64{unix.MAP_ANONYMOUS}}}},
	{unix.SYS_MUNMAP, "Go's heap", nil},
	{unix.SYS_MADVISE, "Go's heap is given back", nil},
	{unix.SYS_CLONE, "threads, as Go makes them and nothing else (cloneFlags in runtime/os_linux.go)", []argRule{{0, ^uint64(0), []uint64{goThread, goThread | unix.CLONE_SETTLS}}}},
	{unix.SYS_SIGALTSTACK, "a new thread", nil},
	{unix.SYS_GETTID, "a new thread", nil},
	{unix.SYS_RT_SIGPROCMASK, "a new thread", nil},
	{unix.SYS_RT_SIGACTION, "Go's runtime, when it crashes", nil},
	{unix.SYS_RT_SIGRETURN, "Go's runtime is preempted by signals", nil},
	{unix.SYS_GETPID, "Go's runtime signals its own threads", nil},
	{unix.SYS_NANOSLEEP, "Go's scheduler", nil},
	{unix.SYS_SCHED_YIELD, "Go's scheduler", nil},
	{unix.SYS_RESTART_SYSCALL, "the kernel's own, after a stop (restart_syscall(2))", nil},
	{unix.SYS_CLOCK_GETTIME, "the time, where the vDSO does not tell it", nil},
	{unix.SYS_GETRANDOM, "Go's maps, where the vDSO has none", nil},
	{unix.SYS_EXIT, "the end of a thread", nil},
	{unix.SYS_EXIT_GROUP, "the end", nil},
}

// publishCalls are those that it takes to connect to a published port.
var publishCalls = []gateCall{
	{unix.SYS_SOCKET, "a connection to a published port", []argRule{
		intArg(0, unix.AF_INET, unix.AF_INET6),
		intArg(1, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC),
		intArg(2, unix.IPPROTO_TCP),
	}},
	{unix.SYS_CONNECT, "a connection to a published port; Landlock knows which", nil},
}

// goThread are the flags of runtime.newosproc; on amd64 runtime.clone adds
// CLONE_SETTLS (runtime/sys_linux_amd64.s).
const goThread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// gateFilter lets the gate make those calls, and end by any other.
func gateFilter(publish bool) callFilter {
	f := callFilter{arch: auditArches[runtime.GOARCH], other: unix.SECCOMP_RET_KILL_PROCESS}
	allow := func(list []gateCall) {
		for _, c := range list {
			f.rules = append(f.rules, callRule{c.call, c.args, unix.SECCOMP_RET_ALLOW})
		}
	}
	allow(gateCalls)
	if publish {
		allow(publishCalls)
	}
	f.rules = append(f.rules,
		// Signals reach the gate's own threads only, which is how it preempts them.
		callRule{unix.SYS_TGKILL, []argRule{intArg(0, uint64(os.Getpid()))}, unix.SECCOMP_RET_ALLOW},
		// Go gives its mappings names, and does without where that fails
		// (setVMAName in runtime/set_vma_name_linux.go).
		callRule{unix.SYS_PRCTL, nil, unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)})
	return f
}
