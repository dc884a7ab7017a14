package worktree

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"
)

// fillBase makes a base in j.dir: as a layer on another one, by changing
// another one, or in full. Whatever the first two cannot do, the last can.
func (c *Cache) fillBase(ctx context.Context, j *baseJob, kin string) error {
	if err := c.fillFromOther(ctx, j, kin); !errors.Is(err, errInFull) {
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := RemoveAll(filepath.Join(j.dir, workName)); err != nil {
			return err
		}
		if err := RemoveAll(filepath.Join(j.dir, layerName)); err != nil {
			return err
		}
	}
	return j.full(ctx)
}

// full makes a base of all files.
func (j *baseJob) full(ctx context.Context) error {
	began := time.Now()
	mounts, err := j.prepare()
	if err != nil {
		return err
	}
	files := filepath.Join(j.dir, workFiles)
	if err := os.Mkdir(files, 0o755); err != nil {
		return fmt.Errorf("cannot make a base: %w", err)
	}
	mounts = append(mounts, Mount{Source: files, Target: j.repo.Path, Writable: true, MapOwner: j.spec.MapOwner})
	if err := j.run(ctx, mounts, "read-tree", "-v", "--reset", "-u", j.spec.Tree); err != nil {
		return err
	}
	return j.finish(workFiles, began, nil, nil)
}

// finish makes of the files that git has written, and of its index, what an
// entry holds: only names the paths that were written, nil: all of them.
func (j *baseJob) finish(from string, began time.Time, only map[string]bool, lower []lowerBase) error {
	layer := filepath.Join(j.dir, layerName)
	// Before the list is made: a rename changes the folder's ctime.
	if err := os.Rename(filepath.Join(j.dir, from), layer); err != nil {
		return fmt.Errorf("cannot make a base: %w", err)
	}
	root, err := os.Open(layer)
	if err != nil {
		return fmt.Errorf("cannot make a base: %w", err)
	}
	defer root.Close()
	index, err := readPlain(filepath.Join(j.dir, workGit, "index"))
	if err != nil {
		return fmt.Errorf("cannot make a base: %w", err)
	}
	info := baseInfo{ID: randomName(), Tree: j.spec.Tree, Commit: j.spec.Commit, Lower: lower, Made: began.UTC().Truncate(time.Second)}
	if info.Files, err = settle(root, index, j.repo.Format, settled(began), only); err != nil {
		return fmt.Errorf("cannot make a base: %w", err)
	}
	if index, err = markedValid(index, j.repo.Format); err != nil {
		return fmt.Errorf("cannot make a base: %w", err)
	}
	// Before the list is made: all whiteouts of an overlay are links to one in
	// its work folder (fs/overlayfs/dir.c, ovl_whiteout), and removing a link is a
	// change of the others.
	if err := RemoveAll(filepath.Join(j.dir, workName)); err != nil {
		return err
	}
	list, size, err := writeManifest(root)
	if err != nil {
		return fmt.Errorf("cannot make a base: %w", err)
	}
	info.Own, info.Sum = size, crc32.Checksum(list, crcTable)
	for name, data := range map[string][]byte{baseIndexName: index, manifestName: list} {
		if err := os.WriteFile(filepath.Join(j.dir, name), data, 0o644); err != nil {
			return fmt.Errorf("cannot make a base: %w", err)
		}
		info.Own.Bytes += int64(len(data))
	}
	if info.Index, err = markOf(filepath.Join(j.dir, baseIndexName)); err != nil {
		return fmt.Errorf("cannot make a base: %w", err)
	}
	if info.Boot, err = bootID(); err != nil {
		return err
	}
	return (&baseEntry{held: &held{dir: j.dir}, baseInfo: info}).writeInfo()
}

// readPlain reads a file that a sandbox has written, if it is a plain one.
func readPlain(path string) ([]byte, error) {
	const most = 1 << 30
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > most {
		return nil, fmt.Errorf("%s is not a plain file of at most %d MiB", quotePath(path), most>>20)
	}
	return os.ReadFile(path)
}
