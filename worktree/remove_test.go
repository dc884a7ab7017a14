package worktree

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRemoveTree(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	if err := os.MkdirAll(filepath.Join(outside, "keep"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, trash := filepath.Join(dir, "tree"), filepath.Join(dir, "trash")
	os.MkdirAll(root+"/shut/inner/most", 0o755)
	os.WriteFile(root+"/shut/inner/file", nil, 0)
	os.Symlink(outside, root+"/shut/out")
	os.Symlink(outside, root+"/out")
	os.WriteFile(root+"/a\nb\xff", nil, 0o644)
	os.WriteFile(root+"/"+strings.Repeat("n", 255), nil, 0o644)
	unix.Mkfifo(root+"/pipe", 0)
	os.Chmod(root+"/shut/inner", 0)
	os.Chmod(root+"/shut", 0)
	os.Chmod(root, 0)
	deep(t, dir, "tree2", 4096)
	for i := range 3000 {
		os.MkdirAll(filepath.Join(dir, "tree3", strconv.Itoa(i%7), strconv.Itoa(i)), 0o755)
	}
	for _, name := range []string{"tree", "tree2", "tree3", "missing", "missing/below"} {
		if err := removeTree(filepath.Join(dir, name), trash); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 || left[0].Name() != "outside" {
		t.Errorf("left %v", left)
	}
	if _, err := os.Stat(outside + "/keep"); err != nil {
		t.Error("a link was followed")
	}
}

// deep makes a path of n folders, which no path name can reach.
func deep(t *testing.T, dir, name string, n int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for range n {
		if err != nil {
			t.Fatal(err)
		}
		if err = unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, oerr := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		fd, err, name = next, oerr, "d"
	}
	unix.Close(fd)
}

func TestRemoveGoesOnAfterACrash(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(dir+"/trash/0/x", 0o755)
	os.MkdirAll(dir+"/tree/y", 0o755)
	if err := removeTree(dir+"/tree", dir+"/trash"); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestRemoveLeavesMountsAlone(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(dir+"/tree/mnt", 0o755)
	os.MkdirAll(dir+"/precious", 0o755)
	os.WriteFile(dir+"/precious/file", nil, 0o644)
	if err := unix.Mount(dir+"/precious", dir+"/tree/mnt", "", unix.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	defer func() { // wherever it is now
		unix.Unmount(dir+"/tree/mnt", unix.MNT_DETACH)
		unix.Unmount(dir+"/trash/0/mnt", unix.MNT_DETACH)
	}()
	if err := removeTree(dir+"/tree", dir+"/trash"); err == nil {
		t.Error("removed with a mount in it")
	}
	if _, err := os.Stat(dir + "/precious/file"); err != nil {
		t.Error("a mount was emptied")
	}
}

func TestRemoveMany(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 20,000 files")
	}
	dir := t.TempDir()
	os.Mkdir(dir+"/tree", 0o755)
	root, err := os.OpenRoot(dir + "/tree")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for i := range 20000 {
		f, err := root.Create(strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	began := time.Now()
	if err := removeTree(dir+"/tree", dir+"/trash"); err != nil {
		t.Fatal(err)
	}
	t.Logf("20,000 files in %v", time.Since(began))
}
