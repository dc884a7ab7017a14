package isolate

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// storeAt is where the host's store hangs, in the new root, while its paths are
// taken out of it: the kernel clones mounts of the own mount namespace only
// (check_mnt in fs/namespace.c).
const storeAt = "/.s"

// store shows the step's store paths, and nothing else of the store whose
// detached mount is fd. The mount has its restrictions already, and what is
// cloned from it inherits them (clone_mnt in fs/namespace.c): none of the
// thousands of mounts is changed on its own.
func (b *builder) store(s Step, fd int) (err error) {
	defer unix.Close(fd)
	if err := place(b.root, fd, storeAt); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.dropStore()) }()
	if err := makeDir(b.root, s.Target, 0o755); err != nil {
		return err
	}
	dir, err := beneath(b.root, s.Target, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	for _, name := range s.Names {
		if err := showStorePath(fd, dir, name); err != nil {
			return stepError("show "+s.Target+"/"+name, err)
		}
	}
	return nil
}

// dropStore lets the store go; the mounts of its paths stay.
func (b *builder) dropStore() error {
	if err := unix.Fchdir(b.root); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	if err := unix.Unmount(storeAt[1:], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return os.NewSyscallError("umount2", err)
	}
	return errors.Join(unix.Unlinkat(b.root, storeAt[1:], unix.AT_REMOVEDIR), unix.Chdir("/"))
}

// showStorePath puts one path of the store into dir. Without AT_RECURSIVE, what
// is mounted somewhere below it does not come along; where that would uncover what
// it hides, the kernel refuses (has_locked_children in fs/namespace.c).
func showStorePath(store, dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(store, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return copyLink(store, dir, name)
	case unix.S_IFDIR:
		err = unix.Mkdirat(dir, name, 0o755)
	case unix.S_IFREG:
		err = unix.Mknodat(dir, name, unix.S_IFREG|0o444, 0)
	default:
		return errors.New("it is neither a file, a folder nor a link")
	}
	if err != nil {
		return err
	}
	fd, err := unix.OpenTree(store, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) {
		return errors.New("something else is mounted inside it")
	}
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(fd)
	return os.NewSyscallError("move_mount", unix.MoveMount(fd, "", dir, name, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

func copyLink(store, dir int, name string) error {
	var target [unix.PathMax]byte
	n, err := unix.Readlinkat(store, name, target[:])
	if err != nil {
		return os.NewSyscallError("readlink", err)
	}
	return os.NewSyscallError("symlink", unix.Symlinkat(string(target[:n]), dir, name))
}
