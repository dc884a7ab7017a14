package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// What the entry of a base holds besides the layer and the lock.
const (
	baseIndexName = "index"
	manifestName  = "manifest"
	infoName      = "base.json"
	damagedName   = "damaged" // there when the base must not be used any more; says why
)

// baseInfo is what is known of a base: base.json, written last.
type baseInfo struct {
	ID     string // random: tells an entry from one made later under its name
	Tree   string
	Commit string // for which it was made
	Lower  []lowerBase
	Files  int // in the tree
	Own    layerSize
	Made   time.Time
	Boot   string // in which it was made or its content last checked
	Index  fileMark
	Sum    uint32 // CRC-32C of the manifest
}

// lowerBase is an entry that another stands on.
type lowerBase struct{ Name, ID string }

// fileMark tells whether a file is still the same. The time of the last change
// of status is not in it: the index is linked into other folders.
type fileMark struct {
	Inode uint64
	Size  int64
	Mtime int64 // nanoseconds
}

func markOf(path string) (fileMark, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fileMark{}, err
	}
	return fileMark{Inode: st.Ino, Size: st.Size, Mtime: unix.TimespecToNsec(st.Mtim)}, nil
}

// baseEntry is a held entry.
type baseEntry struct {
	*held
	baseInfo
}

func (e *baseEntry) path(name string) string { return filepath.Join(e.dir, name) }

func (e *baseEntry) name() string { return filepath.Base(e.dir) }

func (e *baseEntry) damaged(format string, args ...any) error {
	return &DamagedError{Dir: e.dir, What: fmt.Sprintf(format, args...), name: e.name()}
}

// openBaseEntry holds an entry and reads what is known of it; nil when there
// is none or it was set aside.
func (c *Cache) openBaseEntry(ctx context.Context, name string) (*baseEntry, error) {
	h, err := c.hold(ctx, baseKind, name)
	if h == nil || err != nil {
		return nil, err
	}
	e := &baseEntry{held: h}
	if !missing(e.path(damagedName)) {
		e.release()
		return nil, nil
	}
	if err := e.readInfo(); err != nil {
		e.release()
		return nil, e.damaged("%v", err)
	}
	return e, nil
}

func (e *baseEntry) readInfo() error {
	data, err := os.ReadFile(e.path(infoName))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &e.baseInfo); err != nil {
		return fmt.Errorf("its %s cannot be read: %w", infoName, err)
	}
	return nil
}

func (e *baseEntry) writeInfo() error {
	data, err := json.Marshal(e.baseInfo)
	if err != nil {
		return err
	}
	temp := e.path(infoName + "." + randomName())
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", infoName, err), removeIfThere(temp))
	}
	if err := os.Rename(temp, e.path(infoName)); err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", infoName, err), removeIfThere(temp))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// check compares the entry with what was written down when it was made. names
// is called as soon as it is known that no file was added, removed or renamed.
func (e *baseEntry) check(ctx context.Context, names func()) error {
	mark, err := markOf(e.path(baseIndexName))
	if err != nil || mark != e.Index {
		return e.damaged("its index was changed")
	}
	list, err := os.ReadFile(e.path(manifestName))
	if err != nil || crc32.Checksum(list, crcTable) != e.Sum {
		return e.damaged("its list of files was changed")
	}
	root, err := os.Open(e.files())
	if err != nil {
		return e.damaged("%v", err)
	}
	defer root.Close()
	folders, err := parseManifest(list)
	if err == nil {
		err = checkFolders(root, folders)
	}
	if err == nil {
		names()
		err = e.checkFiles(ctx, root, folders)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return e.damaged("%v", err)
	}
	return nil
}

// A look at every file of a large base takes longer than all else that a task
// begins with. It is no part of that, then, but goes on beside the task, on one
// core that nobody else wants, and not more than once in a while.
var (
	large    = 10_000      // files; less in tests
	recently = time.Minute // more in tests
)

const (
	seenName  = "seen" // a file: when all files were looked at last
	leastNice = 19     // setpriority(2)
)

func (e *baseEntry) checkFiles(ctx context.Context, root *os.File, folders [][]byte) error {
	if e.Own.Files <= large {
		return checkFiles(root, folders)
	}
	if fi, err := os.Stat(e.path(seenName)); err == nil && time.Since(fi.ModTime()).Abs() < recently {
		return nil
	}
	done := make(chan error)
	go func() {
		// The thread ends with the goroutine, which stays locked to it; it cannot
		// be made less nice again.
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), leastNice)
		for _, f := range folders {
			err := ctx.Err()
			if err == nil {
				err = checkFolder(int(root.Fd()), f)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	if err := <-done; err != nil {
		return err
	}
	// A base whose time cannot be noted is looked at again.
	_ = os.WriteFile(e.path(seenName), nil, 0o600)
	return nil
}

// checkContent has git read every file of the base and compare it with the
// tree: with an index that knows nothing of when files were changed.
func (b *Base) checkContent(ctx context.Context, c *Cache, r *Repo, spec BaseSpec) error {
	tmp, err := c.newFolder(ctx, baseKind)
	if err != nil {
		return err
	}
	defer func() { _ = tmp.drop() }() // what stays is a left-over for the next maker
	j := &baseJob{repo: r, spec: spec, dir: tmp.dir}
	mounts, err := j.prepare()
	if err != nil {
		return err
	}
	index, err := os.ReadFile(b.Index)
	if err == nil {
		_, err = indexEntries(index, r.Format, func(stat, _ []byte) { clear(stat[:16]) })
	}
	if err != nil {
		return b.entries[0].damaged("%v", err)
	}
	sealIndex(index, r.Format)
	if err := os.WriteFile(filepath.Join(tmp.dir, workGit, "index"), index, 0o644); err != nil {
		return fmt.Errorf("cannot check a base: %w", err)
	}
	// update-index --refresh ends with 1 when a file is not as the index says
	// (git-update-index(1)).
	err = j.run(ctx, append(mounts, treeMount(r, b, spec)), "update-index", "--refresh")
	var ge *GitError
	if errors.As(err, &ge) {
		return b.entries[0].damaged("after a restart of the machine its files are not what they were: %s", ge.Stderr)
	}
	return err
}

// treeMount shows a base, read-only, as the tree of a job.
func treeMount(r *Repo, b *Base, spec BaseSpec) Mount {
	if len(b.Layers) == 1 {
		return Mount{Source: b.Layers[0], Target: r.Path, MapOwner: spec.MapOwner}
	}
	return Mount{Target: r.Path, Lower: layersOf(b.Layers, spec.MapOwner)}
}

func layersOf(dirs []string, mapOwner bool) []Layer {
	var l []Layer
	for _, dir := range dirs {
		l = append(l, Layer{Dir: dir, MapOwner: mapOwner})
	}
	return l
}
