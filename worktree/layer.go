package worktree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// layerRules bound when a base is made from another one.
type layerRules struct {
	changed int // most paths that may differ
	share   int // and the most of all files, in percent
	floor   int // a base of fewer files is made in full: that takes no longer
	layers  int // most layers of a base
	look    int // how many bases, the last used first, are compared with the wanted tree
}

// A layer's costs are a git process that reads and writes the index, and a
// look-up in one more folder for every file that a task opens.
var defaultLayerRules = layerRules{changed: 5000, share: 10, floor: 1000, layers: 6, look: 3}

// errInFull says that there is nothing to begin with.
var errInFull = errors.New("no other base is close enough")

// fillFromOther makes a base from one of the last used.
//
// As long as that one has room for another layer, by a layer. When it has not,
// its bottom is changed into the new base, which has one layer then; but only
// if no task uses it or anything that stands on it, for those are gone then.
// Otherwise the layer is put on the bottom.
func (c *Cache) fillFromOther(ctx context.Context, j *baseJob, kin string) error {
	old, changed, err := c.closest(ctx, j, kin)
	if err != nil {
		return err
	}
	defer func() { old.Release() }()
	if len(old.entries) < c.rules.layers {
		return j.layer(ctx, c, old, changed)
	}
	bottom, err := c.openBase(ctx, old.entries[len(old.entries)-1].name())
	if err != nil || bottom == nil {
		return errInFull
	}
	old.Release()
	old = bottom
	if changed = c.difference(ctx, j, old); changed == nil {
		return errInFull
	}
	if len(old.entries) != 1 {
		return errInFull
	}
	old.startCheck(ctx, c, j.repo, j.spec)
	if err := old.ready(); err != nil {
		return errInFull
	}
	name, info := old.entries[0].name(), old.entries[0].baseInfo
	old.Release()
	taken, err := c.takeWithUsers(j, name, info.ID)
	if err != nil {
		return err
	}
	if taken != nil {
		return j.update(ctx, taken, info.Tree, changed)
	}
	if old, err = c.openBase(ctx, name); err != nil || old == nil {
		return errInFull
	}
	return j.layer(ctx, c, old, changed)
}

// closest is the base that differs least from the wanted tree, among the last
// used of its kin, and the paths that differ.
func (c *Cache) closest(ctx context.Context, j *baseJob, kin string) (*Base, map[string]bool, error) {
	type candidate struct {
		name    string
		used    time.Time
		base    *Base
		changed map[string]bool
	}
	var all []candidate
	names, _ := os.ReadDir(c.path(baseKind, ""))
	for _, e := range names {
		fi, err := os.Stat(filepath.Join(c.path(baseKind, e.Name()), lockName))
		if kinOf(e.Name()) == kin && err == nil && missing(filepath.Join(c.path(baseKind, e.Name()), damagedName)) {
			all = append(all, candidate{name: e.Name(), used: fi.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return b.used.Compare(a.used) })
	all = all[:min(len(all), c.rules.look)]
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			a := &all[i]
			if a.base, _ = c.openBase(ctx, a.name); a.base != nil {
				a.changed = c.difference(ctx, j, a.base)
			}
		})
	}
	wg.Wait()
	best := -1
	for i := range all {
		if all[i].changed != nil && (best < 0 || len(all[i].changed) < len(all[best].changed)) {
			best = i
		}
	}
	for i := range all {
		if i != best {
			all[i].base.Release()
		}
	}
	if best < 0 {
		return nil, nil, errInFull
	}
	return all[best].base, all[best].changed, nil
}

// difference lists the paths that differ between a base and the wanted tree;
// nil when they are too many, or when a .gitattributes file is among them: then
// files whose blobs are the same may have to be written otherwise.
func (c *Cache) difference(ctx context.Context, j *baseJob, b *Base) map[string]bool {
	most := min(c.rules.changed, b.Files*c.rules.share/100)
	if b.Files < c.rules.floor {
		return nil
	}
	out, err := j.repo.run(ctx, "diff-tree", "-r", "--raw", "--no-renames", "-z", b.Tree, j.spec.Tree)
	if err != nil {
		return nil // the old tree may have been pruned
	}
	list := splitNul(out) // ":<modes, ids, letter>", path, …
	if len(list)%2 != 0 || len(list)/2 > most {
		return nil
	}
	changed := map[string]bool{}
	for i := 0; i < len(list); i += 2 {
		if !strings.HasPrefix(list[i], ":") || path.Base(list[i+1]) == ".gitattributes" {
			return nil
		}
		changed[list[i+1]] = true
	}
	return changed
}

// layer makes the base as a layer on old: git changes the files in an overlay
// and what it has written there, whiteouts included, is the layer.
func (j *baseJob) layer(ctx context.Context, c *Cache, old *Base, changed map[string]bool) error {
	began := time.Now()
	old.startCheck(ctx, c, j.repo, j.spec)
	mounts, err := j.prepare()
	if err != nil {
		return err
	}
	if err := copyFile(old.Index, filepath.Join(j.dir, workGit, "index")); err != nil {
		return fmt.Errorf("cannot make a base: %w", err)
	}
	for _, dir := range []string{"", "/upper", "/work"} {
		if err := os.Mkdir(filepath.Join(j.dir, workLayer+dir), 0o755); err != nil {
			return fmt.Errorf("cannot make a base: %w", err)
		}
	}
	mounts = append(mounts, Mount{
		Target: j.repo.Path, Lower: layersOf(old.Layers, j.spec.MapOwner),
		Upper: filepath.Join(j.dir, workLayer), Writable: true, MapOwner: j.spec.MapOwner,
	})
	if err := j.run(ctx, mounts, "read-tree", "-v", "-m", "-u", old.Tree, j.spec.Tree); err != nil {
		return err
	}
	if err := old.ready(); err != nil {
		return err
	}
	var lower []lowerBase
	for _, e := range old.entries {
		lower = append(lower, lowerBase{Name: e.name(), ID: e.ID})
	}
	return j.finish(workLayer+"/upper", began, changed, lower)
}

// update makes the base of one that is nobody else's any more.
func (j *baseJob) update(ctx context.Context, old *held, oldTree string, changed map[string]bool) error {
	began := time.Now()
	mounts, err := j.prepare()
	if err == nil {
		err = os.Rename(old.files(), filepath.Join(j.dir, workFiles))
	}
	if err == nil {
		// A copy: other folders may have links to the file.
		err = copyFile(filepath.Join(old.dir, baseIndexName), filepath.Join(j.dir, workGit, "index"))
	}
	if err = errors.Join(err, old.drop()); err != nil {
		return fmt.Errorf("cannot make a base of another: %w", err)
	}
	mounts = append(mounts, Mount{Source: filepath.Join(j.dir, workFiles), Target: j.repo.Path, Writable: true, MapOwner: j.spec.MapOwner})
	if err := j.run(ctx, mounts, "read-tree", "-v", "-m", "-u", oldTree, j.spec.Tree); err != nil {
		return err
	}
	return j.finish(workFiles, began, changed, nil)
}

// takeWithUsers claims a base and all that stand on it, removes those, and
// retires the base: whatever happens now, it is not found as what it was. nil
// when anybody uses one of them.
func (c *Cache) takeWithUsers(j *baseJob, name, id string) (taken *held, err error) {
	var all []*held
	defer func() {
		for _, h := range all {
			h.release()
		}
	}()
	var layers []string
	entries, err := os.ReadDir(c.path(baseKind, ""))
	if err != nil {
		return nil, fmt.Errorf("cannot list the cache: %w", err)
	}
	for _, e := range entries {
		var info baseEntry
		info.held = &held{dir: c.path(baseKind, e.Name())}
		if strings.HasPrefix(e.Name(), ".") || info.readInfo() != nil {
			continue
		}
		if e.Name() != name && !slices.ContainsFunc(info.Lower, func(l lowerBase) bool { return l.Name == name }) {
			continue
		}
		h := c.claim(baseKind, e.Name())
		if h == nil {
			return nil, nil
		}
		layers = append(layers, h.files())
		// What was read before it was claimed may be of an entry that is gone.
		if err := info.readInfo(); err != nil {
			h.release()
			return nil, nil
		}
		if e.Name() == name && info.ID == id {
			all = append([]*held{h}, all...)
		} else {
			all = append(all, h)
		}
	}
	if len(all) == 0 || all[0].dir != c.path(baseKind, name) {
		return nil, nil
	}
	if free, err := j.spec.free(layers...); err != nil || !free {
		return nil, err
	}
	for len(all) > 0 {
		last := all[len(all)-1]
		if err := c.retire(baseKind, last); err != nil {
			return nil, err
		}
		all = all[:len(all)-1]
		if len(all) == 0 {
			return last, nil
		}
		if err := last.drop(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return copyKeepingTime(in, to)
}
