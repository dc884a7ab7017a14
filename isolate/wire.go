package isolate

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// message is what supervisor and init say to each other; which fields are set
// depends on Kind. The drawing in doc.go shows the order.
type message struct {
	Kind string `json:"kind"`
	ID   int    `json:"id,omitempty"`

	// spawn
	Args     []string `json:"args,omitempty"`
	Env      []string `json:"env,omitempty"`
	Dir      string   `json:"dir,omitempty"`
	Terminal *Size    `json:"terminal,omitempty"`
	// Self starts this executable again under Args[0], whatever the root
	// holds: for stages of rcc's own.
	Self bool `json:"self,omitempty"`

	// signal
	Signal int `json:"signal,omitempty"`

	// started
	PID int `json:"pid,omitempty"`
	// exit: as a shell counts, 128+n for a signal
	Status int `json:"status,omitempty"`
	// error
	Step  string `json:"step,omitempty"`
	Error string `json:"error,omitempty"`
	Errno int    `json:"errno,omitempty"`

	// ready, from the gate: what the kernel could not take from it
	Degraded []string `json:"degraded,omitempty"`

	// sender is the process that sent it, as the kernel says and the receiver
	// counts; 0 where SO_PASSCRED is not set (unix(7)).
	sender int
}

const (
	kindMounts  = "mounts"  // to init: detached mounts, root only
	kindNetwork = "network" // from keeper: the rules stand; sock_diag's descriptor
	kindReady   = "ready"   // from init: the sandbox stands; from gate
	kindSpawn   = "spawn"   // to init
	kindStarted = "started" // from init
	kindSignal  = "signal"  // to init: to the process group of ID
	kindExit    = "exit"    // from init
	kindError   = "error"   // from keeper, init or gate
)

// maxMessage bounds one message: what execve(2) takes, and some.
const maxMessage = 8 << 20

// maxFiles is the kernel's bound on descriptors in one message (unix(7),
// SCM_MAX_FD).
const maxFiles = 253

// wire carries messages, each a length and JSON, with descriptors riding on
// the length. It is not safe for concurrent readers; senders must take turns.
type wire struct{ conn *net.UnixConn }

func (w wire) send(m message, files ...int) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMessage || len(files) > maxFiles {
		return errors.New("message is too large")
	}
	var oob []byte
	if len(files) > 0 {
		oob = syscall.UnixRights(files...)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	// A stream socket may take less than all; the descriptors ride on the
	// first byte.
	n, _, err := w.conn.WriteMsgUnix(head, oob, nil)
	if err != nil {
		return err
	}
	if _, err := w.conn.Write(append(head[n:], b...)); err != nil {
		return err
	}
	return nil
}

// receive gives the next message; io.EOF when the other side has ended.
// The descriptors belong to the caller, also when there is an error.
func (w wire) receive() (message, []int, error) {
	var m message
	var head [4]byte
	oob := make([]byte, syscall.CmsgSpace(4*maxFiles)+syscall.CmsgSpace(syscall.SizeofUcred))
	n, on, flags, _, err := w.conn.ReadMsgUnix(head[:], oob)
	if err != nil {
		return m, nil, err
	}
	files, pid, err := rights(oob[:on])
	m.sender = pid
	if err != nil {
		return m, files, err
	}
	if flags&syscall.MSG_CTRUNC != 0 {
		return m, files, errors.New("descriptors were lost")
	}
	if n == 0 {
		return m, files, io.EOF
	}
	if _, err := io.ReadFull(w.conn, head[n:]); err != nil {
		return m, files, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMessage {
		return m, files, errors.New("message is too large")
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(w.conn, b); err != nil {
		return m, files, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, files, fmt.Errorf("decode message: %w", err)
	}
	m.sender = pid
	return m, files, nil
}

// rights takes the descriptors out of a control message. ReadMsgUnix asks for
// MSG_CMSG_CLOEXEC, so none of them leaks into a child.
func rights(oob []byte) (files []int, sender int, err error) {
	if len(oob) == 0 {
		return nil, 0, nil
	}
	cmsgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, 0, err
	}
	for i := range cmsgs {
		if cmsgs[i].Header.Type == syscall.SCM_CREDENTIALS {
			cred, err := syscall.ParseUnixCredentials(&cmsgs[i])
			if err != nil {
				return files, 0, err
			}
			sender = int(cred.Pid)
			continue
		}
		fds, err := syscall.ParseUnixRights(&cmsgs[i])
		if err != nil {
			return files, 0, err
		}
		files = append(files, fds...)
	}
	return files, sender, nil
}

func fileWire(f *os.File) (wire, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return wire{}, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return wire{}, errors.New("descriptor is not a socket of the right kind")
	}
	return wire{conn: u}, nil
}
