package isolate

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"rcc/isolate/egress"
)

// What nfnetlink_log speaks (linux/netfilter/nfnetlink_log.h).
const (
	nflogPacket  = unix.NFNL_SUBSYS_ULOG << 8   // NFULNL_MSG_PACKET
	nflogConfig  = unix.NFNL_SUBSYS_ULOG<<8 | 1 // NFULNL_MSG_CONFIG
	nflogCommand = 1                            // NFULA_CFG_CMD
	nflogMode    = 2                            // NFULA_CFG_MODE
	nflogQueue   = 5                            // NFULA_CFG_QTHRESH
	nflogPayload = 9                            // NFULA_PAYLOAD
	nflogBind    = 1                            // NFULNL_CFG_CMD_BIND
	nflogCopy    = 2                            // NFULNL_COPY_PACKET
	nfgenSize    = 4                            // struct nfgenmsg: family, version, group
)

// refusedBytes of a packet are enough for its addresses and ports.
const refusedBytes = 128

// listenRefused opens a socket that is sent the beginning of each packet that
// the rules log to a group, at once. The kernel sends to this socket alone, and
// takes orders only from one who may rule the network namespace
// (netlink_net_capable in net/netlink/af_netlink.c).
func listenRefused(group uint16) (int, error) {
	fd, err := netlinkSocket(unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, err
	}
	body := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, group)
	body = appendAttribute(body, nflogCommand, []byte{nflogBind})
	body = appendAttribute(body, nflogMode, append(binary.BigEndian.AppendUint32(nil, refusedBytes), nflogCopy, 0))
	body = appendAttribute(body, nflogQueue, binary.BigEndian.AppendUint32(nil, 1))
	_, _, err = netlinkAsk(fd, nflogConfig, unix.NLM_F_ACK, 1, body)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// refusals reads what the rules logged. Its answer is Gate.Refused.
func refusals(f *os.File) func() (egress.Refusal, error) {
	buffer := make([]byte, 8192)
	return func() (egress.Refusal, error) {
		for {
			n, err := f.Read(buffer)
			if errors.Is(err, unix.ENOBUFS) {
				continue // more came than there is room for: some are not told
			}
			if err != nil {
				return egress.Refusal{}, err
			}
			if r, ok := parseRefusal(buffer[:n]); ok {
				return r, nil
			}
		}
	}
}

// parseRefusal reads one message of nfnetlink_log; what is no packet is no refusal.
func parseRefusal(b []byte) (r egress.Refusal, ok bool) {
	if len(b) < unix.NLMSG_HDRLEN+nfgenSize || binary.NativeEndian.Uint16(b[4:]) != nflogPacket {
		return r, false
	}
	err := eachAttribute(b[unix.NLMSG_HDRLEN+nfgenSize:], func(kind uint16, value []byte) {
		if kind == nflogPayload && !ok {
			r, ok = parsePacket(value)
		}
	})
	return r, ok && err == nil
}

// protocols are the names of those that a program may try.
var protocols = map[byte]string{
	unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_IGMP: "igmp", unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_DCCP: "dccp",
	unix.IPPROTO_ICMPV6: "icmp", unix.IPPROTO_SCTP: "sctp", unix.IPPROTO_UDPLITE: "udplite",
}

// withPorts are those whose header begins with a source and a destination port.
func withPorts(protocol byte) bool {
	switch protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_DCCP, unix.IPPROTO_SCTP, unix.IPPROTO_UDPLITE:
		return true
	}
	return false
}

// parsePacket reads the addresses of an IP packet (RFC 791, RFC 8200). Of one
// with extension headers or a later fragment the ports stay 0.
func parsePacket(b []byte) (egress.Refusal, bool) {
	var protocol byte
	var client, dest netip.Addr
	first := true
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		size := int(b[0]&15) * 4
		if size < 20 {
			return egress.Refusal{}, false
		}
		protocol, first = b[9], binary.BigEndian.Uint16(b[6:])&0x1fff == 0
		client, dest = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		b = b[min(size, len(b)):]
	case len(b) >= 40 && b[0]>>4 == 6:
		protocol = b[6]
		client, dest = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		b = b[40:]
	default:
		return egress.Refusal{}, false
	}
	r := egress.Refusal{Proto: protocols[protocol]}
	if r.Proto == "" {
		r.Proto = strconv.Itoa(int(protocol))
	}
	var from, to uint16
	if withPorts(protocol) && first && len(b) >= 4 {
		from, to = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	r.Client, r.Dest = netip.AddrPortFrom(client, from), netip.AddrPortFrom(dest, to)
	return r, true
}
