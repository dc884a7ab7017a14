package worktree

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func lstat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return st
}

// carryWorld has a folder "out" that git ignores, with all that a layer must
// get right, and folders with more files than one job takes.
func carryWorld(t *testing.T) *world {
	w := newWorld(t, "sha1")
	w.sh(w.repo, "sh", "-ec", `
mkdir -p out/many out/ro/deep out/empty
i=0; while [ $i -lt 300 ]; do echo $i > out/many/$i; i=$((i+1)); done
head -c 65536 /dev/zero > out/small; head -c 65537 /dev/zero > out/large; head -c 3000000 /dev/urandom > out/huge
head -c 200000 /dev/urandom > out/setuid; chmod 6755 out/setuid; echo x > out/suid; chmod 4711 out/suid
head -c 200000 /dev/urandom > out/marked
ln -s nowhere out/dangling; ln -s ../a.txt out/up; : > out/nothing
echo secret > out/private; chmod 600 out/private; echo run > out/run; chmod 751 out/run
echo deep > out/ro/deep/f; chmod 444 out/ro/deep/f; chmod 555 out/ro/deep out/ro; chmod 1770 out/empty
find out -depth -exec touch -h -d 2021-02-03T04:05:06.123456789 {} +
`)
	t.Cleanup(func() { RemoveAll(w.repo) })
	return w
}

// alike compares two trees by kind, permission bits, times, sizes and contents.
func alike(t *testing.T, a, b string) {
	t.Helper()
	if la, lb := listing(t, a), listing(t, b); !slices.Equal(la, lb) {
		t.Fatalf("%s has %q, %s has %q", a, la, b, lb)
	}
	_ = filepath.WalkDir(a, func(path string, d os.DirEntry, err error) error {
		other := b + strings.TrimPrefix(path, a)
		sa, sb := lstat(t, path), lstat(t, other)
		if sa.Mode&^0o6000 != sb.Mode || sa.Mtim != sb.Mtim || !d.IsDir() && sa.Size != sb.Size {
			t.Errorf("%s: mode %o, time %v; copy: mode %o, time %v", path, sa.Mode, sa.Mtim, sb.Mode, sb.Mtim)
		}
		if d.Type().IsRegular() {
			da, _ := os.ReadFile(path)
			db, err := os.ReadFile(other)
			if err != nil || string(da) != string(db) {
				t.Errorf("%s: the content differs, %v", path, err)
			}
		}
		return err
	})
}

func TestCarryLayer(t *testing.T) {
	w := carryWorld(t)
	marked := unix.Setxattr(w.repo+"/out/marked", "user.overlay.metacopy", nil, 0) == nil
	w.sh(w.repo, "touch", "-d", "2021-02-03T04:05:06.123456789", "out/marked")
	c := w.find(CarrySpec{Patterns: []string{"out"}, Tree: "HEAD"})
	if !slices.Equal(c.Paths, []string{"out"}) || c.Notes != nil || c.Files != 312 || c.Bytes < 3000000 {
		t.Fatalf("%+v", c)
	}
	dir := w.layer(c)
	alike(t, w.repo+"/out", dir+"/out")
	for name, linked := range map[string]bool{"small": false, "large": true, "huge": true, "setuid": false, "run": false, "marked": !marked} {
		if got := lstat(t, w.repo+"/out/"+name).Ino == lstat(t, dir+"/out/"+name).Ino; got != linked {
			t.Errorf("%s: linked is %v", name, got)
		}
	}
	if n, err := unix.Llistxattr(dir+"/out/marked", nil); marked && (n != 0 || err != nil) {
		t.Errorf("marked has attributes: %d, %v", n, err)
	}
	if changed, err := CarryChanged(dir); changed != nil || err != nil {
		t.Errorf("changed %q, %v", changed, err)
	}
	if changed, err := CarryChanged(w.dir + "/home"); changed != nil || err != nil {
		t.Errorf("another kind of layer: %q, %v", changed, err)
	}
	// What happens in the checkout stays there, but for a large file in place.
	w.sh(w.repo, "sh", "-ec", "echo new > out/small; rm -r out/many out/nothing; echo x > out/x; cp out/huge out/h2; mv out/h2 out/huge; echo x >> out/large; chmod 700 out/empty")
	if got := listing(t, dir); len(got) != 313 {
		t.Errorf("%d files", len(got))
	}
	if got := lstat(t, dir+"/out/small").Size; got != 65536 {
		t.Errorf("small has %d bytes", got)
	}
	if changed, err := CarryChanged(dir); !slices.Equal(changed, []string{"out/large"}) || err != nil {
		t.Errorf("changed %q, %v", changed, err)
	}
	os.WriteFile(filepath.Dir(dir)+"/linked", []byte("nonsense\x00"), 0o600)
	if _, err := CarryChanged(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged list: %v", err)
	}
	if err := RemoveAll(filepath.Dir(dir)); err != nil {
		t.Error(err)
	}
}

// What went between the search and the copying is left out.
func TestCarryVanishes(t *testing.T) {
	w := carryWorld(t)
	c := w.find(CarrySpec{Patterns: []string{"out"}})
	w.sh(w.repo, "sh", "-ec", "rm -r out/many out/private out/dangling out/huge; rm out/run; mkfifo out/run; rm out/small; ln -s a.txt out/small; rm out/up; echo x > out/up; rm out/large; mkdir out/large")
	got := listing(t, w.layer(c))
	if want := []string{"out/empty", "out/many", "out/marked", "out/nothing", "out/ro/deep/f", "out/setuid", "out/suid"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.find(CarrySpec{Patterns: []string{"out"}}).write(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCarryCopyInto(t *testing.T) {
	w := carryWorld(t)
	w.write("proj/dir/sub/.env", "KEY\n")
	w.write("proj/.gitignore", "/out/\n.env\n")
	uid, gid := -1, -1
	if os.Geteuid() == 0 {
		uid, gid = 1234, 1235
	}
	c := w.find(CarrySpec{Patterns: []string{"out", ".env"}})
	to := t.TempDir()
	t.Cleanup(func() { RemoveAll(to) })
	w.write(to+"/dir/b.txt", "b\n")
	w.write(to+"/dir/sub/.env", "there already\n")
	before := lstat(t, to+"/dir")
	if err := c.CopyInto(to, uid, gid); err != nil {
		t.Fatal(err)
	}
	alike(t, w.repo+"/out", to+"/out")
	for _, name := range []string{"", "/many", "/many/7", "/huge", "/dangling", "/setuid"} {
		st := lstat(t, to+"/out"+name)
		if uid >= 0 && (st.Uid != 1234 || st.Gid != 1235) {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
		if st.Ino == lstat(t, w.repo+"/out"+name).Ino {
			t.Errorf("%s is the checkout's own", name)
		}
	}
	if got := w.read("proj/dir/sub/.env"); got != "KEY\n" {
		t.Errorf("the checkout's file: %q", got)
	}
	data, _ := os.ReadFile(to + "/dir/sub/.env")
	if after := lstat(t, to+"/dir"); string(data) != "there already\n" || after.Uid != before.Uid || after.Mtim != before.Mtim {
		t.Errorf("what was there: %q, %+v", data, after)
	}
	// No link in the tree leads the copy out of it.
	bad := t.TempDir()
	os.Symlink(w.dir+"/home", bad+"/out")
	os.MkdirAll(w.dir+"/home/sub", 0o755)
	os.Symlink(w.dir+"/home", bad+"/dir")
	if err := c.CopyInto(bad, -1, -1); err == nil || len(listing(t, w.dir+"/home")) != 2 {
		t.Errorf("%v; outside: %q", err, listing(t, w.dir+"/home"))
	}
	var none *Carried
	if err := none.CopyInto(to, -1, -1); err != nil {
		t.Error(err)
	}
}

// A file of somebody else, or of another group, is copied.
func TestCarryOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	w := carryWorld(t)
	os.Chown(w.repo+"/out/large", 1000, 0)
	os.Chown(w.repo+"/out/huge", 0, 1000)
	dir := w.layer(w.find(CarrySpec{Patterns: []string{"out"}}))
	for _, name := range []string{"large", "huge"} {
		st := lstat(t, dir+"/out/"+name)
		if st.Ino == lstat(t, w.repo+"/out/"+name).Ino || st.Uid != 0 || st.Gid != 0 {
			t.Errorf("%s: %+v", name, st)
		}
	}
	alike(t, w.repo+"/out", dir+"/out")
}

func TestOpenBeneath(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(dir+"/a/b", 0o755)
	os.Symlink("b", dir+"/a/l")
	os.WriteFile(dir+"/a/f", nil, 0o644)
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	for path, ok := range map[string]bool{"": true, ".": true, "a": true, "a/b": true, "a/l": false, "a/f": false, "..": false, "a/../a": true, "a/../..": false, "/": false, "/etc": false, "a/l/x": false, "nope": false} {
		fd, err := openBeneath(root, path)
		if (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
		if err == nil {
			unix.Close(fd)
		}
	}
}

// What the layer is for: in an overlay the agent writes to it as it likes, and
// the checkout's own inodes stay as they are.
func TestCarryOverlay(t *testing.T) {
	w := carryWorld(t)
	dir := w.layer(w.find(CarrySpec{Patterns: []string{"out"}}))
	for _, name := range []string{"base", "upper", "work", "tree"} {
		os.Mkdir(w.dir+"/"+name, 0o755)
	}
	w.write("base/a.txt", "base\n")
	mount := "mount -t overlay overlay -o userxattr,lowerdir=" + dir + ":base,upperdir=upper,workdir=work tree; "
	if out, err := w.try(w.dir, "unshare", "-rm", "sh", "-ec", mount); err != nil {
		t.Skipf("no overlay here: %s", out)
	}
	before := w.fingerprint(w.repo+"/out", true)
	out := w.sh(w.dir, "unshare", "-rm", "sh", "-ec", mount+`
cd tree; cat a.txt out/many/299; echo x >> out/huge; : > out/large; echo y > out/small; rm -r out/many; mv out/run out/ran; chmod 755 out/ro; cat out/ro/deep/f`)
	if out != "base\n299\ndeep" {
		t.Errorf("%q", out)
	}
	same(t, "the checkout", before, w.fingerprint(w.repo+"/out", true))
	alike(t, w.repo+"/out", dir+"/out")
	if changed, err := CarryChanged(dir); changed != nil || err != nil {
		t.Errorf("%q, %v", changed, err)
	}
	RemoveAll(w.dir + "/upper")
	RemoveAll(w.dir + "/work")
}
