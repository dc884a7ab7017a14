package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rcc/isolate"
	"rcc/worktree"
)

// The kinds of trees that a user may ask for. With auto it is an overlay where
// there can be one, else a checkout.
const treeAuto = "auto"

var treeKinds = []string{treeAuto, worktree.KindOverlay, worktree.KindCheckout}

// defaultTree is the kind where neither a flag nor a configuration names one.
// Tests set it when they build.
var defaultTree = treeAuto

// cache is what the tasks of one repository share.
func (d dirs) cache(key string) *worktree.Cache {
	return worktree.OpenCache(filepath.Join(d.Cache, key))
}

// newTree makes a tree of the kind that was asked for.
func (s *session) newTree(ctx context.Context, spec worktree.TreeSpec) error {
	if s.rec.Kind == worktree.KindCheckout || s.rec.Kind == treeAuto && s.overlayRefused() {
		return s.prepareTree(ctx, spec)
	}
	err := s.newOverlay(ctx, spec, false)
	if err != nil && s.damaged() {
		err = s.standBetter(ctx)
	}
	if reason, auto := s.instead(err); auto {
		return s.fallBack(ctx, spec, reason)
	}
	return err
}

// prepareTree notes what a new tree starts from: with --dirty, each attempt makes
// a snapshot of its own.
func (s *session) prepareTree(ctx context.Context, spec worktree.TreeSpec) (err error) {
	if s.rec.Tree, err = s.repo.NewTree(ctx, spec); err != nil {
		return err
	}
	s.rec.Base, s.rec.Start = s.rec.Tree.Base, s.rec.Tree.Start
	s.tell(s.rec.Tree.Notes)
	return nil
}

// giveUpTree makes room for another attempt. Nothing has run in the tree.
func (s *session) giveUpTree() error {
	s.layers.Release()
	s.layers = nil
	if s.rec.Tree == nil {
		return nil
	}
	return s.rec.Tree.Remove()
}

// instead tells whether a task can go on with a checkout after an error.
func (s *session) instead(err error) (reason string, ok bool) {
	if err == nil || s.rec.Kind != treeAuto {
		return "", false
	}
	if noOverlay(err) || noCache(err) {
		return oneLine(err), true
	}
	return "", false
}

// noOverlay tells of an error that says that there is none to be had.
func noOverlay(err error) bool {
	var none *worktree.NoOverlayError
	return errors.As(err, &none) || isolate.NoOverlay(err)
}

// noCache tells of an error that says that a folder cannot be written to. A
// checkout may be possible then.
func noCache(err error) bool {
	return slices.ContainsFunc([]error{unix.EACCES, unix.EPERM, unix.EROFS, unix.ENOSPC, unix.EDQUOT, unix.ENOTDIR}, func(e error) bool { return errors.Is(err, e) })
}

// fallBack makes a checkout where an overlay could not be had, and says so. It is
// remembered, so that the next task neither tries nor says it again, when an
// overlay of two new folders cannot be had either.
func (s *session) fallBack(ctx context.Context, spec worktree.TreeSpec, reason string) error {
	s.tell([]string{"the tree is a checkout, which takes longer to make than an overlay: " + reason})
	if noOverlay(s.tryOverlay(ctx)) {
		s.rememberRefusal(reason)
	}
	if err := s.giveUpTree(); err != nil {
		return err
	}
	spec.On = nil
	return s.prepareTree(ctx, spec)
}

// newOverlay makes the layers that are not there yet, and the task's own.
func (s *session) newOverlay(ctx context.Context, spec worktree.TreeSpec, rebuild bool) error {
	layers, err := s.standOn(ctx, spec.Base, rebuild)
	if err != nil {
		return err
	}
	s.layers, spec.On = layers, layers
	if err := layers.Carry(ctx, spec.Carried); err != nil {
		return err
	}
	return s.prepareTree(ctx, spec)
}

// carry finds the ignored files of the checkout that go along, and says which.
func (s *session) carry(ctx context.Context) (*worktree.Carried, error) {
	c, err := s.repo.FindCarried(ctx, worktree.CarrySpec{Patterns: s.rec.Carry, Include: s.rec.Include, Tree: s.rec.Base})
	if c == nil || err != nil {
		return nil, err
	}
	s.tell(c.Notes)
	if len(c.Paths) > 0 {
		const most = 5
		shown := c.Paths[:min(len(c.Paths), most)]
		note := "carried along from the checkout: " + strings.Join(shown, ", ")
		if more := len(c.Paths) - len(shown); more > 0 {
			note += fmt.Sprintf(" and %d more", more)
		}
		s.tell([]string{note})
	}
	return c, nil
}

// tellChanges says which carried files the user wrote to while the task was
// there. Files that were replaced, as most are, the task did not see.
func (s *session) tellChanges() {
	for _, layer := range s.rec.Tree.Lower {
		changed, err := worktree.CarryChanged(layer)
		if err != nil {
			s.tell([]string{oneLine(err)})
		}
		for _, path := range changed[:min(len(changed), 10)] {
			s.tell([]string{"a carried file was written to in the checkout while the task was there, and the task may have seen some of it: " + path})
		}
	}
}

// damaged tells whether the base that the tree stands on, or was to stand on, is
// not as it was made.
func (s *session) damaged() bool {
	var damaged *worktree.DamagedError
	return errors.As(s.layers.Check(), &damaged)
}

// standBetter puts a tree whose base turned out to be damaged on a new one.
func (s *session) standBetter(ctx context.Context) error {
	if err := s.giveUpTree(); err != nil {
		return err
	}
	return s.newOverlay(ctx, s.spec, true)
}

// standOn finds or makes what an overlay of a commit stands on. What was found
// is still being checked, unless it is to be rebuilt.
func (s *session) standOn(ctx context.Context, commit string, rebuild bool) (*worktree.Layers, error) {
	tree := ""
	if s.sight != nil && s.sight.Commit == commit {
		tree = s.sight.Tree
	}
	if err := s.repo.CheckComplete(ctx, commit); err != nil {
		return nil, err
	}
	cache := s.env.dirs.cache(s.repo.Key())
	if !cache.HasBases() {
		// A base of a large repository takes seconds and a gigabyte. Where no
		// overlay can be mounted it would be for nothing.
		if err := s.tryOverlay(ctx); err != nil {
			return nil, err
		}
	}
	mapped := s.rec.HostUID != os.Geteuid()
	make := cache.Base
	if rebuild {
		make = cache.Rebuild
	}
	base, err := make(ctx, s.repo, worktree.BaseSpec{
		Commit: commit, Tree: tree, MapOwner: mapped, Confine: s.confine, Progress: s.progress,
		InUse: func() (map[string]bool, error) { return s.env.dirs.store(s.repo.Key()).layersInUse() },
	})
	if err != nil {
		if s.progress != nil {
			s.progress(0, 0)
		}
		return nil, err
	}
	if base.Rebuilt != "" {
		s.tell([]string{"the base of the tree was made again: " + base.Rebuilt})
	}
	return cache.On(base, mapped), nil
}

// standAgain holds the layers of a finished task's tree, and makes those again
// that were removed since.
//
// carry says whether the carried files are wanted too. For the harvest those of
// today would be a change that nobody made.
func (s *session) standAgain(ctx context.Context, carry bool) (err error) {
	if s.rec.Tree.Kind != worktree.KindOverlay {
		return nil
	}
	if s.layers == nil {
		if s.layers, err = s.standOn(ctx, s.rec.Tree.Start, true); err != nil {
			return err
		}
	}
	there, err := s.layers.CarryAgain(ctx, s.rec.Tree)
	if err != nil {
		return err
	}
	if !there && carry {
		s.tell([]string{"what was carried along is gone from the cache; it is carried again, as the checkout has it today"})
		// Not Base: under --dirty that is a commit which the repository need not have.
		c, err := s.repo.FindCarried(ctx, worktree.CarrySpec{Patterns: s.rec.Carry, Include: s.rec.Include, Tree: s.rec.Start})
		if err != nil {
			return err
		}
		if err := s.layers.Carry(ctx, c); err != nil {
			return err
		}
	}
	return s.repo.StandAgain(ctx, s.rec.Tree, s.layers)
}

const cacheGone = "the cache was removed while the task was there: its command may have missed files that it did not change"

// standStill sees to it that a tree can be read after its command has ended. The
// cache may have been removed under it: what the task changed is not in there.
func (s *session) standStill(ctx context.Context) error {
	if s.rec.Tree.Stands() {
		return nil
	}
	s.tell([]string{cacheGone})
	s.layers.Release()
	s.layers = nil
	return s.standAgain(ctx, false)
}

// leaveLayers lets the layers go. Whoever added to the cache keeps it in bounds;
// that it cannot is told by the next gc.
func (s *session) leaveLayers() {
	made := s.layers.Made()
	s.layers.Release()
	if made {
		key := s.repo.Key()
		_ = s.env.dirs.cache(key).Trim(s.env.dirs.store(key).layersInUse)
	}
}

// layersInUse are the layers that the trees of tasks stand on which are not over.
func (s store) layersInUse() (map[string]bool, error) {
	all, err := s.tasks()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, r := range all {
		if r.Tree == nil || r.State == stateMerged || r.State == stateDiscarded {
			continue
		}
		for _, dir := range r.Tree.Lower {
			used[dir] = true
		}
	}
	return used, nil
}

// tryOverlay mounts an overlay of two empty folders of the cache, with its own
// layer in the task's folder.
func (s *session) tryOverlay(ctx context.Context) error {
	try := &Record{UID: s.rec.UID, GID: s.rec.GID, HostUID: s.rec.HostUID, HostGID: s.rec.HostGID}
	return tryOverlay(ctx, s.env, try, filepath.Join(s.env.dirs.Cache, s.repo.Key()), filepath.Dir(s.task.dir))
}

const tryPrefix = ".try-"

// tryOverlay does the same in any two folders, for the ids of a record.
func tryOverlay(ctx context.Context, env *surroundings, rec *Record, cache, state string) (err error) {
	var folders [2]string
	for i, parent := range []string{cache, state} {
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return fmt.Errorf("cannot write to %s: %w", parent, underlying(err))
		}
		if folders[i], err = os.MkdirTemp(parent, tryPrefix); err != nil {
			return fmt.Errorf("cannot write to %s: %w", parent, underlying(err))
		}
		defer worktree.RemoveAll(folders[i])
	}
	lower, own := folders[0], folders[1]
	for _, dir := range []string{"", "upper", "work"} {
		path := filepath.Join(own, dir)
		if err := os.Mkdir(path, 0o755); err != nil && dir != "" {
			return fmt.Errorf("cannot write to %s: %w", state, underlying(err))
		}
		if err := os.Lchown(path, rec.HostUID, rec.HostGID); err != nil {
			return fmt.Errorf("cannot write to %s: %w", state, underlying(err))
		}
	}
	if err := worktree.CheckLayer(filepath.Join(own, "upper")); err != nil {
		return err
	}
	mapped := rec.HostUID != os.Geteuid()
	job := isolate.Job{
		Dir: "/", UID: rec.UID, GID: rec.GID, HostUID: rec.HostUID, HostGID: rec.HostGID, User: userName(env),
		Binds: []isolate.Bind{{Target: "/rcc/try", Lower: []isolate.Layer{{Source: lower, MapOwner: mapped}}, Upper: own}},
	}
	plan, err := isolate.NewPlan(isolate.Policy{Net: "none"}, job, isolate.LookHost(env.environ))
	if err != nil {
		return err
	}
	sb, err := isolate.Start(ctx, plan)
	if err != nil {
		return err
	}
	return sb.Close()
}

// refusal is what is kept, in the cache folder, of an overlay that could not be
// made. It holds for this kernel and these folders, and for a user or root.
type refusal struct {
	Kernel string `json:"kernel"`
	State  string `json:"state"`
	UID    int    `json:"uid"`
	Reason string `json:"reason"`
}

func (d dirs) refusals() string { return filepath.Join(d.Cache, "no-overlay.json") }

func (d dirs) here() refusal {
	r := refusal{State: d.State, UID: os.Geteuid()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Version[:])
	}
	return r
}

func (d dirs) readRefusals() (list []refusal) {
	if readJSON(d.refusals(), &list) != nil {
		return nil
	}
	return list
}

// refused tells why an overlay could not be made here; "" when it was not tried
// or could.
func (d dirs) refused() string {
	here := d.here()
	for _, r := range d.readRefusals() {
		if reason := r.Reason; reason != "" {
			if r.Reason = ""; r == here {
				return reason
			}
		}
	}
	return ""
}

// forgetRefusal makes the next task try again.
func (d dirs) forgetRefusal() {
	here := d.here()
	if left := slices.DeleteFunc(d.readRefusals(), func(r refusal) bool { r.Reason = ""; return r == here }); len(left) == 0 {
		_ = removeFile(d.refusals())
	} else {
		_ = writeJSON(d.refusals(), left, false)
	}
}

func (s *session) overlayRefused() bool { return s.env.dirs.refused() != "" }

// rememberRefusal is not told of a failure: the next task tries, and says, again.
func (s *session) rememberRefusal(reason string) {
	here := s.env.dirs.here()
	list := slices.DeleteFunc(s.env.dirs.readRefusals(), func(r refusal) bool { r.Reason = ""; return r == here })
	here.Reason = reason
	if os.MkdirAll(s.env.dirs.Cache, 0o700) == nil {
		_ = writeJSON(s.env.dirs.refusals(), append(list, here), false)
	}
}
