package isolate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The new mount API (open_tree(2), move_mount(2), mount_setattr(2), fsopen(2);
// kernel 5.12): a mount is made and its attributes set while it hangs nowhere,
// then it is put in place. There is no moment at which it can be reached with
// too many rights, and the cost of one does not grow with the number of the
// others, as it does where each remount reads /proc/self/mountinfo.

// cloneTree gives a detached copy of the mount at path, submounts included:
// without them the kernel refuses trees whose submounts came from a more
// privileged mount namespace (mount_namespaces(7), "Restrictions").
func cloneTree(path string, follow bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)
	if !follow {
		flags |= unix.AT_SYMLINK_NOFOLLOW
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return fd, nil
}

// attributes of a step's mount: what it does not need is taken away.
func attributes(s Step) *unix.MountAttr {
	a := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if !s.Writable {
		a.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if s.NoExec {
		a.Attr_set |= unix.MOUNT_ATTR_NOEXEC
	}
	if !s.Device {
		a.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	return a
}

func setAttributes(fd int, a *unix.MountAttr) error {
	err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, a)
	if err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	return nil
}

// openBind gives the detached, restricted mount for a bind step. userns, when
// not -1, is the namespace whose mapping shows the caller's files as the
// program's own.
func openBind(s Step, userns int) (int, error) {
	fd, err := cloneTree(s.Source, true)
	if err != nil {
		return -1, err
	}
	a := attributes(s)
	if s.MapOwner && userns >= 0 {
		mapped := *a
		mapped.Attr_set |= unix.MOUNT_ATTR_IDMAP
		mapped.Userns_fd = uint64(userns)
		// Not every file system can (mount_setattr(2), EINVAL); a store that
		// everybody may read works without, the layers of a tree do not.
		if err := setAttributes(fd, &mapped); err == nil {
			return fd, nil
		} else if !errors.Is(err, unix.EINVAL) || s.Type == StepOverlay {
			unix.Close(fd)
			return -1, err
		}
	}
	if err := setAttributes(fd, a); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// newFilesystem makes a detached mount of a file system that user namespaces
// may mount.
func newFilesystem(kind string, options [][2]string, a *unix.MountAttr) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if o[1] == "" {
			err = unix.FsconfigSetFlag(fs, o[0])
		} else {
			err = unix.FsconfigSetString(fs, o[0], o[1])
		}
		if err != nil {
			return -1, fmt.Errorf("set %s: %w", o[0], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, os.NewSyscallError("fsconfig", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(a.Attr_set))
	if err != nil {
		return -1, os.NewSyscallError("fsmount", err)
	}
	return fd, nil
}

func tmpfs(s Step) (int, error) {
	return newFilesystem("tmpfs", [][2]string{{"source", "tmpfs"}, {"mode", strconv.FormatUint(uint64(s.Mode), 8)}}, attributes(s))
}

// beneath opens a path below the new root without following any link: what is
// in the root was made by us, and what is not ours must not lead us away.
func beneath(root int, target string, flags uint64) (int, error) {
	rel := strings.TrimPrefix(target, "/")
	if rel == "" {
		rel = "."
	}
	fd, err := unix.Openat2(root, rel, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: target, Err: err}
	}
	return fd, nil
}

// makeParents makes the folders above target, below root.
func makeParents(root int, target string) error {
	parent := filepath.Dir(target)
	if parent == "/" {
		return nil
	}
	return makeDir(root, parent, 0o755)
}

func makeDir(root int, target string, mode uint32) error {
	if fd, err := beneath(root, target, unix.O_PATH|unix.O_DIRECTORY); err == nil {
		unix.Close(fd)
		return nil
	}
	if err := makeParents(root, target); err != nil {
		return err
	}
	return inParent(root, target, func(dir int, name string) error {
		if err := unix.Mkdirat(dir, name, mode); err != nil {
			return &os.PathError{Op: "mkdir", Path: target, Err: err}
		}
		return nil
	})
}

// inParent runs f with the folder that holds target and target's last part.
func inParent(root int, target string, f func(dir int, name string) error) error {
	dir, err := beneath(root, filepath.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return f(dir, filepath.Base(target))
}

func makeFile(root int, s Step) error {
	if err := makeParents(root, s.Target); err != nil {
		return err
	}
	return inParent(root, s.Target, func(dir int, name string) error {
		fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, s.Mode)
		if err != nil {
			return &os.PathError{Op: "create", Path: s.Target, Err: err}
		}
		f := os.NewFile(uintptr(fd), s.Target)
		_, err = f.WriteString(s.Content)
		return errors.Join(err, f.Close())
	})
}

func makeSymlink(root int, s Step) error {
	if err := makeParents(root, s.Target); err != nil {
		return err
	}
	return inParent(root, s.Target, func(dir int, name string) error {
		if err := unix.Symlinkat(s.Content, dir, name); err != nil {
			return &os.PathError{Op: "symlink", Path: s.Target, Err: err}
		}
		return nil
	})
}

// place puts a detached mount at target, making the mount point where there is
// none. A mount of a file needs a file to stand on.
func place(root, mount int, target string) error {
	at, err := beneath(root, target, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		var st unix.Stat_t
		if err := unix.Fstat(mount, &st); err != nil {
			return os.NewSyscallError("fstat", err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = makeDir(root, target, 0o755)
		} else {
			err = makeFile(root, Step{Target: target, Mode: 0o444})
		}
		if err != nil {
			return err
		}
		at, err = beneath(root, target, unix.O_PATH)
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	if err := unix.MoveMount(mount, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// seal makes what is mounted at target read-only: a mount of its own is
// changed in place; a folder inside another mount is bound over itself.
// A target that does not exist needs no seal.
func seal(root int, target string) error {
	at, err := beneath(root, target, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	readOnly := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err = unix.MountSetattr(at, "", unix.AT_EMPTY_PATH, readOnly)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EINVAL) { // EINVAL: not the top of a mount
		return os.NewSyscallError("mount_setattr", err)
	}
	fd, err := unix.OpenTree(at, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: target, Err: err}
	}
	defer unix.Close(fd)
	if err := setAttributes(fd, readOnly); err != nil {
		return err
	}
	if err := unix.MoveMount(fd, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}
