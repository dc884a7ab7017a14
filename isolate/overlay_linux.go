package isolate

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// layers is where an overlay's layers hang while it is made, in the new root:
// overlayfs finds them by paths, and before kernel 6.15 only among the mounts
// of its own namespace (clone_private_mount in fs/namespace.c). The name is
// short because all paths together are one option.
const layers = "/.l"

// overlay gives a detached overlay mount (overlayfs, kernel 5.11 for userxattr).
// Its options are fixed: userxattr, without which nobody but the host's root may
// mount one, and volatile, without which its end would wait until everything
// that anybody wrote to the file system of the upper layer is on the disk
// (ovl_sync_fs in fs/overlayfs/super.c). What a program of the sandbox has
// written is as safe from a crash of the machine as a file that was not synced.
func (b *builder) overlay(s Step, fds []int) (fd int, err error) {
	if err := makeDir(b.root, layers, 0o700); err != nil {
		return -1, err
	}
	var names []string
	for i, layer := range fds {
		name := layers + "/" + strconv.Itoa(i)
		if err := place(b.root, layer, name); err != nil {
			return -1, err
		}
		unix.Close(layer)
		names = append(names, name[1:])
	}
	// Relative paths: the program sees them in /proc/mounts.
	if err := unix.Fchdir(b.root); err != nil {
		return -1, os.NewSyscallError("fchdir", err)
	}
	options := [][2]string{{"source", "overlay"}, {"userxattr", ""}}
	if s.Upper != "" {
		last := len(names) - 1
		options = append(options, [2]string{"upperdir", names[last] + "/upper"}, [2]string{"workdir", names[last] + "/work"}, [2]string{"volatile", ""})
		names = names[:last]
	}
	options = append(options, [2]string{"lowerdir", strings.Join(names, ":")})
	fd, err = newFilesystem("overlay", options, attributes(Step{Writable: s.Writable}))
	// The overlay has its own hold on the layers.
	if gone := b.dropLayers(len(fds)); err == nil && gone != nil {
		unix.Close(fd)
		return -1, gone
	}
	return fd, err
}

func (b *builder) dropLayers(n int) error {
	for i := range n {
		name := layers[1:] + "/" + strconv.Itoa(i)
		// The working directory is the new root.
		if err := unix.Unmount(name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("let a layer go: %w", os.NewSyscallError("umount2", err))
		}
		if err := unix.Unlinkat(b.root, name, unix.AT_REMOVEDIR); err != nil {
			return fmt.Errorf("let a layer go: %w", os.NewSyscallError("unlinkat", err))
		}
	}
	return errors.Join(unix.Unlinkat(b.root, layers[1:], unix.AT_REMOVEDIR), unix.Chdir("/"))
}

// NoOverlay tells whether Start could not make a sandbox because of an overlay
// in its plan: the kernel, the file system or the mount refused it.
func NoOverlay(err error) bool {
	var se *StepError
	return errors.As(err, &se) && strings.HasPrefix(se.Step, string(StepOverlay)+" ")
}
