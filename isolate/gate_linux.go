package isolate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rcc/isolate/egress"
)

// What the gate may hold, in bytes: the limit of the kernel, and the lower one at
// which Go's runtime collects harder (GOMEMLIMIT).
const (
	gateData   = 192 << 20
	gateMemory = 96 << 20
)

// gate is the stage that reads what programs inside send: names, heads of flows.
// All that it will ever use is opened before; then it gives up everything else,
// and only then it reads.
func gate(w wire) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return stepError("tie the gate to its keeper", err)
	}
	unix.Close(wireFD)
	g, publish, err := openGate(os.Args[1:])
	if err != nil {
		return stepError("take over the gate's sockets", err)
	}
	degraded, err := harden(publish)
	if err != nil {
		return err
	}
	if err := w.send(message{Kind: kindReady, Degraded: degraded}); err != nil {
		return err
	}
	g.Link = newLink(w.conn, maxToGate)
	g.Run() // the end of the link is the end of the gate
	return nil
}

// openGate makes the gate of the descriptors after the link's, which words tell
// the use of, and gives the ports that it may connect to.
func openGate(words []string) (*egress.Gate, []uint16, error) {
	g := &egress.Gate{Forward: map[uint16][]net.Listener{}}
	var publish []uint16
	fd := wireFD + 1
	for _, use := range words {
		if port, ok := portOf(use, usePublish); ok {
			publish = append(publish, port)
			continue
		}
		f := os.NewFile(uintptr(fd), use)
		fd++
		if f == nil {
			return nil, nil, fmt.Errorf("%s: there is no such descriptor", use)
		}
		if err := addSocket(g, use, f); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", use, err)
		}
	}
	g.Dial = func(port uint16) (net.Conn, error) { return dialInside(publish, port) }
	return g, publish, nil
}

// addSocket gives the gate one of its sockets. f is taken.
func addSocket(g *egress.Gate, use string, f *os.File) error {
	if use == useRefused {
		g.Refused = refusals(f)
		return nil
	}
	defer f.Close() // net has a descriptor of its own
	if use == useDNS {
		c, err := net.FilePacketConn(f)
		if err != nil {
			return err
		}
		g.DNS = append(g.DNS, &packetConn{c.(*net.UDPConn)})
		return nil
	}
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	port, forwarded := portOf(use, useForward)
	switch {
	case forwarded:
		g.Forward[port] = append(g.Forward[port], l)
	case use == useFlow:
		g.TCP = append(g.TCP, l)
	case use == useDNSTCP:
		g.DNSTCP = append(g.DNSTCP, l)
	default:
		return errors.New("unknown use")
	}
	return nil
}

// dialLimit bounds a connection to a program inside; over loopback it either
// stands at once or waits for a program that does not accept.
const dialLimit = 10 * time.Second

// dialInside connects to a published port, on either loopback address.
func dialInside(publish []uint16, port uint16) (net.Conn, error) {
	if !slices.Contains(publish, port) {
		return nil, fmt.Errorf("port %d is not published", port)
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	var errs []error
	for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		c, err := dialTCP(ctx, netip.AddrPortFrom(a, port), -1)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// harden gives up all that the gate does not need, for good, and tells what the
// kernel could not take from it; the filter of system calls is never missing.
func harden(publish []uint16) (degraded []string, err error) {
	os.Clearenv()
	debug.SetMemoryLimit(gateMemory)
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: gateData, Max: gateData}); err != nil {
		return nil, stepError("limit the gate's memory", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}); err != nil { // see setLimits
		return nil, stepError("limit the gate's core", err)
	}
	if err := dropAll(true); err != nil {
		return nil, stepError("drop the gate's privileges", err)
	}
	if err := undumpable(); err != nil {
		return nil, stepError("hide the gate", err)
	}
	if degraded, err = landlockGate(publish); err != nil {
		return nil, stepError("restrict the gate by Landlock", err)
	}
	// Last: nothing above is among the calls that are left.
	if err := gateFilter(len(publish) > 0).install(); err != nil {
		return nil, stepError("filter the gate's system calls", err)
	}
	return degraded, nil
}

// packetConn is the gate's side of DNS over UDP.
type packetConn struct{ conn *net.UDPConn }

// ReadQuery tells for each query to which address it was sent (IP_PKTINFO in
// ip(7), IPV6_RECVPKTINFO in ipv6(7)).
func (p *packetConn) ReadQuery(b []byte) (int, egress.Query, error) {
	var oob [128]byte
	n, on, _, client, err := p.conn.ReadMsgUDPAddrPort(b, oob[:])
	if err != nil {
		return 0, egress.Query{}, err
	}
	q := egress.Query{Client: netip.AddrPortFrom(client.Addr().Unmap(), client.Port())}
	if a, ok := asked(oob[:on]); ok {
		q.Local = netip.AddrPortFrom(a, dnsPort)
	}
	return n, q, nil
}

// WriteReply answers from the address that was asked; a client drops what comes
// from another.
func (p *packetConn) WriteReply(b []byte, q egress.Query) error {
	var oob []byte
	switch a := q.Local.Addr(); {
	case a.Is4():
		oob = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a.As4()})
	case a.Is6():
		oob = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a.As16()})
	}
	_, _, err := p.conn.WriteMsgUDPAddrPort(b, oob, q.Client)
	return err
}

func (p *packetConn) Close() error { return p.conn.Close() }

// asked finds the address that a packet was sent to.
func asked(oob []byte) (netip.Addr, bool) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, m := range list {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[8:12])), true // ipi_addr
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(m.Data[0:16])), true // ipi6_addr
		}
	}
	return netip.Addr{}, false
}
