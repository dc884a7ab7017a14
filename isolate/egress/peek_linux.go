package egress

import "golang.org/x/sys/unix"

// The states of TCP_INFO (include/net/tcp_states.h).
const (
	tcpClose     = 7
	tcpCloseWait = 8
)

// ended tells whether the other side of a TCP socket has sent its last byte, and
// whether it has reset the connection. With bytes still unread, recv(2) tells
// neither.
func ended(fd uintptr) (fin, rst bool) {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return false, false
	}
	return info.State == tcpCloseWait, info.State == tcpClose
}

// spliceable is how many bytes splice(2) can take from a TCP socket: those
// before the urgent mark (tcp(7), SIOCINQ; tcp_read_sock in net/ipv4/tcp.c
// stops there, and only recv(2) goes past).
func spliceable(fd uintptr) int64 {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	if err != nil {
		return 0
	}
	return int64(n)
}
