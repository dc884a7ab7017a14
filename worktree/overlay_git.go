package worktree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// gitLayer gives the layer with what private git directories of one base, and
// of the same refs and settings, have in common. The index is the base's own: a
// task that has to write one gets its copy then.
func (c *Cache) gitLayer(ctx context.Context, d *gitDir, index string) (*held, error) {
	mark, err := markOf(index)
	if err != nil {
		return nil, fmt.Errorf("cannot read the base's index: %w", err)
	}
	// Nothing is forced to the disk: what was made before a restart of the
	// machine is not believed.
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	fill := func(dir string) error { return d.writeLayer(dir, index) }
	return c.soundEntry(ctx, gitKind, d.key(fmt.Sprint(mark, boot)), fill, (*held).intact)
}

// writeLayer makes the entry of a git layer.
func (d *gitDir) writeLayer(dir, index string) error {
	if err := os.Mkdir(filepath.Join(dir, layerName), 0o755); err != nil {
		return fmt.Errorf("cannot make a git directory: %w", err)
	}
	git := filepath.Join(dir, layerName, ".git")
	if err := d.write(git); err != nil {
		return err
	}
	if err := linkOrCopy(index, filepath.Join(git, "index")); err != nil {
		return err
	}
	return writeMarks(dir)
}

// key names all that write would write, and what the caller says of the index.
func (d *gitDir) key(index string) string {
	h := sha256.New()
	part := func(b []byte) { fmt.Fprintf(h, "%d:", len(b)); h.Write(b) }
	part([]byte("git layer 1"))
	part([]byte(index))
	part([]byte(d.config))
	part(alternatesFile(d.alternates))
	part(d.shallow)
	part(d.exclude)
	part(d.packedRefs)
	for _, files := range []map[string]string{d.refs, d.more} {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			part([]byte(name + " " + files[name]))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// linkOrCopy gives a file that will not change a second name. There is a bound
// on the names of a file (link(2), EMLINK).
func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	if err := copyFile(from, to); err != nil {
		return fmt.Errorf("cannot copy the base's index: %w", err)
	}
	return nil
}
