package isolate

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Names under which this executable plays the stages of a sandbox.
const (
	keeperName = "rcc-keeper"
	initName   = "rcc-init"
	gateName   = "rcc-gate"
)

// Descriptors that each stage starts with, after 0, 1 and 2.
const (
	wireFD = 3
	planFD = 4
	linkFD = 5 // of the keeper, where there is a way out; it is the gate's wireFD
)

// self is this executable, also where its path cannot be reached by the uid
// that the stage runs as, or does not exist in its root (proc(5),
// /proc/pid/exe).
const self = "/proc/self/exe"

// stagePath is what Start executes; tests have a program of their own.
var stagePath = self

var stages = map[string]func(wire) error{keeperName: keeper, initName: initStage, gateName: gate}

// Main runs the stage that argv[0] names and does not return, or returns at
// once when this is an ordinary start of the program.
func Main() {
	if len(os.Args) == 0 {
		return
	}
	stage := stages[filepath.Base(os.Args[0])]
	if stage == nil {
		return
	}
	// Whatever the caller of rcc left open must not reach the program. Every
	// stage names what it passes on.
	if err := unix.CloseRange(wireFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "cannot close inherited descriptors: rcc needs Linux 5.12 or newer")
		os.Exit(125)
	}
	w, err := inheritedWire()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rcc: this name is for rcc's own use")
		os.Exit(125)
	}
	if builtWithCgo {
		report(w, errors.New("this rcc was built with cgo; build it with CGO_ENABLED=0, as make build does"))
		os.Exit(125)
	}
	if err := stage(w); err != nil {
		report(w, err)
		os.Exit(125)
	}
	os.Exit(0)
}

// inheritedWire leaves wireFD itself open: a stage passes it on, or closes it.
func inheritedWire() (wire, error) {
	fd, err := unix.FcntlInt(wireFD, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return wire{}, err
	}
	f := os.NewFile(uintptr(fd), "wire")
	defer f.Close() // fileWire has a descriptor of its own
	return fileWire(f)
}

func report(w wire, err error) {
	m := message{Kind: kindError, Error: err.Error()}
	var se *StepError
	if errors.As(err, &se) {
		m.Step, m.Error = se.Step, se.Err.Error()
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		m.Errno = int(errno)
	}
	w.send(m) // nobody is left to hear of a failure here
}

// readPlan reads the sealed memfd. It uses the offset-free read, because
// keeper and init share the open file.
func readPlan() (*Plan, error) {
	var st unix.Stat_t
	if err := unix.Fstat(planFD, &st); err != nil {
		return nil, stepError("read the plan", err)
	}
	if st.Size > maxPlan {
		return nil, stepError("read the plan", errors.New("too large"))
	}
	b := make([]byte, st.Size)
	for n := 0; n < len(b); {
		m, err := unix.Pread(planFD, b[n:], int64(n))
		if err == nil && m == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, stepError("read the plan", err)
		}
		n += max(m, 0)
	}
	p, err := DecodePlan(b)
	if err != nil {
		return nil, stepError("read the plan", err)
	}
	return p, nil
}

// sealedMemfd holds the plan where nobody can change it any more.
func sealedMemfd(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("plan", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "plan")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, os.NewSyscallError("fcntl", err)
	}
	return f, nil
}

// undumpable closes this process's /proc entries, memory and executable to
// everybody but the host's root (PR_SET_DUMPABLE in prctl(2), ptrace(2);
// CVE-2019-5736 reached the executable that way).
func undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	return nil
}

// lookProgram finds a program as execvp(3) does, by the PATH of the program's own
// environment, inside its root.
func lookProgram(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var path string
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	found := error(unix.ENOENT)
	for _, d := range filepath.SplitList(path) {
		if d == "" {
			d = "."
		}
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		p := filepath.Join(d, name)
		err := executable(p)
		if err == nil {
			return p, nil
		}
		if errors.Is(err, unix.EACCES) {
			found = err
		}
	}
	return "", found
}

func executable(p string) error {
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EACCES
	}
	return unix.Access(p, unix.X_OK)
}
