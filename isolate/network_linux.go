package isolate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rcc/isolate/firewall"
)

// refusedGroup is the group of NFLOG under which the rules tell of packets that
// they refused.
const refusedGroup = 1

// wayOut makes the network namespace a place that leads nowhere but to the
// gate, whose process it gives. The keeper calls it before there is an init.
func wayOut(w wire, p *Plan) (gate int, err error) {
	rules := make(chan error, 1)
	go func() { // the slowest of all, for the kernel
		rules <- firewall.Task(firewall.TaskRules{Listener: flowPort, LogGroup: refusedGroup}).Create()
	}()
	if err := routesHome(); err != nil {
		return 0, stepError("route the sandbox's network to itself", err)
	}
	sockets, err := openSockets(p)
	defer sockets.close() // the gate's alone: with it they must end
	if err != nil {
		return 0, stepError("open the gate's sockets", err)
	}
	// It starts while the rules are loaded: nobody is there who could connect.
	if gate, err = startGate(sockets); err != nil {
		return 0, stepError("start the gate", err)
	}
	if err := <-rules; err != nil {
		return 0, stepError("guard the sandbox's network", err)
	}
	// It shows the sockets of this namespace to whoever holds it.
	diag, err := netlinkSocket(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, stepError("open sock_diag", err)
	}
	defer unix.Close(diag)
	return gate, w.send(message{Kind: kindNetwork}, diag)
}

// loopback is the index of the loopback device: it is the first of every
// network namespace (LOOPBACK_IFINDEX in include/net/flow.h).
const loopback = 1

// routesHome makes every address one of this machine's, as
// `ip route add local 0.0.0.0/0 dev lo` and the same for ::/0 do. A kernel
// without IPv6, or with it turned off, has no IPv6 to lead anywhere.
func routesHome() error {
	fd, err := netlinkSocket(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for i, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		// struct rtmsg: family, lengths of destination and source, tos, table,
		// protocol, scope, type, flags (rtnetlink(7)).
		route := []byte{family, 0, 0, 0, unix.RT_TABLE_LOCAL, unix.RTPROT_BOOT, unix.RT_SCOPE_HOST, unix.RTN_LOCAL, 0, 0, 0, 0}
		route = appendAttribute(route, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, loopback))
		_, _, err := netlinkAsk(fd, unix.RTM_NEWROUTE, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, uint32(i+1), route)
		// EACCES: net.ipv6.conf.*.disable_ipv6 (ip6_route_info_create in net/ipv6/route.c).
		if family == unix.AF_INET6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EACCES)) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("add a route: %w", err)
		}
	}
	return nil
}

// gateSocket is a socket that the keeper opens and the gate uses. What it is for
// is a word of the gate's command line, in the order of the descriptors.
type gateSocket struct {
	use string
	fd  int
}

// What a gate's socket is for; a forwarded port has its number after the colon.
const (
	useFlow    = "flow"
	useDNS     = "dns"
	useDNSTCP  = "dns-tcp"
	useForward = "forward:"
	usePublish = "publish:" // no socket: a port that the gate may connect to
	useRefused = "refused"
)

type gateSockets struct {
	list  []gateSocket
	words []string // that stand for no socket
}

func (s *gateSockets) close() {
	for _, g := range s.list {
		unix.Close(g.fd)
	}
	s.list = nil
}

func (s *gateSockets) add(use string, fd int, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", use, err)
	}
	s.list = append(s.list, gateSocket{use, fd})
	return nil
}

// openSockets opens all that the gate listens on.
func openSockets(p *Plan) (*gateSockets, error) {
	s := &gateSockets{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		err := s.openFamily(p, family)
		if family == unix.AF_INET6 && errors.Is(err, unix.EAFNOSUPPORT) {
			break // a kernel without IPv6
		}
		if err != nil {
			return s, err
		}
	}
	for _, port := range p.Publish {
		s.words = append(s.words, usePublish+strconv.Itoa(int(port)))
	}
	fd, err := listenRefused(refusedGroup)
	return s, s.add(useRefused, fd, err)
}

func (s *gateSockets) openFamily(p *Plan, family int) error {
	fd, err := listenTCP(family, true, flowPort)
	if err := s.add(useFlow, fd, err); err != nil {
		return err
	}
	fd, err = openUDP(family, dnsPort)
	if err := s.add(useDNS, fd, err); err != nil {
		return err
	}
	fd, err = listenTCP(family, false, dnsPort)
	if err := s.add(useDNSTCP, fd, err); err != nil {
		return err
	}
	for _, port := range p.Forward {
		fd, err = listenTCP(family, true, port)
		if err := s.add(useForward+strconv.Itoa(int(port)), fd, err); err != nil {
			return err
		}
	}
	return nil
}

// socketAddress is a port of the loopback address, or of all addresses.
func socketAddress(family int, loopback bool, port uint16) unix.Sockaddr {
	if family == unix.AF_INET {
		a := &unix.SockaddrInet4{Port: int(port)}
		if loopback {
			a.Addr = [4]byte{127, 0, 0, 1}
		}
		return a
	}
	a := &unix.SockaddrInet6{Port: int(port)}
	if loopback {
		a.Addr[15] = 1
	}
	return a
}

// openSocket opens a socket and binds it. It does not block, for the gate's sake.
func openSocket(family, kind int, address unix.Sockaddr, options [][2]int) (int, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	level := unix.IPPROTO_IP
	if family == unix.AF_INET6 {
		level = unix.IPPROTO_IPV6
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, level, o[0], o[1]); err != nil {
			unix.Close(fd)
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, address); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// backlog of a listener; the kernel bounds it by net.core.somaxconn.
const backlog = 4096

// listenTCP opens a listener. The one of flows is transparent: a rule may give
// it what was meant for another address, which it then has as its own
// (Documentation/networking/tproxy.rst).
func listenTCP(family int, loopback bool, port uint16) (int, error) {
	var options [][2]int
	if family == unix.AF_INET6 {
		options = append(options, [2]int{unix.IPV6_V6ONLY, 1})
	}
	if port == flowPort {
		options = append(options, map[int][2]int{unix.AF_INET: {unix.IP_TRANSPARENT, 1}, unix.AF_INET6: {unix.IPV6_TRANSPARENT, 1}}[family])
	}
	fd, err := openSocket(family, unix.SOCK_STREAM, socketAddress(family, loopback, port), options)
	if err != nil {
		return -1, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// openUDP opens a socket that is told which address was asked, and may answer
// from it: over IPv6 only an address of a device may be named without FREEBIND
// (ip6_datagram_send_ctl in net/ipv6/datagram.c).
func openUDP(family int, port uint16) (int, error) {
	options := [][2]int{{unix.IP_PKTINFO, 1}}
	if family == unix.AF_INET6 {
		options = [][2]int{{unix.IPV6_V6ONLY, 1}, {unix.IPV6_RECVPKTINFO, 1}, {unix.IPV6_FREEBIND, 1}}
	}
	return openSocket(family, unix.SOCK_DGRAM, socketAddress(family, false, port), options)
}

// startGate starts the process that reads what programs inside send. It is in
// namespace A and N as the keeper is, but sees no process and no message queue.
func startGate(s *gateSockets) (pid int, err error) {
	args := append([]string{gateName}, s.words...)
	files := []uintptr{0, 1, 2, linkFD}
	for _, g := range s.list {
		args = append(args, g.use)
		files = append(files, uintptr(g.fd))
	}
	return syscall.ForkExec(self, args, &syscall.ProcAttr{
		// Go's runtime shall not keep files of the cgroup open to follow its
		// limit (defaultGOMAXPROCSInit in runtime/cgroup_linux.go).
		Env:   []string{"GOMAXPROCS=2", "GODEBUG=containermaxprocs=0"},
		Files: files,
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
			Pdeathsig:  unix.SIGKILL,
		},
	})
}

// lastWord tells what the gate died of, over the gate's own link, which ends with
// it: the supervisor believes it as little as the gate.
func lastWord(ws unix.WaitStatus) {
	f := os.NewFile(linkFD, "link")
	defer f.Close()
	w, err := fileWire(f)
	if err != nil {
		return
	}
	defer w.conn.Close()
	text := fmt.Sprintf("exit status %d", ws.ExitStatus())
	if ws.Signaled() {
		text = fmt.Sprintf("killed by signal %d (%s)", ws.Signal(), unix.SignalName(ws.Signal()))
	}
	// Where nobody reads, the keeper still has init to wait for.
	w.conn.SetWriteDeadline(time.Now().Add(time.Second))
	w.send(message{Kind: kindError, Error: "the gate ended: " + text})
}

// portOf reads the number after a use.
func portOf(use, prefix string) (uint16, bool) {
	text, ok := strings.CutPrefix(use, prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil
}
