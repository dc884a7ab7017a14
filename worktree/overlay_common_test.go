package worktree

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// mounterName is the argv[0] of a process that mounts overlays in a mount
// namespace of its own, and becomes another program. Its arguments are the
// overlays, the program's file, and its arguments from argv[0].
const mounterName = "rcc-mounter"

type overlayMount struct {
	Target, Upper, Work string
	Lower               []string
}

func overlayArg(list []overlayMount) string {
	data, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// ownMounts gives a process a mount namespace, and without root a user
// namespace that it needs for that.
func ownMounts(attr *syscall.SysProcAttr) {
	attr.Cloneflags |= syscall.CLONE_NEWNS
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
}

func mounter() int {
	var list []overlayMount
	if err := json.Unmarshal([]byte(os.Args[1]), &list); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	_ = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	for _, o := range list {
		options := "userxattr,lowerdir=" + strings.Join(o.Lower, ":")
		if o.Upper != "" {
			options += ",upperdir=" + o.Upper + ",workdir=" + o.Work
		}
		if err := syscall.Mount("overlay", o.Target, "overlay", 0, options); err != nil {
			fmt.Fprintln(os.Stderr, "mount", options, err)
			return 2
		}
	}
	if wd, err := os.Getwd(); err == nil { // the one that is now mounted there
		_ = os.Chdir(wd)
	}
	err := syscall.Exec(os.Args[2], os.Args[3:], os.Environ())
	fmt.Fprintln(os.Stderr, err)
	return 2
}

// overlayTask makes a tree of the overlay kind: the files and most of the git
// directory in a layer below, HEAD and the task's branch in the upper one.
func (w *world) overlayTask(id string, carried map[string]string) (*Repo, *Tree) {
	w.t.Helper()
	r, tree := w.task(id, false)
	lower, upper := filepath.Join(w.dir, "cache", id), tree.path(upperName)
	for _, dir := range []string{filepath.Dir(lower), filepath.Join(upper, ".git/refs/heads/rcc"), filepath.Join(upper, "../work"), filepath.Join(upper, "../merged")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	// The kernel leaves a folder of mode 0 in it (overlayfs, "workdir").
	w.t.Cleanup(func() { exec.Command("chmod", "-R", "u+rwx", filepath.Join(upper, "../work")).Run() })
	rename := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			w.t.Fatal(err)
		}
	}
	rename(tree.path(treeName), lower)
	for _, name := range []string{".git/HEAD", ".git/refs/heads/rcc/" + id} {
		rename(filepath.Join(lower, name), filepath.Join(upper, name))
	}
	tree.Kind, tree.Lower, tree.LowerTree = "overlay", []string{lower}, w.g("rev-parse", tree.Base+"^{tree}")
	if len(carried) > 0 {
		carry := filepath.Join(w.dir, "cache", id+"-carry")
		for name, data := range carried {
			w.write(filepath.Join(carry, name), data)
			first, _, _ := strings.Cut(name, "/")
			if !has(tree.Carried, first) {
				tree.Carried = append(tree.Carried, first)
			}
		}
		tree.Lower = append([]string{carry}, tree.Lower...)
	}
	return r, tree
}

func (w *world) overlayAgent(tree *Tree, script string) string {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	layer := filepath.Dir(tree.path(upperName))
	o := overlayMount{Target: filepath.Join(layer, "merged"), Upper: filepath.Join(layer, "upper"), Work: filepath.Join(layer, "work"), Lower: tree.Lower}
	cmd := exec.Command(self)
	cmd.Args = []string{mounterName, overlayArg([]overlayMount{o}), "/bin/sh", "sh", "-ec", script}
	cmd.Dir, cmd.Env, cmd.SysProcAttr = o.Target, w.environ, &syscall.SysProcAttr{}
	ownMounts(cmd.SysProcAttr)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%q: %v\n%s", script, err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}
