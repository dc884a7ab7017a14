package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// In the task's folder: an overlay tree's writable layer, and what the kernel
// needs beside it.
const (
	upperName  = ownName + "/upper"
	kernelName = ownName + "/work"
)

func (t *Tree) overlay() bool { return t.Kind == KindOverlay }

// top is the folder on the host that the agent sees as the top of its tree.
func (t *Tree) top() string {
	if t.overlay() {
		return t.path(upperName)
	}
	return t.path(treeName)
}

// lentFile is the list of the refs that the agent was given.
func (t *Tree) lentFile() string {
	if t.overlay() {
		return filepath.Join(t.Lower[0], ".git", "packed-refs")
	}
	return t.path(refsName)
}

// carryGone tells whether an overlay's layer of carried files is lost.
func (t *Tree) carryGone() bool {
	there := func(dir string) bool {
		return filepath.Base(filepath.Dir(filepath.Dir(dir))) == carryKind && !missing(dir)
	}
	return t.overlay() && len(t.Carried) > 0 && !slices.ContainsFunc(t.Lower, there)
}

// harvestLayers are the mounts that show the harvester an overlay tree: all of
// it, read-only, and the upper layer by itself.
func (t *Tree) harvestLayers(ctx context.Context, r *Repo) ([]Mount, error) {
	layers := []Layer{{Dir: t.path(upperName)}}
	for _, dir := range t.Lower {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			layers = append(layers, Layer{Dir: dir, MapOwner: t.MapLower})
		}
	}
	if len(layers) <= len(t.Lower) {
		dir, err := t.writeRules(ctx, r)
		if err != nil {
			return nil, err
		}
		layers = append(layers, Layer{Dir: dir})
	}
	return []Mount{{Target: t.Path, Lower: layers}, {Source: t.path(upperName), Target: insideUpper}}, nil
}

// writeRules makes a layer for a tree one of whose own is gone: the files by
// which git decides what is ignored and how files are converted. The rest of
// what the layers had is known from the git tree.
func (t *Tree) writeRules(ctx context.Context, r *Repo) (string, error) {
	dir := filepath.Join(t.path(harvestName), "rules")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("cannot make the harvest's folder: %w", err)
	}
	list, err := r.run(ctx, "ls-tree", "-r", "-z", "--full-tree", t.LowerTree)
	if err != nil {
		return "", fmt.Errorf("cannot list the tree's files: %w", err)
	}
	objects, err := openObjects(ctx, r.git, call{dir: r.dir()})
	if err != nil {
		return "", err
	}
	defer objects.close()
	for _, item := range splitNul(list) {
		meta, p, _ := strings.Cut(item, "\t")
		f := strings.Fields(meta) // mode, type, id
		if name := path.Base(p); len(f) != 3 || !strings.HasPrefix(f[0], "100") || name != ".gitignore" && name != ".gitattributes" {
			continue
		}
		data, err := objects.read(f[2], "blob")
		if err != nil {
			return "", err
		}
		if err := writeBeneath(dir, p, data); err != nil {
			return "", fmt.Errorf("cannot make the harvest's folder: %w", err)
		}
	}
	return dir, t.giveAway(dir)
}

// writeBeneath writes a new file of a repository's into a folder of ours. A name
// that leads out of it is an error (os.Root).
func writeBeneath(dir, p string, data []byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll(path.Dir(p), 0o755); err != nil {
		return err
	}
	return root.WriteFile(p, data, 0o644)
}
