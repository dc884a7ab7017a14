package isolate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"rcc/isolate/egress"
)

// whoLimit bounds how long the search for a program takes, and whoPause is how
// much longer than a search nothing is searched after it: a program that opens
// processes and connections without end costs the host a fifth of a processor at
// most.
const (
	whoLimit = 20 * time.Millisecond
	whoPause = 4
)

// Who finds the program that has the socket of a flow or packet: proto is "tcp",
// "udp" or "dns". It is the zero Program when there is none any more, when it was
// not found within 20 ms, or when searches follow each other too closely. It is
// safe for concurrent use.
func (s *Sandbox) Who(proto string, client, dest netip.AddrPort) egress.Program {
	if s.diag == nil {
		return egress.Program{}
	}
	return s.diag.who(s.pid, proto, client, dest)
}

// sockDiag shows the sockets of the network namespace that it was opened in
// (sock_diag(7)).
type sockDiag struct {
	mu       sync.Mutex
	fd       int // -1 when closed
	sequence uint32
	rest     time.Time // nothing is searched before
}

func (d *sockDiag) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	unix.Close(d.fd)
	d.fd = -1
}

func (d *sockDiag) who(init int, proto string, client, dest netip.AddrPort) egress.Program {
	d.mu.Lock()
	defer d.mu.Unlock()
	start := time.Now()
	if d.fd < 0 || start.Before(d.rest) {
		return egress.Program{}
	}
	inode := d.find(proto, client, dest)
	if inode == 0 {
		return egress.Program{}
	}
	p := holder(init, inode, start.Add(whoLimit))
	if took := time.Since(start); took > whoLimit/4 {
		d.rest = start.Add(whoPause * took)
	}
	return p
}

// find gives the inode of a program's socket, or 0.
func (d *sockDiag) find(proto string, client, dest netip.AddrPort) uint32 {
	for _, protocol := range map[string][]byte{"tcp": {unix.IPPROTO_TCP}, "udp": {unix.IPPROTO_UDP}, "dns": {unix.IPPROTO_UDP, unix.IPPROTO_TCP}}[proto] {
		if inode, err := d.ask(protocol, client, dest); err == nil {
			return inode
		}
	}
	return 0
}

// What sock_diag speaks of sockets of IP (linux/inet_diag.h): struct
// inet_diag_req_v2, and struct inet_diag_msg which answers.
const (
	diagSockID   = 48 // size of struct inet_diag_sockid
	diagMessage  = 4 + diagSockID + 20
	diagInode    = diagMessage - 4
	diagNoCookie = ^uint64(0)
)

// ask looks up one socket. The kernel looks a TCP socket up by its own address
// first, and a UDP socket by the other's ("src and dst are swapped for historical
// reasons", udp_dump_one in net/ipv4/udp_diag.c).
func (d *sockDiag) ask(protocol byte, client, dest netip.AddrPort) (uint32, error) {
	family := byte(unix.AF_INET)
	if client.Addr().Unmap().Is6() {
		family = unix.AF_INET6
	}
	source, target := client, dest
	if protocol == unix.IPPROTO_UDP {
		source, target = dest, client
	}
	request := []byte{family, protocol, 0, 0, 0xff, 0xff, 0xff, 0xff} // in every state
	request = appendSockID(request, source, target)
	d.sequence++
	kind, answer, err := netlinkAsk(d.fd, unix.SOCK_DIAG_BY_FAMILY, 0, d.sequence, request)
	if err != nil {
		return 0, err
	}
	if kind != unix.SOCK_DIAG_BY_FAMILY || len(answer) < diagMessage {
		return 0, errShort
	}
	// Where there is no connection, a listener of the same port is found.
	if protocol == unix.IPPROTO_TCP && binary.BigEndian.Uint16(answer[6:]) != dest.Port() || binary.BigEndian.Uint16(answer[4:]) != client.Port() {
		return 0, errors.New("another socket")
	}
	inode := binary.NativeEndian.Uint32(answer[diagInode:])
	if inode == 0 {
		return 0, errors.New("nobody's socket")
	}
	return inode, nil
}

// appendSockID adds a struct inet_diag_sockid. The loopback device is named, as
// a socket may be bound to it.
func appendSockID(b []byte, source, target netip.AddrPort) []byte {
	b = binary.BigEndian.AppendUint16(b, source.Port())
	b = binary.BigEndian.AppendUint16(b, target.Port())
	for _, a := range []netip.AddrPort{source, target} {
		var raw [16]byte
		copy(raw[:], a.Addr().Unmap().AsSlice())
		b = append(b, raw[:]...)
	}
	b = binary.NativeEndian.AppendUint32(b, loopback)
	return binary.NativeEndian.AppendUint64(b, diagNoCookie)
}

// holder searches the processes below init, which are all of the sandbox's: one
// that loses its parent becomes a child of init (pid_namespaces(7)). Their
// descriptors are open to the owner of the user namespace that init's is in
// (PTRACE_MODE_READ_FSCREDS in ptrace(2)).
func holder(init int, inode uint32, end time.Time) egress.Program {
	socket := fmt.Sprintf("socket:[%d]", inode)
	queue, seen := []int{init}, map[int]bool{init: true}
	for len(queue) > 0 && time.Now().Before(end) {
		pid := queue[0]
		queue = queue[1:]
		if pid != init && holds(pid, socket, end) {
			return program(pid)
		}
		for _, child := range childrenOf(pid, end) {
			if !seen[child] {
				seen[child] = true
				queue = append(queue, child)
			}
		}
	}
	return egress.Program{}
}

// childrenOf reads the children of each thread (proc(5), /proc/tid/children).
func childrenOf(pid int, end time.Time) (out []int) {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task"
	names := entries(tasks)
	for _, name := range names {
		if time.Now().After(end) {
			return out
		}
		b, err := os.ReadFile(tasks + "/" + name + "/children")
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// holds tells whether a process has the socket open.
func holds(pid int, socket string, end time.Time) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	for _, name := range entries(dir) {
		if to, err := os.Readlink(dir + "/" + name); err == nil && to == socket {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
	return false
}

// maxEntries bounds what is read of a folder in /proc.
const maxEntries = 4096

func entries(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(maxEntries)
	return names
}

// program tells what a process is called, and its number inside: the second of
// those that it has, after the host's (proc(5), NSpid).
func program(pid int) egress.Program {
	dir := "/proc/" + strconv.Itoa(pid)
	var p egress.Program
	b, err := os.ReadFile(dir + "/status")
	if err != nil {
		return p
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "NSpid:"); ok {
			if f := strings.Fields(v); len(f) > 1 {
				p.PID, _ = strconv.Atoi(f[1])
			}
		}
	}
	if b, err := os.ReadFile(dir + "/comm"); err == nil {
		p.Name = strings.TrimSuffix(string(b), "\n")
	}
	return p
}
