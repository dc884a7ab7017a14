package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// worldHits is the file of what arrived in a network, a line each:
//
//	tcp ADDR:PORT      a SYN            (none of them an answer to the host)
//	udp ADDR:PORT      a packet
//	icmp ADDR          an echo request, of either family
//	ipN ADDR           a packet of another protocol
//	eth XXXX           a frame of another kind, but for ARP
//	dns NAME TYPE      a question that reached a name server
//	first PORT "BYTES" the first bytes that a server got over a connection
//
// The file is opened for appending, and each line is one write, so that it can
// be emptied at any time.
type worldHits struct{ file *os.File }

func (c worldConfig) openHits() (worldHits, error) {
	f, err := os.OpenFile(filepath.Join(c.Dir, c.Role+".hits"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return worldHits{f}, err
}

func (h worldHits) add(format string, args ...any) { fmt.Fprintf(h.file, format+"\n", args...) }

// sniff notes every packet that comes in by a link.
func sniff(hits worldHits, link string) error {
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	// Protocol 0 gets nothing until the filter is there and bind(2) names the link.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(sniffFilter)), Filter: &sniffFilter[0]}); err != nil {
		return fmt.Errorf("packet filter: %w", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) // a user gets what rmem_max allows
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian16(unix.ETH_P_ALL), Ifindex: ifi.Index}); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				hits.add("dropped")
				return
			}
			ll, ok := from.(*unix.SockaddrLinklayer)
			if ok && ll.Pkttype != unix.PACKET_OUTGOING {
				hits.packet(bigEndian16(ll.Protocol), b[:n])
			}
			if stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil && stats.Drops > 0 {
				hits.add("dropped")
			}
		}
	}()
	return nil
}

func bigEndian16(v uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)})
}

// sniffFilter leaves out TCP but for the packets that open a connection, so that
// much traffic hides nothing. The packet begins with the IP header.
var sniffFilter = []unix.SockFilter{
	/* 0*/ {Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 0xfffff000}, // SKF_AD_OFF + SKF_AD_PROTOCOL
	/* 1*/ {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.ETH_P_IP, Jt: 1},
	/* 2*/ {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.ETH_P_IPV6, Jt: 5, Jf: 11},
	/* 3*/ {Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 9}, // protocol
	/* 4*/ {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_TCP, Jf: 9},
	/* 5*/ {Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0}, // length of the IPv4 header
	/* 6*/ {Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND, K: 13}, // TCP's flags
	/* 7*/ {Code: unix.BPF_JMP | unix.BPF_JA, K: 3},
	/* 8*/ {Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 6}, // next header
	/* 9*/ {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_TCP, Jf: 4},
	/*10*/ {Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 40 + 13},
	/*11*/ {Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12}, // SYN and ACK
	/*12*/ {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jt: 1},
	/*13*/ {Code: unix.BPF_RET | unix.BPF_K, K: 0},
	/*14*/ {Code: unix.BPF_RET | unix.BPF_K, K: 2048},
}

// packet writes one line, if the packet counts.
func (h worldHits) packet(ethertype uint16, b []byte) {
	proto, dst, body := 0, netip.Addr{}, []byte(nil)
	switch {
	case ethertype == unix.ETH_P_IP && len(b) >= 20:
		proto, dst = int(b[9]), netip.AddrFrom4([4]byte(b[16:20]))
		body = b[min(len(b), int(b[0]&15)*4):]
	case ethertype == unix.ETH_P_IPV6 && len(b) >= 40:
		proto, dst, body = int(b[6]), netip.AddrFrom16([16]byte(b[24:40])), b[40:]
		if proto == 0 && len(body) >= 8 { // hop-by-hop options, as multicast reports have
			proto, body = int(body[0]), body[min(len(body), 8+8*int(body[1])):]
		}
	case ethertype == unix.ETH_P_ARP || ethertype == unix.ETH_P_IP || ethertype == unix.ETH_P_IPV6:
		return
	default:
		h.add("eth %04x", ethertype)
		return
	}
	port := func() netip.AddrPort {
		if len(body) < 4 {
			return netip.AddrPortFrom(dst, 0)
		}
		return netip.AddrPortFrom(dst, binary.BigEndian.Uint16(body[2:]))
	}
	switch proto {
	case unix.IPPROTO_TCP:
		if len(body) > 13 && body[13]&0x12 == 2 {
			h.add("tcp %s", port())
		}
	case unix.IPPROTO_UDP:
		if len(body) > 8 && strings.HasPrefix(string(body[8:]), "rcc-sentinel ") {
			h.add("%s", strings.TrimPrefix(string(body[8:]), "rcc-"))
			return
		}
		h.add("udp %s", port())
	case unix.IPPROTO_ICMP:
		if len(body) > 0 && body[0] == 8 {
			h.add("icmp %s", dst)
		}
	case unix.IPPROTO_ICMPV6: // neighbour discovery and multicast reports are the kernel's own
		if len(body) > 0 && body[0] == 128 {
			h.add("icmp %s", dst)
		}
	case unix.IPPROTO_IGMP:
	default:
		h.add("ip%d %s", proto, dst)
	}
}

// first notes the first bytes of a connection, once.
func (h worldHits) first(addr net.Addr, b []byte) {
	_, port, _ := net.SplitHostPort(addr.String())
	h.add("first %s %s", port, strconv.QuoteToASCII(string(b[:min(len(b), 1024)])))
}

// countedConn notes the first bytes that it reads.
type countedConn struct {
	net.Conn
	hits  worldHits
	noted bool
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.noted {
		c.noted = true
		c.hits.first(c.LocalAddr(), b[:n])
	}
	return n, err
}

// countedListener gives connections that are noted.
type countedListener struct {
	net.Listener
	hits worldHits
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: c, hits: l.hits}, nil
}
