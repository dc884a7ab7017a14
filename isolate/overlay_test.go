package isolate

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// layered is a folder with two read-only layers, which belong to the caller,
// and a writable one, which belongs to the program.
type layered struct{ low, mid, task string }

func newLayered(t *testing.T, host func(path string) error) layered {
	t.Helper()
	dir := t.TempDir()
	l := layered{filepath.Join(dir, "low"), filepath.Join(dir, "mid"), filepath.Join(dir, "task")}
	for name, text := range map[string]string{
		"low/a": "a", "low/b": "b", "low/d/one": "1", "low/d/two": "2", "low/gone/x": "x", "low/shadow": "old", "mid/shadow": "new", "mid/d/three": "3",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{l.task, l.task + "/upper", l.task + "/work"} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := host(path); err != nil {
			t.Fatal(err)
		}
	}
	// The kernel's own folders in "work" have no permissions.
	t.Cleanup(func() {
		if out, err := exec.Command("chmod", "-R", "u+rwx", l.task).CombinedOutput(); err != nil {
			t.Errorf("chmod: %s", out)
		}
	})
	return l
}

func (l layered) bind(writable bool) Bind {
	b := Bind{Target: "/srv/proj", Lower: []Layer{{l.mid, true}, {l.low, true}}}
	if writable {
		b.Upper = l.task
	} else {
		b.Lower = append([]Layer{{Source: l.task + "/upper"}}, b.Lower...)
	}
	return b
}

func (l layered) world(t *testing.T, writable bool) *world {
	return newWorld(t, func(j *Job) { j.Binds = []Bind{l.bind(writable)} })
}

// run gives what a script printed.
func (w *world) run(t *testing.T, script string) string {
	t.Helper()
	out, _ := w.sh(t, script)
	return out
}

func hostOwned(path string) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(path, 1879048200, 1879048200)
}

func TestOverlay(t *testing.T) {
	l := newLayered(t, hostOwned)
	w := l.world(t, true)
	out := w.run(t, `cat a b d/one d/three shadow; stat -c %u:%g a d .; ls`)
	if want := "ab13new1000:1000\n1000:1000\n1000:1000\na\nb\nd\ngone\nshadow"; out != want {
		t.Errorf("the layers show %q, want %q", out, want)
	}
	// Everything that a tree of files can do, also with folders that not even
	// their owner may enter or write to.
	w.want(t, `set -e
		echo more >>a; rm b; rm -r gone; mkdir gone; echo y >gone/y; mv d e; chmod 755 shadow; ln -s a link
		mkdir -m 555 closed; rm -r e; mkdir -m 0 e; rmdir e; mkdir -m 555 e; mkfifo pipe; ln a hard`, "")
	if out := w.run(t, `mknod white c 0 0 2>/dev/null && echo made; setfattr -n user.overlay.opaque -v y gone 2>/dev/null && echo set; cat /proc/mounts | grep ' overlay '`); strings.Contains(out, "made") ||
		strings.Contains(out, "set") || strings.Contains(out, l.low) || strings.Contains(out, l.task) {
		t.Errorf("a program inside can make marks of the overlay's, or sees paths of the host: %s", out)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"low/a": "a", "low/b": "b", "low/d/one": "1", "low/gone/x": "x", "mid/shadow": "new", "task/upper/a": "amore\n", "task/upper/gone/y": "y\n"} {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(l.low), name))
		if err != nil || string(b) != want {
			t.Errorf("%s on the host has %q, want %q (%v)", name, b, want, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(l.task+"/upper/b", &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("a removed file is not a whiteout: %v %o", err, st.Mode)
	}
	// The same again, read-only.
	r := l.world(t, false)
	if out := r.run(t, `cat a gone/y; test -e d || echo moved; cat gone/x 2>/dev/null; touch z 2>&1`); !strings.Contains(out, "amore\ny\n") || !strings.Contains(out, "moved") ||
		strings.Contains(out, "x") || !strings.Contains(out, "Read-only file system") {
		t.Errorf("read-only, the layers show %q", out)
	}
}

// TestOverlayOfOthers: what the program's user may not do with a file he may
// not do through an overlay either.
func TestOverlayOfOthers(t *testing.T) {
	l := newLayered(t, hostOwned)
	if os.Getuid() == 0 { // a file of another user's in a layer
		if err := errors.Join(os.Chmod(l.low+"/a", 0o600), os.Chown(l.low+"/a", 77777, 77777)); err != nil {
			t.Fatal(err)
		}
	} else if err := os.Chmod(l.low+"/a", 0); err != nil {
		t.Fatal(err)
	}
	w := l.world(t, true)
	if out := w.run(t, `cat a 2>&1; echo x 2>&1 >>a; cat b`); strings.Count(out, "ermission denied") != 2 || !strings.HasSuffix(out, "b") {
		t.Errorf("got %q", out)
	}
}

func TestNoOverlay(t *testing.T) {
	l := newLayered(t, hostOwned)
	job := Job{Dir: "/srv/proj", UID: 1000, GID: 1000, HostUID: os.Getuid(), HostGID: os.Getgid(), User: "agent", Binds: []Bind{l.bind(true)}}
	if os.Getuid() == 0 {
		job.HostUID, job.HostGID = 1879048200, 1879048200
	}
	start := func() error {
		p, err := NewPlan(Policy{Net: "none"}, job, LookHost(os.Environ()))
		if err != nil {
			return err
		}
		sb, err := Start(context.Background(), p)
		if err == nil {
			err = sb.Close()
		}
		return err
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	job.Binds[0].Upper = "/proc/sys" // where no layer can be
	if err := start(); !NoOverlay(err) {
		t.Errorf("got %v, want one that says there is no overlay", err)
	}
	job.Binds[0].Upper = filepath.Join(t.TempDir(), "nowhere")
	if err := start(); !NoOverlay(err) {
		t.Errorf("got %v, want one that says there is no overlay", err)
	}
	job.Binds = []Bind{{Source: "/nowhere", Target: "/srv/proj"}}
	if err := start(); err == nil || NoOverlay(err) {
		t.Errorf("got %v, want one that does not speak of overlays", err)
	}
}

// TestManyLayers: the longest list that is allowed fits into the option.
func TestManyLayers(t *testing.T) {
	l := newLayered(t, hostOwned)
	w := newWorld(t, func(j *Job) {
		b := l.bind(true)
		for i := len(b.Lower); i < MaxLayers; i++ {
			dir := t.TempDir()
			if err := exec.Command("touch", filepath.Join(dir, "last")).Run(); err != nil {
				t.Fatal(err)
			}
			b.Lower = append(b.Lower, Layer{dir, true})
		}
		j.Binds = []Bind{b}
	})
	if out := w.run(t, `cat a; ls last`); out != "alast" {
		t.Errorf("got %q", out)
	}
}
