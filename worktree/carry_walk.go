package worktree

import (
	"cmp"
	"context"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// collect lists what is at and below the roots, without what is tracked. git
// lists that in the meantime.
func (f *carryFinder) collect(c *Carried, tree string, roots []string) error {
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	var tracked *trackedPaths
	done := make(chan error, 1)
	go func() {
		var err error
		tracked, err = f.r.trackedAt(ctx, tree, roots)
		done <- err
	}()
	began := time.Now()
	tops := f.lookAt(roots)
	err := f.walk(ctx, tops)
	if err = errors.Join(err, <-done); err != nil {
		return err
	}
	kept := f.untracked(tops, tracked)
	c.tree = &carriedDir{mode: 0o755}
	for i := range kept {
		f.noteLink(&kept[i])
		f.graft(c, &kept[i])
	}
	slices.Sort(c.Paths)
	c.count(c.tree, began)
	return nil
}

// carriedTop is what stands at a root: a folder, or a file.
type carriedTop struct {
	path string
	dir  *carriedDir // nil: a file
	file carriedFile
}

func (f *carryFinder) lookAt(roots []string) []carriedTop {
	var tops []carriedTop
	for _, root := range roots {
		parent, err := openBeneath(f.root, path.Dir(root))
		if err != nil {
			continue // gone since
		}
		dir, file, ok := f.look(parent, path.Dir(root), dirent{name: path.Base(root)})
		unix.Close(parent)
		if !ok {
			continue
		}
		top := carriedTop{path: root, dir: dir}
		if file != nil {
			top.file = *file
		}
		tops = append(tops, top)
	}
	return tops
}

// noteLink tells of a root that is a link out of the checkout: it goes along as
// a link, and inside there may be nothing where it leads.
func (f *carryFinder) noteLink(t *carriedTop) {
	if t.dir != nil || t.file.mode&unix.S_IFMT != unix.S_IFLNK {
		return
	}
	buf := make([]byte, longest+1)
	n, err := unix.Readlinkat(f.root, t.path, buf)
	if err != nil {
		return
	}
	to := string(buf[:n])
	if !filepath.IsAbs(to) {
		to = filepath.Join(f.r.Top, filepath.Dir(t.path), to)
	}
	if to = filepath.Clean(to); to != f.r.Top && !strings.HasPrefix(to, strings.TrimSuffix(f.r.Top, "/")+"/") {
		f.note("carried along as a symbolic link, it leads out of the checkout: %s", quotePath(t.path))
	}
}

// walk fills the folders, all cores at it.
func (f *carryFinder) walk(ctx context.Context, tops []carriedTop) error {
	var first []*carriedDir
	for _, t := range tops {
		if t.dir != nil {
			first = append(first, t.dir)
		}
	}
	return workOff(ctx, first, func(d *carriedDir, add func(...*carriedDir)) error {
		fd, err := openBeneath(f.root, d.path)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return nil // gone since
		case err != nil:
			f.note("not carried along, it cannot be read (%v): %s", err, quotePath(d.path))
			return nil
		}
		defer unix.Close(fd)
		entries, err := readFolder(fd)
		if err != nil {
			f.note("not carried along in whole, it cannot be read (%v): %s", err, quotePath(d.path))
		}
		slices.SortFunc(entries, func(a, b dirent) int { return cmp.Compare(a.name, b.name) })
		d.files = make([]carriedFile, 0, len(entries))
		for _, e := range entries {
			dir, file, ok := f.look(fd, d.path, e)
			switch {
			case !ok:
			case dir != nil:
				d.dirs = append(d.dirs, dir)
			default:
				d.files = append(d.files, *file)
			}
		}
		add(d.dirs...)
		return nil
	})
}

// look asks for one entry of a folder. ok is false for what is not carried.
func (f *carryFinder) look(fd int, dir string, e dirent) (*carriedDir, *carriedFile, bool) {
	at := path.Join(dir, e.name)
	if len(at) > longest {
		f.note("not carried along, its path is longer than %d bytes: %s", longest, quotePath(at))
		return nil, nil, false
	}
	if len(e.name) >= 4 && isDotGit(e.name) {
		f.note("carried along without its history, it is a repository of its own: %s", quotePath(dir))
		return nil, nil, false
	}
	var st unix.Stat_t
	if err := unix.Fstatat(fd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if !errors.Is(err, unix.ENOENT) {
			f.note("not carried along, it cannot be read (%v): %s", err, quotePath(at))
		}
		return nil, nil, false
	}
	what := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return &carriedDir{path: at, name: e.name, mode: st.Mode & 0o1777, mtime: st.Mtim}, nil, true
	case unix.S_IFREG:
		if st.Mode&0o400 == 0 || int(st.Uid) != unix.Geteuid() {
			if err := unix.Faccessat(fd, e.name, unix.R_OK, 0); err != nil {
				f.note("not carried along, it cannot be read (%v): %s", err, quotePath(at))
				return nil, nil, false
			}
		}
		fallthrough
	case unix.S_IFLNK:
		return nil, &carriedFile{name: e.name, mode: st.Mode, uid: st.Uid, gid: st.Gid, size: st.Size, ino: st.Ino, mtime: st.Mtim}, true
	case unix.S_IFIFO:
		what = "a pipe"
	case unix.S_IFSOCK:
		what = "a socket"
	default:
		what = "a device"
	}
	f.note("not carried along, it is %s: %s", what, quotePath(at))
	return nil, nil, false
}

// graft puts a root in its place in the tree, with the folders that lead to it.
func (f *carryFinder) graft(c *Carried, t *carriedTop) {
	d := c.tree
	for i := range len(t.path) {
		if t.path[i] != '/' {
			continue
		}
		// The roots come in an order in which a folder's are together.
		at := t.path[:i]
		if n := len(d.dirs); n > 0 && d.dirs[n-1].path == at {
			d = d.dirs[n-1]
			continue
		}
		sub := &carriedDir{path: at, name: path.Base(at), mode: 0o755}
		var st unix.Stat_t
		if unix.Fstatat(f.root, at, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			sub.mode, sub.mtime = st.Mode&0o1777, st.Mtim
		}
		d.dirs = append(d.dirs, sub)
		d = sub
	}
	if t.dir != nil {
		d.dirs = append(d.dirs, t.dir)
	} else {
		d.files = append(d.files, t.file)
	}
	c.Paths = append(c.Paths, t.path)
}

// count adds up what is below d, and says whether any of it is younger than the
// clock that its time comes from can tell: a tick of the kernel, which is 10 ms
// at most, or 2 s where times are whole seconds.
func (c *Carried) count(d *carriedDir, began time.Time) {
	c.Files += len(d.files)
	for i := range d.files {
		e := &d.files[i]
		c.Bytes += e.size
		young := 20 * time.Millisecond
		if e.mtime.Nsec == 0 {
			young = 2 * time.Second
		}
		if age := began.Sub(time.Unix(e.mtime.Unix())); age < young && age > -time.Hour {
			c.racy = began.UnixNano()
		}
	}
	for _, sub := range d.dirs {
		c.count(sub, began)
	}
}
