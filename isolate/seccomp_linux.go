package isolate

import (
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A callFilter says what each system call of a process leads to. It is compiled
// to the classic BPF that seccomp(2) runs at each call.
type callFilter struct {
	arch  uint32     // AUDIT_ARCH_*: calls by another table end the process
	rules []callRule // the first that fits counts
	other uint32     // SECCOMP_RET_*: what a call leads to that none fits
}

// A callRule fits a system call by its number and by all of args.
type callRule struct {
	call   uintptr // SYS_*
	args   []argRule
	action uint32 // SECCOMP_RET_*; an errno is added to SECCOMP_RET_ERRNO
}

// An argRule fits an argument whose bits of mask are one of values. Arguments
// are 64 bits; the kernel looks at 32 of those that are an int to it, so that a
// mask says which bits count.
type argRule struct {
	index  int // 0 to 5
	mask   uint64
	values []uint64
}

// intArg is an argument that the kernel takes as an int.
func intArg(index int, values ...uint64) argRule {
	return argRule{index: index, mask: 0xffffffff, values: values}
}

// Offsets in struct seccomp_data (linux/seccomp.h).
const (
	dataCall = 0
	dataArch = 4
	dataArgs = 16
)

// x32Bit marks calls by the x32 table, which has the architecture of x86-64
// (arch/x86/include/uapi/asm/unistd.h). No number of a real table is as high.
const x32Bit = 0x40000000

// auditArches are the architectures that filters are written for, by GOARCH.
var auditArches = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func give(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// jump compares the accumulator and skips yes or no instructions.
func jump(how uint16, k uint32, yes, no int) unix.SockFilter {
	if yes > 255 || no > 255 {
		panic("a rule of a filter is too long")
	}
	return unix.SockFilter{Code: unix.BPF_JMP | how | unix.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
}

// compile gives the filter's program. Each rule is a block that the next one
// follows, and that begins with the call's number in the accumulator.
func (f callFilter) compile() []unix.SockFilter {
	out := []unix.SockFilter{
		load(dataArch),
		jump(unix.BPF_JEQ, f.arch, 1, 0),
		give(unix.SECCOMP_RET_KILL_PROCESS),
		load(dataCall),
		jump(unix.BPF_JGE, x32Bit, 0, 1),
		give(unix.SECCOMP_RET_KILL_PROCESS),
	}
	for _, r := range f.rules {
		out = append(out, r.compile()...)
	}
	return append(out, give(f.other))
}

// compile gives a rule's block: compare the number, then each argument, and
// leave by the action; or go on behind the block.
func (r callRule) compile() []unix.SockFilter {
	if len(r.args) == 0 {
		return []unix.SockFilter{jump(unix.BPF_JEQ, uint32(r.call), 0, 1), give(r.action)}
	}
	// From the end, so that every jump knows how far it is.
	block := []unix.SockFilter{give(r.action), load(dataCall)} // what follows wants the number
	for i := len(r.args) - 1; i >= 0; i-- {
		block = append(r.args[i].compile(len(block)-1), block...)
	}
	return append([]unix.SockFilter{jump(unix.BPF_JEQ, uint32(r.call), 0, len(block))}, block...)
}

// compile compares an argument's halves. It falls through when the argument
// fits, and skips what is left of the block but its last instruction when not.
func (a argRule) compile(left int) []unix.SockFilter {
	var out []unix.SockFilter
	for i := len(a.values) - 1; i >= 0; i-- {
		// One value: high half, low half; to the end of the argument, or on.
		fits, fails := len(out), 0 // how far behind this value's last instruction
		if i == len(a.values)-1 {
			fails = left // no value is left to try
		}
		v, n := a.values[i], 0
		low := []unix.SockFilter{
			load(a.offset(false)),
			{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: uint32(a.mask)},
			jump(unix.BPF_JEQ, uint32(v), fits, fails),
		}
		var high []unix.SockFilter
		if n = len(low); a.mask>>32 != 0 {
			high = []unix.SockFilter{
				load(a.offset(true)),
				{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: uint32(a.mask >> 32)},
				jump(unix.BPF_JEQ, uint32(v>>32), 0, n+fails),
			}
		}
		out = append(append(high, low...), out...)
	}
	return out
}

// offset of an argument's half. Both architectures are little-endian.
func (a argRule) offset(high bool) uint32 {
	o := uint32(dataArgs + 8*a.index)
	if high {
		o += 4
	}
	return o
}

// install puts the filter on every thread of this process, for good. The
// process must have no_new_privs.
func (f callFilter) install() error {
	if f.arch == 0 {
		return errors.New("rcc has no filter for " + runtime.GOARCH)
	}
	program := f.compile()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	thread, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if e != 0 {
		return os.NewSyscallError("seccomp", e)
	}
	if thread != 0 { // seccomp(2): the thread that could not follow
		return errors.New("a thread has another filter")
	}
	return nil
}
