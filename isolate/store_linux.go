package isolate

import (
	"errors"
	"os"
	"slices"

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
	return showPaths(fd, dir, s.Names)
}

// showPaths puts the named paths of the store into the folder dir. Making what
// the mounts stand on takes about as long as mounting, and each of the two takes
// its own lock in the kernel: they go on beside each other.
func showPaths(store, dir int, names []string) error {
	const batch = 64 // names handed over at once: a hand-over costs as much as a mount
	made := make(chan []string, len(names)/batch+1)
	var standErr error
	go func() {
		defer close(made)
		for part := range slices.Chunk(names, batch) {
			if part, standErr = makeStands(store, dir, part); standErr != nil {
				return
			}
			made <- part
		}
	}()
	var err error
	for part := range made { // to its end: the other side uses our descriptors
		for _, name := range part {
			if err == nil {
				err = showPath(store, dir, name)
			}
		}
	}
	return errors.Join(standErr, err)
}

// makeStands makes, for each name, what its mount will stand on, and copies
// symbolic links, which need none. It gives the names to mount.
func makeStands(store, dir int, names []string) (mount []string, err error) {
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(store, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFLNK:
				err = copyLink(store, dir, name)
			case unix.S_IFDIR:
				err = unix.Mkdirat(dir, name, 0o755)
				mount = append(mount, name)
			case unix.S_IFREG:
				err = unix.Mknodat(dir, name, unix.S_IFREG|0o444, 0)
				mount = append(mount, name)
			default:
				err = errors.New("it is neither a file, a folder nor a link")
			}
		}
		if err != nil {
			return nil, storePathError(name, err)
		}
	}
	return mount, nil
}

// showPath mounts one path of the store. Without AT_RECURSIVE, what is mounted
// somewhere below it does not come along; where an ordinary user would uncover
// that way what it hides, the kernel refuses (has_locked_children in
// fs/namespace.c).
func showPath(store, dir int, name string) error {
	fd, err := unix.OpenTree(store, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) {
		return storePathError(name, errors.New("something else is mounted inside it"))
	}
	if err != nil {
		return storePathError(name, os.NewSyscallError("open_tree", err))
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", dir, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return storePathError(name, os.NewSyscallError("move_mount", err))
	}
	return nil
}

func storePathError(name string, err error) error {
	return stepError("show "+StoreDir+"/"+name, err)
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

func copyLink(store, dir int, name string) error {
	var target [unix.PathMax]byte
	n, err := unix.Readlinkat(store, name, target[:])
	if err != nil {
		return os.NewSyscallError("readlink", err)
	}
	return os.NewSyscallError("symlink", unix.Symlinkat(string(target[:n]), dir, name))
}
