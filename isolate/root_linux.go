package isolate

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// staging is where the new root is put before it becomes the root: a folder
// that every machine has. Everything of the host is opened before, because the
// new root covers it.
const staging = "/tmp"

// builder makes the program's root, step by step.
type builder struct {
	root  int
	fds   map[int][]int // detached mounts of the parts of the host, by index in the plan
	empty [2]int        // an empty folder and an empty file, for masks
}

// buildRoot carries out the plan's steps and makes the result the root.
// given are the detached mounts that the supervisor made, in the order of the
// plan's sources; without them they are opened here.
func buildRoot(p *Plan, given []int) error {
	// Nothing that is mounted here may reach the host's mount namespace, and
	// nothing that is mounted there later may appear here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return stepError("make mounts private", err)
	}
	b := &builder{fds: map[int][]int{}}
	if err := b.openBinds(p, given); err != nil {
		return err
	}
	root, err := tmpfs(Step{Mode: 0o755, Writable: true})
	if err != nil {
		return stepError("make a root", err)
	}
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, staging, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return stepError("attach a root", os.NewSyscallError("move_mount", err))
	}
	b.root = root
	if err := b.makeEmpty(); err != nil {
		return stepError("make masks", err)
	}
	for i, s := range p.Steps {
		if s.Type == StepSeal && s.Target == "/" {
			continue // last, once the old root is gone
		}
		if err := b.step(i, s); err != nil {
			var se *StepError
			if errors.As(err, &se) { // says more than the step's name
				return err
			}
			return stepError(s.name(), err)
		}
	}
	if err := pivot(root); err != nil {
		return stepError("change the root", err)
	}
	if err := b.dropEmpty(); err != nil {
		return stepError("remove the masks' sources", err)
	}
	for _, s := range p.Steps {
		if s.Type == StepSeal && s.Target == "/" {
			// The root's tmpfs is ours alone; sealing it does not touch what
			// is mounted below (no AT_RECURSIVE).
			if err := unix.MountSetattr(root, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
				return stepError("seal /", os.NewSyscallError("mount_setattr", err))
			}
		}
	}
	return errors.Join(unix.Close(root), unix.Chdir("/"))
}

func (b *builder) openBinds(p *Plan, given []int) error {
	next := 0
	for i, s := range p.Steps {
		for _, source := range s.sources() {
			if p.Privileged {
				if next >= len(given) {
					return stepError("receive mounts", errors.New("too few came"))
				}
				b.fds[i] = append(b.fds[i], given[next])
				next++
				continue
			}
			fd, err := openBind(source, -1)
			if err != nil {
				return stepError(s.name(), err)
			}
			b.fds[i] = append(b.fds[i], fd)
		}
	}
	return nil
}

// makeEmpty makes the file and the folder that masks show.
func (b *builder) makeEmpty() error {
	if err := makeFile(b.root, Step{Target: "/.empty", Mode: 0o444}); err != nil {
		return err
	}
	if err := makeDir(b.root, "/.none", 0o555); err != nil {
		return err
	}
	var err error
	if b.empty[0], err = beneath(b.root, "/.none", unix.O_PATH); err != nil {
		return err
	}
	b.empty[1], err = beneath(b.root, "/.empty", unix.O_PATH)
	return err
}

// dropEmpty takes the names away; the mounts keep what they show.
func (b *builder) dropEmpty() error {
	return errors.Join(
		unix.Unlinkat(b.root, ".empty", 0), unix.Unlinkat(b.root, ".none", unix.AT_REMOVEDIR),
		unix.Close(b.empty[0]), unix.Close(b.empty[1]))
}

func (b *builder) step(i int, s Step) error {
	var fd int
	var err error
	switch s.Type {
	case StepDir:
		return makeDir(b.root, s.Target, s.Mode)
	case StepFile:
		return makeFile(b.root, s)
	case StepSymlink:
		return makeSymlink(b.root, s)
	case StepSeal:
		return seal(b.root, s.Target)
	case StepMask:
		return b.mask(s.Target)
	case StepStore:
		return b.store(s, b.fds[i][0])
	case StepBind:
		fd = b.fds[i][0]
	case StepOverlay:
		fd, err = b.overlay(s, b.fds[i])
	case StepTmpfs:
		fd, err = tmpfs(s)
	case StepProc:
		fd, err = newFilesystem("proc", [][2]string{{"source", "proc"}}, attributes(Step{Writable: true, NoExec: true}))
	case StepDevpts:
		// An instance of its own: no terminal of the host is in it. Slaves
		// belong to the program alone; the ptmx inside is for everybody.
		fd, err = newFilesystem("devpts", [][2]string{{"source", "devpts"}, {"ptmxmode", "0666"}, {"mode", "0600"}}, attributes(Step{Writable: true, NoExec: true, Device: true}))
	case StepMqueue:
		fd, err = newFilesystem("mqueue", [][2]string{{"source", "mqueue"}}, attributes(Step{Writable: true, NoExec: true}))
	default:
		return fmt.Errorf("unknown step %q", s.Type)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return place(b.root, fd, s.Target)
}

// mask covers what is at target with nothing. What is not there needs none.
func (b *builder) mask(target string) error {
	at, err := beneath(b.root, target, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstat(at, &st)
	unix.Close(at)
	if err != nil {
		return os.NewSyscallError("fstat", err)
	}
	source := b.empty[1]
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		source = b.empty[0]
	}
	fd, err := unix.OpenTree(source, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(fd)
	if err := setAttributes(fd, attributes(Step{NoExec: true})); err != nil {
		return err
	}
	return place(b.root, fd, target)
}

// pivot makes the tree at root the root and lets the old one go. With both
// arguments ".", the old root is stacked on the new one, so that no folder is
// needed to hold it (pivot_root(2), "pivot_root(".", ".")").
func pivot(root int) error {
	if err := unix.Fchdir(root); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount2", err)
	}
	return nil
}

// StepError tells which step of the set-up could not be done.
type StepError struct {
	Step string
	Err  error
}

func (e *StepError) Error() string { return fmt.Sprintf("cannot %s: %v", e.Step, e.Err) }
func (e *StepError) Unwrap() error { return e.Err }

func stepError(step string, err error) error { return &StepError{Step: step, Err: err} }
