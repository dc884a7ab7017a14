package isolate

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// netlinkSocket opens a netlink socket (netlink(7)) in the network namespace of
// the calling thread, where it stays whoever holds it. No answer is waited for
// longer than a second.
func netlinkSocket(protocol int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}))
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// netlinkMessage is a request, ready to send.
func netlinkMessage(kind, flags uint16, sequence uint32, body []byte) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(body))
	binary.NativeEndian.PutUint32(b[0:], uint32(unix.NLMSG_HDRLEN+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(b[8:], sequence)
	return append(b, body...)
}

// appendAttribute adds a netlink attribute, padded to four bytes.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// errShort tells of a netlink message that ends before its own length.
var errShort = errors.New("cut off netlink message")

// netlinkAsk sends a request and gives the type and body of the answer with its
// number; an acknowledgement has no body. An error of the kernel's is an errno.
func netlinkAsk(fd int, kind, flags uint16, sequence uint32, body []byte) (uint16, []byte, error) {
	if err := unix.Sendto(fd, netlinkMessage(kind, flags, sequence, body), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, nil, os.NewSyscallError("sendto", err)
	}
	buffer := make([]byte, 4096)
	for range 16 { // answers to requests that were given up, at most
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, nil, os.NewSyscallError("recvfrom", err)
		}
		b := buffer[:n]
		if n < unix.NLMSG_HDRLEN || int(binary.NativeEndian.Uint32(b)) > n || binary.NativeEndian.Uint32(b) < unix.NLMSG_HDRLEN {
			return 0, nil, errShort
		}
		if binary.NativeEndian.Uint32(b[8:]) != sequence {
			continue
		}
		kind, b := binary.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:binary.NativeEndian.Uint32(b)]
		if kind != unix.NLMSG_ERROR {
			return kind, b, nil
		}
		if len(b) < 4 {
			return 0, nil, errShort
		}
		if code := int32(binary.NativeEndian.Uint32(b)); code != 0 {
			return 0, nil, unix.Errno(-code)
		}
		return kind, nil, nil
	}
	return 0, nil, errors.New("no answer")
}

// eachAttribute calls f for each attribute of b; the flags in its type are taken off.
func eachAttribute(b []byte, f func(kind uint16, value []byte)) error {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return errShort
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:size])
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}
