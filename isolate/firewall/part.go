package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// part is one condition or one action of a rule: how nft(8) writes it, and the
// expressions that the kernel runs. They are those that nft itself makes of the
// text (`nft --debug=netlink`), which a test compares.
type part struct {
	text    string
	exprs   []expr.Any
	comment string // goes with the rule, and does nothing
}

// register is the kernel's register that conditions use (nft_registers,
// include/uapi/linux/netfilter/nf_tables.h). Each condition is over before the
// next begins.
const register = unix.NFT_REG_1

func equals(value []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: value}
}

func meta(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: register}, equals(value)}
}

// family is the condition that every look into the network header needs: in the
// inet family packets of both kinds come by.
func family(v6 bool) []expr.Any {
	if v6 {
		return meta(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV6})
	}
	return meta(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV4})
}

func familyPart(v6 bool) part {
	if v6 {
		return part{text: "meta nfproto ipv6", exprs: family(true)}
	}
	return part{text: "meta nfproto ipv4", exprs: family(false)}
}

func load(base expr.PayloadBase, offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: length}
}

// loadDestination reads the first bytes of the destination address (RFC 791
// section 3.1, RFC 8200 section 3).
func loadDestination(v6 bool, length int) expr.Any {
	if v6 {
		return load(expr.PayloadBaseNetworkHeader, 24, uint32(length))
	}
	return load(expr.PayloadBaseNetworkHeader, 16, uint32(length))
}

func addressWord(v6 bool) string {
	if v6 {
		return "ip6 daddr"
	}
	return "ip daddr"
}

// to holds for packets to an address of the prefix.
func to(p netip.Prefix) part {
	p = p.Masked()
	v6 := p.Addr().Is6()
	address := p.Addr().AsSlice()
	out := part{text: addressWord(v6) + " " + prefixText(p), exprs: family(v6)}
	if p.Bits() > 0 && p.Bits()%8 == 0 { // whole bytes need no mask
		n := p.Bits() / 8
		out.exprs = append(out.exprs, loadDestination(v6, n), equals(address[:n]))
		return out
	}
	n := len(address)
	mask := make([]byte, n)
	for bit := range p.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	out.exprs = append(out.exprs, loadDestination(v6, n),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(n), Mask: mask, Xor: make([]byte, n)},
		equals(address))
	return out
}

// toSet holds for packets to an address of the set.
func toSet(s set) part {
	v6 := s.v6()
	return part{text: addressWord(v6) + " @" + s.name, exprs: append(family(v6), loadDestination(v6, addressLen(v6)),
		&expr.Lookup{SourceRegister: register, SetName: s.name})}
}

// protocolNumber is that of the IANA's list for a name that nft prints.
func protocolNumber(name string) []byte {
	switch name {
	case "tcp":
		return []byte{unix.IPPROTO_TCP}
	case "udp":
		return []byte{unix.IPPROTO_UDP}
	case "icmp":
		return []byte{unix.IPPROTO_ICMP}
	}
	return []byte{unix.IPPROTO_ICMPV6}
}

// protocol holds for packets of tcp or udp.
func protocol(name string) part {
	return part{text: "meta l4proto " + name, exprs: meta(expr.MetaKeyL4PROTO, protocolNumber(name))}
}

// destinationPort and sourcePort hold for tcp or udp packets to and from ports.
func destinationPort(proto string, low, high uint16) part { return port(proto, "dport", 2, low, high) }

func sourcePort(proto string, number uint16) part { return port(proto, "sport", 0, number, number) }

func port(proto, word string, offset uint32, low, high uint16) part {
	out := part{text: fmt.Sprintf("%s %s %d", proto, word, low), exprs: meta(expr.MetaKeyL4PROTO, protocolNumber(proto))}
	out.exprs = append(out.exprs, load(expr.PayloadBaseTransportHeader, offset, 2))
	if low == high {
		out.exprs = append(out.exprs, equals(binaryutil.BigEndian.PutUint16(low)))
		return out
	}
	out.text += fmt.Sprintf("-%d", high)
	out.exprs = append(out.exprs, between(binaryutil.BigEndian.PutUint16(low), binaryutil.BigEndian.PutUint16(high))...)
	return out
}

func between(low, high []byte) []expr.Any {
	return []expr.Any{
		&expr.Cmp{Op: expr.CmpOpGte, Register: register, Data: low},
		&expr.Cmp{Op: expr.CmpOpLte, Register: register, Data: high},
	}
}

// unreachable holds for the kernel's own word that something cannot be reached
// (RFC 792, RFC 4443 section 3.1).
func unreachable(v6 bool) part {
	name, number := "icmp", byte(3)
	if v6 {
		name, number = "icmpv6", 1
	}
	out := part{text: name + " type destination-unreachable", exprs: family(v6)}
	out.exprs = append(out.exprs, meta(expr.MetaKeyL4PROTO, protocolNumber(name))...)
	out.exprs = append(out.exprs, load(expr.PayloadBaseTransportHeader, 0, 1), equals([]byte{number}))
	return out
}

// arriving holds for packets that come in by the device.
func arriving(device string) part {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, device)
	return part{text: "iifname " + strconv.Quote(device), exprs: meta(expr.MetaKeyIIFNAME, name)}
}

// user holds for packets of a socket that somebody with such an id made: the
// file system user id of the maker (net/netfilter/nft_meta.c, nft_meta_get_eval_skugid).
func user(low, high uint32) part {
	out := part{text: fmt.Sprintf("meta skuid %d-%d", low, high), exprs: []expr.Any{&expr.Meta{Key: expr.MetaKeySKUID, Register: register}}}
	// The kernel compares bytes, and the id is in the machine's own order.
	out.exprs = append(out.exprs, &expr.Byteorder{SourceRegister: register, DestRegister: register, Op: expr.ByteorderHton, Len: 4, Size: 4})
	out.exprs = append(out.exprs, between(binaryutil.BigEndian.PutUint32(low), binaryutil.BigEndian.PutUint32(high))...)
	return out
}

// cgroup holds for packets of a socket that was made in the cgroup of that path
// and id or beneath it; level is how deep it lies (net/netfilter/nft_socket.c).
func cgroup(path string, level uint32, id uint64) part {
	return part{text: fmt.Sprintf("socket cgroupv2 level %d %s", level, strconv.Quote(path)), exprs: []expr.Any{
		&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: level, Register: register},
		equals(binary.NativeEndian.AppendUint64(nil, id)),
	}}
}

// count adds the packet to a counter of the table.
func count(name string) part {
	return part{text: "counter name " + strconv.Quote(name), exprs: []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}}}
}

func accept() part {
	return part{text: "accept", exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}}
}

// goTo leaves the chain for another one and does not come back.
func goTo(name string) part {
	return part{text: "goto " + name, exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: name}}}
}

// comment is for who reads the rules, and for Read. It stands last.
func comment(text string) part {
	return part{text: "comment " + strconv.Quote(text), comment: text}
}

// goesOn holds for TCP packets that do not ask for a new connection (RFC 9293
// section 3.1: the flags are in the header's fourteenth byte).
func goesOn() part {
	const fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10
	out := part{text: "tcp flags != syn / fin,syn,rst,ack", exprs: meta(expr.MetaKeyL4PROTO, protocolNumber("tcp"))}
	out.exprs = append(out.exprs, load(expr.PayloadBaseTransportHeader, 13, 1),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: []byte{syn}})
	return out
}

// reset refuses a TCP packet as a closed port does.
func reset() part {
	return part{text: "reject with tcp reset", exprs: []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
}

// prohibit refuses any packet; its sender gets an error at once.
func prohibit() part {
	return part{text: "reject with icmpx admin-prohibited", exprs: []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}}
}

// atMost lets a rule go on for so many packets a second, and for a burst of so
// many after silence.
func atMost(perSecond uint64, burst uint32) part {
	return part{text: fmt.Sprintf("limit rate %d/second burst %d packets", perSecond, burst), exprs: []expr.Any{
		&expr.Limit{Type: expr.LimitTypePkts, Rate: perSecond, Unit: expr.LimitTimeSecond, Burst: burst},
	}}
}

// logTo gives the first bytes of the packet to whoever listens to the group
// (NFLOG, include/uapi/linux/netfilter/nfnetlink_log.h).
func logTo(group uint16, bytes uint32) part {
	const key = 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_QTHRESHOLD
	return part{text: fmt.Sprintf("log group %d snaplen %d", group, bytes), exprs: []expr.Any{&expr.Log{Key: key, Group: group, Snaplen: bytes}}}
}

// divert gives a TCP packet to the transparent listener at the address, with its
// destination as it is (Documentation/networking/tproxy.rst). A packet of a
// connection that somebody else has ends the rule instead.
func divert(listener netip.AddrPort) part {
	name, fam := "ip", byte(unix.NFPROTO_IPV4)
	if listener.Addr().Is6() {
		name, fam = "ip6", unix.NFPROTO_IPV6
	}
	return part{text: fmt.Sprintf("tproxy %s to %s", name, listener), exprs: []expr.Any{
		&expr.Immediate{Register: register, Data: listener.Addr().AsSlice()},
		&expr.Immediate{Register: unix.NFT_REG_2, Data: binaryutil.BigEndian.PutUint16(listener.Port())},
		&expr.TProxy{Family: fam, TableFamily: unix.NFPROTO_INET, RegAddr: register, RegPort: unix.NFT_REG_2},
	}}
}
