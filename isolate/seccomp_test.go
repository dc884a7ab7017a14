package isolate

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// seccompData is struct seccomp_data.
type seccompData struct {
	call, arch uint32
	args       [6]uint64
}

// runFilter is the kernel's interpreter of classic BPF, as far as a filter uses
// it (___bpf_prog_run in kernel/bpf/core.c, seccomp_check_filter in
// kernel/seccomp.c).
func runFilter(t *testing.T, program []unix.SockFilter, d seccompData) uint32 {
	t.Helper()
	data := binary.LittleEndian.AppendUint32(nil, d.call)
	data = binary.LittleEndian.AppendUint32(data, d.arch)
	data = binary.LittleEndian.AppendUint64(data, 0x1234) // the instruction pointer
	for _, a := range d.args {
		data = binary.LittleEndian.AppendUint64(data, a)
	}
	var acc uint32
	for pc := 0; pc < len(program); pc++ {
		i := program[pc]
		yes := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.LittleEndian.Uint32(data[i.K:])
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= i.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			yes = acc == i.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			yes = acc >= i.K
		default:
			t.Fatalf("instruction %d: unknown code %#x", pc, i.Code)
		}
		if yes {
			pc += int(i.Jt)
		} else {
			pc += int(i.Jf)
		}
	}
	t.Fatal("the program runs off its end")
	return 0
}

// verdict is what a filter's rules say, without any program.
func (f callFilter) verdict(d seccompData) uint32 {
	if d.arch != f.arch || d.call >= x32Bit {
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	for _, r := range f.rules {
		fits := uint32(r.call) == d.call
		for _, a := range r.args {
			fits = fits && slices.Contains(a.values, d.args[a.index]&a.mask)
		}
		if fits {
			return r.action
		}
	}
	return f.other
}

// TestFilterMeans compares programs with the rules that they were made of.
func TestFilterMeans(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		f := callFilter{arch: 7, other: 1}
		for i := range random.IntN(8) {
			r := callRule{call: uintptr(random.IntN(4)), action: uint32(100 + i)}
			for range random.IntN(4) {
				a := argRule{index: random.IntN(6), mask: []uint64{0xffffffff, ^uint64(0), 3, 1 << 40, 4}[random.IntN(5)]}
				for range 1 + random.IntN(3) {
					a.values = append(a.values, []uint64{0, 1, 2, 3, 1 << 32, 1<<32 | 1, 1 << 40}[random.IntN(7)]&a.mask)
				}
				r.args = append(r.args, a)
			}
			f.rules = append(f.rules, r)
		}
		program := f.compile()
		for range 200 {
			d := seccompData{call: uint32(random.IntN(5)), arch: 7}
			for i := range d.args {
				d.args[i] = uint64(random.IntN(4)) | uint64(random.IntN(2))<<32 | uint64(random.IntN(2))<<40
			}
			if got, want := runFilter(t, program, d), f.verdict(d); got != want {
				t.Fatalf("rules %+v, call %+v: %d, want %d", f.rules, d, got, want)
			}
		}
	}
}

// TestGateCalls runs the gate's filter over every number of the system calls.
func TestGateCalls(t *testing.T) {
	allowed := map[bool][]uintptr{}
	for _, publish := range []bool{false, true} {
		f := gateFilter(publish)
		program := f.compile()
		for call := range uint32(1024) {
			for _, args := range [][6]uint64{{}, {^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}, {1, 2, 3, 4, 5, 6}} {
				d := seccompData{call: call, arch: f.arch, args: args}
				if got := runFilter(t, program, d); got != f.verdict(d) {
					t.Errorf("call %d: %#x, want %#x", call, got, f.verdict(d))
				} else if got == unix.SECCOMP_RET_ALLOW && !slices.Contains(allowed[publish], uintptr(call)) {
					allowed[publish] = append(allowed[publish], uintptr(call))
				}
			}
			for _, d := range []seccompData{{call: call, arch: f.arch + 1}, {call: call | x32Bit, arch: f.arch}, {call: call, arch: unix.AUDIT_ARCH_I386}} {
				if got := runFilter(t, program, d); got != unix.SECCOMP_RET_KILL_PROCESS {
					t.Errorf("call %d of another table: %#x", call, got)
				}
			}
		}
	}
	if len(allowed[false]) < 20 || len(allowed[false]) > 30 {
		t.Errorf("%d calls are allowed whatever their arguments", len(allowed[false]))
	}
	for _, never := range []uintptr{
		unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_BPF, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER,
		unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_CLONE3, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_BIND,
		unix.SYS_LISTEN, unix.SYS_IOCTL, unix.SYS_SPLICE, unix.SYS_MPROTECT, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_SECCOMP, unix.SYS_CAPSET,
	} {
		if slices.Contains(allowed[true], never) {
			t.Errorf("call %d is allowed", never)
		}
	}
}

// TestGateArguments: what an allowed call may not be used for.
func TestGateArguments(t *testing.T) {
	f := gateFilter(true)
	program := f.compile()
	const anonymous, rw = unix.MAP_ANONYMOUS | unix.MAP_PRIVATE, unix.PROT_READ | unix.PROT_WRITE
	const high = 1 << 32
	for _, tc := range []struct {
		name string
		call uintptr
		args [6]uint64
		want bool
	}{
		{"a thread", unix.SYS_CLONE, [6]uint64{goThread}, true},
		{"a process", unix.SYS_CLONE, [6]uint64{uint64(unix.SIGCHLD)}, false},
		{"a thread in a new namespace", unix.SYS_CLONE, [6]uint64{goThread | unix.CLONE_NEWUSER}, false},
		{"a thread with high flags", unix.SYS_CLONE, [6]uint64{goThread | high}, false},
		{"memory", unix.SYS_MMAP, [6]uint64{0, 4096, rw, anonymous}, true},
		{"memory to run", unix.SYS_MMAP, [6]uint64{0, 4096, rw | unix.PROT_EXEC, anonymous}, false},
		{"a file", unix.SYS_MMAP, [6]uint64{0, 4096, unix.PROT_READ, unix.MAP_PRIVATE, 3}, false},
		{"a reset", unix.SYS_SETSOCKOPT, [6]uint64{5, unix.SOL_SOCKET, unix.SO_LINGER}, true},
		{"a mark", unix.SYS_SETSOCKOPT, [6]uint64{5, unix.SOL_SOCKET, unix.SO_MARK}, false},
		{"a filter", unix.SYS_SETSOCKOPT, [6]uint64{5, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, false},
		{"repair", unix.SYS_SETSOCKOPT, [6]uint64{5, unix.IPPROTO_TCP, unix.TCP_REPAIR}, false},
		{"kernel TLS", unix.SYS_SETSOCKOPT, [6]uint64{5, unix.IPPROTO_TCP, unix.TCP_ULP}, false},
		{"a TCP socket", unix.SYS_SOCKET, [6]uint64{unix.AF_INET6, unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC, unix.IPPROTO_TCP}, true},
		{"an MPTCP socket", unix.SYS_SOCKET, [6]uint64{unix.AF_INET6, unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP}, false},
		{"a UDP socket", unix.SYS_SOCKET, [6]uint64{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC, 0}, false},
		{"a duplicate", unix.SYS_FCNTL, [6]uint64{3, unix.F_DUPFD_CLOEXEC}, true},
		{"an owner of signals", unix.SYS_FCNTL, [6]uint64{3, unix.F_SETOWN}, false},
		{"a signal to others", unix.SYS_TGKILL, [6]uint64{1<<31 - 1, 1}, false},
	} {
		d := seccompData{call: uint32(tc.call), arch: f.arch, args: tc.args}
		if got := runFilter(t, program, d) == unix.SECCOMP_RET_ALLOW; got != tc.want {
			t.Errorf("%s: allowed %v", tc.name, got)
		}
	}
	if got := runFilter(t, program, seccompData{call: unix.SYS_PRCTL, arch: f.arch, args: [6]uint64{unix.PR_SET_DUMPABLE, 1}}); got != unix.SECCOMP_RET_ERRNO|uint32(unix.EINVAL) {
		t.Errorf("prctl: %#x", got)
	}
}

// TestFilterElsewhere: an architecture without a filter is an error.
func TestFilterElsewhere(t *testing.T) {
	if err := (callFilter{}).install(); err == nil {
		t.Error("a filter for no architecture was installed")
	}
}
