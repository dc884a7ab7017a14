package egress

import (
	"io"
	"syscall"
)

// peek looks at the bytes that wait in a non-blocking socket and leaves them
// there. It gives EAGAIN where there are none yet and io.EOF after the last.
func peek(fd uintptr, b []byte) (int, error) {
	for {
		n, _, err := syscall.Recvfrom(int(fd), b, syscall.MSG_PEEK)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// waiting waits until bytes wait in a socket and gives how many can be spliced;
// 0: some wait, but splice(2) does not move them. Nothing is held meanwhile: a
// splice that waited by itself would keep a pipe.
func waiting(raw syscall.RawConn) (size int64, err error) {
	var b [1]byte
	var peekErr error
	err = raw.Read(func(fd uintptr) bool {
		_, peekErr = peek(fd, b[:])
		if peekErr == syscall.EAGAIN {
			return false
		}
		if peekErr == nil {
			size = spliceable(fd)
		}
		return true
	})
	if err == nil {
		err = peekErr
	}
	return size, err
}
