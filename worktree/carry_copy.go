package worktree

import (
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// carryPair is a file of the checkout and its counterpart at the destination.
type carryPair struct {
	w        *carryWriter
	src, dst int    // the folders
	dir      string // their path
	e        *carriedFile
}

func (p *carryPair) make() error {
	if p.e.mode&unix.S_IFMT == unix.S_IFLNK {
		return p.symlink()
	}
	if p.w.link && p.e.size > linkAbove {
		if done, err := p.hardlink(); done || err != nil {
			return err
		}
	}
	return p.copy()
}

func (p *carryPair) symlink() error {
	buf := make([]byte, longest+1)
	n, err := unix.Readlinkat(p.src, p.e.name, buf)
	if err == unix.EINVAL { // no link any more
		return errGone
	}
	if err != nil {
		return source(err)
	}
	if err := unix.Symlinkat(string(buf[:n]), p.dst, p.e.name); err != nil {
		if err == unix.EEXIST && p.w.keep {
			return nil
		}
		return err
	}
	if p.w.uid >= 0 || p.w.gid >= 0 {
		if err := unix.Fchownat(p.dst, p.e.name, p.w.uid, p.w.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return p.w.setTimes(p.dst, p.e.name, p.e.mtime)
}

// hardlink gives the file a second name in the layer, and takes it back where
// that file would not do. It says false where a copy is needed: on another file
// system (EXDEV), with too many names (EMLINK), or where it is not allowed
// (EPERM: an immutable file, a file system without links, fs.protected_hardlinks
// in proc_sys_fs(5)).
func (p *carryPair) hardlink() (bool, error) {
	if unix.Linkat(p.src, p.e.name, p.dst, p.e.name, 0) != nil {
		return false, nil
	}
	var st unix.Stat_t
	err := unix.Fstatat(p.dst, p.e.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && p.linkable(&st) {
		p.w.mu.Lock()
		p.w.linked = append(p.w.linked, linkedFile{path.Join(p.dir, p.e.name), st.Size, st.Mtim})
		p.w.mu.Unlock()
		return true, nil
	}
	if err == nil {
		err = unix.Unlinkat(p.dst, p.e.name, 0)
	}
	return false, err
}

// linkable says whether the file itself may be in the layer. One of another
// owner or group has none inside, where only the caller's are mapped, and
// cannot be copied up there.
func (p *carryPair) linkable(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 &&
		int(st.Uid) == unix.Geteuid() && int(st.Gid) == unix.Getegid() && !p.marked()
}

// marked says whether the linked file has attributes that mean something to
// overlayfs (Documentation/filesystems/overlayfs.rst of Linux, userxattr) or
// give privileges to a program (capabilities(7)).
func (p *carryPair) marked() bool {
	buf := make([]byte, 64<<10) // the most there can be: XATTR_LIST_MAX in xattr(7)
	n, err := unix.Llistxattr("/proc/self/fd/"+strconv.Itoa(p.dst)+"/"+p.e.name, buf)
	if err != nil {
		return err != unix.EOPNOTSUPP
	}
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if strings.HasPrefix(name, "user.overlay.") || strings.HasPrefix(name, "trusted.overlay.") || name == "security.capability" {
			return true
		}
	}
	return false
}

func (p *carryPair) copy() error {
	const flags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	in, err := unix.Openat(p.src, p.e.name, unix.O_RDONLY|flags, 0)
	if err != nil {
		return source(err)
	}
	defer unix.Close(in)
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errGone
	}
	out, err := unix.Openat(p.dst, p.e.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|flags, 0o600)
	if err == unix.EEXIST && p.w.keep {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(out)
	if err := p.content(in, out, &st); err != nil {
		return err
	}
	if p.w.uid >= 0 || p.w.gid >= 0 {
		if err := unix.Fchown(out, p.w.uid, p.w.gid); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(out, st.Mode&0o777); err != nil {
		return err
	}
	return p.w.setTimes(p.dst, p.e.name, st.Mtim)
}

// content copies until the original did not change meanwhile, three times at
// most: what is written all the time has no state worth waiting for.
func (p *carryPair) content(in, out int, st *unix.Stat_t) error {
	for try := 1; ; try++ {
		if err := p.once(in, out, st.Size); err != nil {
			return err
		}
		before := *st
		if err := unix.Fstat(in, st); err != nil {
			return err
		}
		if try == 3 || st.Size == before.Size && st.Mtim == before.Mtim {
			return nil
		}
		if err := unix.Ftruncate(out, 0); err != nil {
			return err
		}
	}
}

func (p *carryPair) once(in, out int, size int64) error {
	if size == 0 {
		return nil
	}
	if !p.w.noClone.Load() {
		if unix.IoctlFileClone(out, in) == nil {
			return nil
		}
		p.w.noClone.Store(true)
	}
	done := int64(0)
	// For a file that fits the buffer two calls are all it takes.
	for size > linkAbove {
		from, to := done, done
		n, err := unix.CopyFileRange(in, &from, out, &to, 1<<30, 0)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EIO {
			return err
		}
		if n <= 0 {
			break // the end, or it cannot be done here: the rest is read and written
		}
		done += int64(n)
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, err := preadFull(in, *buf, done)
		if err != nil {
			return err
		}
		if err := pwriteAll(out, (*buf)[:n], done); err != nil {
			return err
		}
		if done += int64(n); n < len(*buf) {
			return nil
		}
	}
}

// preadFull reads until the buffer is full or the file is over.
func preadFull(fd int, buf []byte, at int64) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := unix.Pread(fd, buf[n:], at+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		}
		n += m
	}
	return n, nil
}

func pwriteAll(fd int, buf []byte, at int64) error {
	for len(buf) > 0 {
		n, err := unix.Pwrite(fd, buf, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		buf, at = buf[n:], at+int64(n)
	}
	return nil
}
