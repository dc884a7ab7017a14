package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The world is what the network scripts run in: three network namespaces of the
// script's own, and a mount namespace with an /etc that can be written to.
//
//	internet ─── host ─── company
//
// The scripts run rcc and everything else of the host in "host", by inworld. In
// "internet" every address answers, public-looking or not; in "company" the
// private ones, the metadata service and the link's own. Nothing else is
// reachable: there is no link to the machine's own network.
//
// What arrives anywhere is written down, one line for each packet that begins
// something, each name asked for, and the first bytes of each connection, in
// $WORK/world/NET.hits (see worldHits). That is how a script knows that nothing
// got through: first the same attack from "host" leaves a line.
//
// Root makes the namespaces as they are. An ordinary user owns them by a user
// namespace, and runs rcc in one more, where his own id is his own again.

// worldNets are the network namespaces, as scripts call them.
var worldNets = []string{"host", "internet", "company"}

// worldConfig is what the helper process is told.
type worldConfig struct {
	Role    string // of worldNets, or "user"
	Dir     string // $WORK/world
	Zone    string // what the name servers know; see parseZone
	Outside uint64 // the network namespace of the machine, where nothing may run
	UID     int    // of who runs the test
	GID     int
}

// world is a running one.
type world struct {
	dir  string
	cmd  *exec.Cmd
	life io.Closer // the helpers end when it is closed
}

type worldKey struct{}

// escapeDir holds what the escape probes are made of.
const escapeDir = "../../testdata/escape"

// scriptWorld makes the world of a script, which ends with it.
//
//	world start [ZONE]            make it; ZONE is a file with more names
//	world reset                   forget what arrived so far
//	world hits NET N REGEXP       exactly N lines of what arrived in NET match; +: at least one
//
// In the script's environment, $ESCAPE is the folder of the escape probes, $CA
// the certificate that vouches for every TLS server, and $LOGIN the name to log in
// with by ssh. The program
//
//	inworld [-net NET] [-root] COMMAND...
//
// runs a command in the world: in "host" where nothing is said, as who runs the
// tests; with -root as the owner of the namespaces.
func scriptWorld(ts *testscript.TestScript, args []string) error {
	const usage = errScriptUsage("world start [ZONE] | reset | hits NET N REGEXP")
	if len(args) == 0 {
		return usage
	}
	w, _ := ts.Value(worldKey{}).(**world)
	if args[0] == "start" {
		if *w != nil || len(args) > 2 {
			return usage
		}
		zone := ""
		if len(args) == 2 {
			zone = ts.ReadFile(args[1])
		}
		made, err := startWorld(ts, zone)
		*w = made
		return err
	}
	switch {
	case *w == nil:
		return errScriptUsage("world start comes first")
	case args[0] == "reset" && len(args) == 1:
		return (*w).reset()
	case args[0] == "hits" && len(args) == 4:
		return (*w).wantHits(args[1], args[2], args[3])
	}
	return usage
}

func startWorld(ts *testscript.TestScript, zone string) (*world, error) {
	dir := filepath.Join(ts.Getenv("WORK"), "world")
	escape, err := filepath.Abs(escapeDir)
	if err != nil {
		return nil, err
	}
	common, err := os.ReadFile(filepath.Join(escape, "network/zone"))
	if err != nil {
		return nil, err
	}
	var netns syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/net", &netns); err != nil {
		return nil, err
	}
	c := worldConfig{Role: "host", Dir: dir, Zone: string(common) + "\n" + zone, Outside: netns.Ino, UID: os.Getuid(), GID: os.Getgid()}
	w, err := c.start(ts.Defer)
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(dir, "bin")
	ts.Setenv("PATH", bin+":"+ts.Getenv("PATH"))
	ts.Setenv("ESCAPE", escape)
	ts.Setenv("CA", filepath.Join(dir, "ca.pem"))
	if account, err := user.Current(); err == nil {
		ts.Setenv("LOGIN", account.Username)
	}
	return w, nil
}

// start makes the folder and the processes; done is told how they end.
func (c worldConfig) start(done func(func())) (*world, error) {
	if err := os.MkdirAll(filepath.Join(c.Dir, "bin"), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "bin/inworld"), []byte(c.inworld()), 0o755); err != nil {
		return nil, err
	}
	cmd, life, err := c.helper(syscall.CLONE_NEWNS | syscall.CLONE_NEWNET)
	if err != nil {
		return nil, fmt.Errorf("cannot make the world: %w", err)
	}
	w := &world{dir: c.Dir, cmd: cmd, life: life}
	done(w.stop)
	return w, nil
}

func (w *world) stop() {
	w.life.Close()
	gone := make(chan struct{})
	go func() { w.cmd.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		w.cmd.Process.Kill()
		<-gone
	}
}

// scriptHasWorld says why the world cannot be made here, nil when it can.
var scriptHasWorld = sync.OnceValue(func() error {
	for _, program := range []string{"nsenter", "ip", "python3"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("there is no %s on PATH", program)
		}
	}
	dir, err := os.MkdirTemp("", "rcc-test-world-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var stop func()
	defer func() {
		if stop != nil {
			stop()
		}
	}()
	c := worldConfig{Role: "host", Dir: dir, UID: os.Getuid(), GID: os.Getgid()}
	_, err = c.start(func(f func()) { stop = f })
	return err
})

// A process of the world does nothing in the machine's own network, nor where
// there is a link that the world did not make.
func TestWorldStaysApart(t *testing.T) {
	if err := scriptHasWorld(); err != nil {
		lacking(t, "world")
	}
	var netns syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/net", &netns); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"internet", "company", "user"} {
		c := worldConfig{Role: role, Dir: t.TempDir(), Outside: netns.Ino, UID: os.Getuid(), GID: os.Getgid()}
		if err := c.checkApart(); err == nil || !strings.Contains(err.Error(), "the machine's own network") {
			t.Errorf("%s would run in the machine's own network: %v", role, err)
		}
	}
	// The same with a link of another name, in a network of the test's own.
	link := exec.Command("unshare", "--user", "--map-root-user", "--net", "sh", "-c",
		`ip link add other0 type veth peer name other1 && ip link set other0 up && exec python3 "$0" </dev/null`, filepath.Join(escapeDir, "network/probe.py"))
	if out, err := link.CombinedOutput(); err == nil || !strings.Contains(string(out), "other0 that is not of the world") {
		t.Errorf("the probes would run beside another link: %v\n%s", err, out)
	}
}
