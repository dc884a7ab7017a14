package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	linkedName = "linked" // which of its files are the checkout's own; see CarryChanged
)

// linkAbove is the size in bytes from which a file is linked and not copied.
// Build tools write small files of state in place; large ones are results, and
// those are replaced by new files.
const linkAbove = 64 << 10

// write makes the layer: a folder "files" in dir, which exists and is ours, and
// beside it the list for CarryChanged. All of the layer belongs to the caller.
//
// Nothing large is copied: such a file is the checkout's own inode under
// another name, link(2). Neither the agent, to whom the layer is read-only, nor
// rcc writes to it. Copies of small files share their blocks with the original
// where the file system can, ioctl_ficlonerange(2).
func (c *Carried) write(ctx context.Context, dir string) error {
	files := filepath.Join(dir, layerName)
	if err := os.Mkdir(files, 0o700); err != nil {
		return fmt.Errorf("cannot make a layer of carried files: %w", err)
	}
	w := &carryWriter{link: true, uid: -1, gid: -1}
	if err := w.run(ctx, c, files); err != nil {
		return fmt.Errorf("cannot make a layer of carried files: %w", err)
	}
	if err := os.Chmod(files, 0o755); err != nil {
		return fmt.Errorf("cannot make a layer of carried files: %w", err)
	}
	slices.SortFunc(w.linked, func(a, b linkedFile) int { return cmp.Compare(a.path, b.path) })
	return writeLinked(filepath.Join(dir, linkedName), w.linked)
}

// CopyInto puts the carried files into dir, a tree of the other kind: as files
// of its own, that the agent may write. They belong to uid and gid where those
// are not -1. A file that is there already stays.
func (c *Carried) CopyInto(dir string, uid, gid int) error {
	w := &carryWriter{keep: true, uid: uid, gid: gid}
	if err := w.run(context.Background(), c, dir); err != nil {
		return fmt.Errorf("cannot carry files along: %w", err)
	}
	return nil
}

// carryWriter makes the same tree of files elsewhere.
type carryWriter struct {
	src, dst int  // descriptors of the two top folders
	link     bool // large files are linked
	keep     bool // what stands at the destination stays
	uid, gid int

	noClone atomic.Bool // the file system cannot share blocks
	mu      sync.Mutex
	linked  []linkedFile
}

// carryJob is some files of a folder, or, without files, to make the folder.
type carryJob struct {
	to    *madeDir
	files []carriedFile
}

// madeDir is a folder at the destination. Its mode and times are set when all
// that is below it is there: a folder may be read-only, and each new name in it
// changes its time.
type madeDir struct {
	*carriedDir
	parent *madeDir
	open   atomic.Int64 // jobs and folders in it that are not done
	ours   bool         // made here
}

func (w *carryWriter) run(ctx context.Context, c *Carried, dst string) error {
	if c == nil || c.tree == nil {
		return nil
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	var err error
	if w.src, err = unix.Open(c.top, flags, 0); err != nil {
		return &os.PathError{Op: "open", Path: c.top, Err: err}
	}
	defer unix.Close(w.src)
	if w.dst, err = unix.Open(dst, flags|unix.O_NOFOLLOW, 0); err != nil {
		return &os.PathError{Op: "open", Path: dst, Err: err}
	}
	defer unix.Close(w.dst)
	top := &madeDir{carriedDir: c.tree}
	top.open.Store(1)
	return workOff(ctx, []carryJob{{to: top}}, func(j carryJob, add func(...carryJob)) error {
		if err := w.do(j, add); err != nil {
			return fmt.Errorf("%s: %w", quotePath(j.to.path), err)
		}
		return w.done(j.to)
	})
}

func (w *carryWriter) do(j carryJob, add func(...carryJob)) error {
	if j.files != nil {
		return w.fill(j)
	}
	if j.to.parent != nil {
		if err := w.mkdir(j.to); err != nil {
			return err
		}
	}
	w.spread(j.to, add)
	return nil
}

// spread adds the jobs of a folder that is there now.
func (w *carryWriter) spread(d *madeDir, add func(...carryJob)) {
	const share = 128
	var jobs []carryJob
	for _, sub := range d.dirs {
		to := &madeDir{carriedDir: sub, parent: d}
		to.open.Store(1)
		jobs = append(jobs, carryJob{to: to})
	}
	for files := range slices.Chunk(d.files, share) {
		jobs = append(jobs, carryJob{to: d, files: files})
	}
	d.open.Add(int64(len(jobs)))
	add(jobs...)
}

func (w *carryWriter) mkdir(d *madeDir) error {
	parent, err := openBeneath(w.dst, d.parent.path)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	switch err := unix.Mkdirat(parent, d.name, 0o700); {
	case err == nil:
		d.ours = true
		return nil
	case err == unix.EEXIST && w.keep:
		var st unix.Stat_t
		if err := unix.Fstatat(parent, d.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return unix.ENOTDIR
		}
		return nil
	default:
		return err
	}
}

// done takes note that a job of a folder is over; the last one finishes the
// folder, and that is one thing less to do in its parent.
func (w *carryWriter) done(d *madeDir) error {
	for ; d != nil && d.open.Add(-1) == 0; d = d.parent {
		if !d.ours {
			continue
		}
		if err := w.finish(d); err != nil {
			return fmt.Errorf("%s: %w", quotePath(d.path), err)
		}
	}
	return nil
}

func (w *carryWriter) finish(d *madeDir) error {
	fd, err := openBeneath(w.dst, d.path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if w.uid >= 0 || w.gid >= 0 {
		if err := unix.Fchown(fd, w.uid, w.gid); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, d.mode); err != nil {
		return err
	}
	return w.setTimes(fd, ".", d.mtime)
}

// setTimes gives a file its time of change; the time of access is the same.
func (w *carryWriter) setTimes(dir int, name string, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// fill writes some files of a folder.
func (w *carryWriter) fill(j carryJob) error {
	src, err := openBeneath(w.src, j.to.path)
	if err = source(err); err == errGone {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := openBeneath(w.dst, j.to.path)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	for i := range j.files {
		p := &carryPair{w: w, src: src, dst: dst, dir: j.to.path, e: &j.files[i]}
		if err := p.make(); err != nil && err != errGone {
			return fmt.Errorf("%s: %w", quotePath(p.e.name), err)
		}
	}
	return nil
}

// errGone says that a file of the checkout was removed, or replaced by one of
// another kind, since it was listed, or cannot be read: the snapshot is without it.
var errGone = errors.New("it is gone")

// source turns an error of looking up a name in the checkout into errGone when
// it says so. ENXIO is a socket's, open(2).
func source(err error) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENXIO, unix.EACCES, unix.EPERM:
		return errGone
	}
	return err
}
