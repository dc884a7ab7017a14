package isolate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Dialer gives a function that connects to an address over TCP. Called by root,
// it makes the sockets under hostUID, so that the host's firewall tells the
// flows of tasks from others: `meta skuid` is the fsuid of who opened the socket
// (nft_meta_get_eval_skugid in net/netfilter/nft_meta.c reads
// sk->sk_socket->file->f_cred). For anybody else the uid is the caller's own.
// Keepalive is on; how long to wait is the context's to say.
func Dialer(hostUID int) func(context.Context, netip.AddrPort) (net.Conn, error) {
	if os.Geteuid() != 0 {
		hostUID = -1
	}
	return func(ctx context.Context, a netip.AddrPort) (net.Conn, error) { return dialTCP(ctx, a, hostUID) }
}

// dialTCP connects a socket that is opened under the fsuid uid, or under the
// thread's own when that is negative. It asks nothing of the system but the
// socket and its connection, so that the gate may use it.
func dialTCP(ctx context.Context, a netip.AddrPort, uid int) (net.Conn, error) {
	c, err := connectTCP(ctx, a, uid)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(a), Err: err}
	}
	return c, nil
}

func connectTCP(ctx context.Context, a netip.AddrPort, uid int) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	family, address, err := sockaddr(a)
	if err != nil {
		return nil, err
	}
	fd, err := socketAs(family, uid)
	if err != nil {
		return nil, err
	}
	err = unix.Connect(fd, address)
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close() // net.FileConn has a descriptor of its own
	if errors.Is(err, unix.EINPROGRESS) {
		err = connected(ctx, f)
	}
	if err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	return net.FileConn(f)
}

func sockaddr(a netip.AddrPort) (int, unix.Sockaddr, error) {
	switch ip := a.Addr().Unmap(); {
	case ip.Is4():
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}, nil
	case ip.Is6() && ip.Zone() == "":
		return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}, nil
	}
	return 0, nil, fmt.Errorf("cannot connect to the address %q", a.Addr())
}

// connected waits until a connection stands or has failed: there is an error
// then, or there is another side (connect(2), EINPROGRESS).
func connected(ctx context.Context, f *os.File) error {
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var connectErr error
	err = raw.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err == nil {
			_, err = unix.Getpeername(int(fd))
		}
		connectErr = err
		return !errors.Is(err, unix.ENOTCONN)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return connectErr
}

// socketAs opens a socket under an fsuid, which is the calling thread's alone
// (setfsuid(2)).
func socketAs(family, uid int) (int, error) {
	const kind = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if uid < 0 {
		fd, err := unix.Socket(family, kind, unix.IPPROTO_TCP)
		return fd, os.NewSyscallError("socket", err)
	}
	runtime.LockOSThread()
	before, err := unix.SetfsuidRetUid(uid)
	if err != nil {
		runtime.UnlockOSThread()
		return -1, os.NewSyscallError("setfsuid", err)
	}
	fd, err := unix.Socket(family, kind, unix.IPPROTO_TCP)
	unix.SetfsuidRetUid(before)
	// The call tells of no failure, but what was before: -1 is no uid and
	// changes nothing.
	if now, _ := unix.SetfsuidRetUid(-1); now == before {
		runtime.UnlockOSThread() // else the thread ends with its goroutine
	}
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Uid != uint32(uid) {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot open a socket as user %d", uid)
	}
	return fd, nil
}
