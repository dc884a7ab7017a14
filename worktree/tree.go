package worktree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Mount is a folder or file of the host that a sandbox shows. It is a plain
// value; whoever makes the sandbox carries it out.
type Mount struct {
	Source   string // on the host; "" when Empty
	Target   string // inside
	Writable bool
	MapOwner bool // what belongs to the caller appears as the agent's own
	Empty    bool // Target is covered by an empty read-only file

	// Lower makes Target an overlay (overlayfs with userxattr) of these folders
	// of the host, the uppermost first; Source is "" then.
	Lower []Layer
	// Upper is the folder of the host that holds the overlay's writable layer
	// as "upper" and an empty folder "work"; "" makes the overlay read-only.
	Upper string
}

// Layer is a read-only folder that an overlay shows.
type Layer struct {
	Dir      string // on the host
	MapOwner bool   // as in Mount
}

// TreeSpec says what tree to make.
type TreeSpec struct {
	Dir   string // the task's folder on the host; exists, and only its owner can enter it
	ID    string // the task; its branch is rcc/<ID>
	Base  string // commit id
	Dirty bool   // carry the checkout's uncommitted work along
	UID   int    // owner of what the agent may write, -1: whoever runs this
	GID   int
	On    *Layers // what an overlay stands on; nil: a checkout
	Sight *Sight  // of Base; nil: looked at

	Carried *Carried // a checkout gets copies of these; an overlay has them in On

	samePaths bool // tests without a sandbox: stores are named inside as they are outside
}

// Tree is a task's tree. It is plain data, kept in the task's record.
type Tree struct {
	Dir    string // the task's folder
	ID     string
	Path   string // where the tree stands inside
	Format string // object format
	Start  string // the commit that was asked for
	Base   string // what the agent starts from: Start, or the snapshot of uncommitted work on top of it
	Stores []Store
	UID    int
	GID    int
	Notes  []string // what --dirty could not carry

	Kind      string   // KindOverlay or KindCheckout; "" is a checkout
	Lower     []string // overlay: the folders of its read-only layers, the uppermost first
	LowerTree string   // overlay: id of the git tree that the layers show, which is Start's
	MapLower  bool     // overlay: the layers belong to root, and are shown as the agent's own
	Carried   []string // paths that were carried along; never part of a result
	Monitor   bool     // overlay: git asks our executable which files changed (MonitorMain)
}

// The kinds of trees.
const (
	KindOverlay  = "overlay"  // layers that all tasks share, and one of its own to write to
	KindCheckout = "checkout" // all files, written for this task alone
)

// What the package keeps in a task's folder.
const (
	treeName     = "tree"         // a checkout: the agent's tree with its private git directory
	ownName      = "layer"        // an overlay: its own layer, with the private git directory, in "upper", and the kernel's "work"
	indexName    = "index"        // the index as it was before the agent started
	refsName     = "refs"         // the refs that the agent was given
	snapshotName = "snapshot"     // objects of uncommitted work (--dirty)
	harvestName  = "harvest"      // the confined process's own git directory
	incomingName = "incoming.git" // the quarantine
	acceptedName = "accepted"     // the tip that refs/heads/rcc/<id> was last set to
	trashName    = "trash"        // what Remove is at
)

func (t *Tree) path(name string) string { return filepath.Join(t.Dir, name) }

func (t *Tree) branch() string { return branchPrefix + t.ID }

// NewTree prepares a tree at spec.Base: its folder, and the private git
// directory in it. The files come by Populate, inside the sandbox.
func (r *Repo) NewTree(ctx context.Context, spec TreeSpec) (*Tree, error) {
	if err := checkTaskID(spec.ID); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(spec.Dir) || !isID(spec.Base, r.Format) {
		return nil, fmt.Errorf("cannot make a tree of %q in %q: an absolute folder and a full commit id are needed", spec.Base, spec.Dir)
	}
	t := &Tree{Dir: spec.Dir, ID: spec.ID, Path: r.Path, Format: r.Format, Start: spec.Base, Base: spec.Base, UID: spec.UID, GID: spec.GID}
	if spec.Sight == nil {
		var err error
		if spec.Sight, err = r.Look(ctx, spec.Base, spec.ID); err != nil {
			return nil, err
		}
	}
	refs, err := parseLent(spec.Sight.refs, spec.ID, r.Format)
	if err != nil {
		return nil, err
	}
	if err := r.CheckComplete(ctx, spec.Base); err != nil {
		return nil, err
	}
	if t.Stores, err = objectStores(filepath.Join(r.CommonDir, "objects")); err != nil {
		return nil, err
	}
	if spec.Dirty {
		if err := r.snapshot(ctx, t); err != nil {
			return nil, err
		}
	}
	if spec.samePaths {
		for i := range t.Stores {
			t.Stores[i].Target = t.Stores[i].Source
		}
	}
	if spec.On != nil {
		return t, r.layOver(ctx, t, refs, spec.On)
	}
	t.Kind = KindCheckout
	if err := r.writePrivate(t, refs); err != nil {
		return nil, err
	}
	if err := t.giveAway(t.path(treeName)); err != nil || spec.Carried == nil {
		return t, err
	}
	t.Carried = spec.Carried.Paths
	return t, spec.Carried.CopyInto(t.path(treeName), spec.UID, spec.GID)
}

// lent are the refs that the agent's repository has a copy of.
type lent struct {
	values map[string]string // ref to object id
	links  map[string]string // symbolic ref, such as refs/remotes/origin/HEAD, to its target
}

// lentRefsArgs list what parseLent reads.
var lentRefsArgs = []string{"for-each-ref", "--format=%(objectname) %(refname) %(symref)", "refs/heads/", "refs/tags/", "refs/remotes/"}

// parseLent takes the branches, tags and remote-tracking branches, without
// rcc's own: one task has no business with another's result.
func parseLent(out []byte, id, format string) (*lent, error) {
	refs := &lent{values: map[string]string{}, links: map[string]string{}}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(f) != 3 || !isID(f[0], format) {
			continue
		}
		switch ref, mine := f[1], branchPrefix+id; {
		case ref+"/" == branchPrefix:
			return nil, errors.New("cannot make a branch rcc/…: there is a branch named rcc; rename it: git branch -m rcc rcc-old")
		case ref == mine || strings.HasPrefix(ref, mine+"/") || strings.HasPrefix(mine, ref+"/"):
			return nil, fmt.Errorf("cannot make the branch rcc/%s: %s is there; use another name", id, quotePath(strings.TrimPrefix(ref, "refs/heads/")))
		case strings.HasPrefix(ref, branchPrefix):
		case f[2] != "":
			refs.links[ref] = f[2]
		default:
			refs.values[ref] = f[0]
		}
	}
	for ref, target := range refs.links {
		if _, ok := refs.values[target]; !ok {
			delete(refs.links, ref)
		}
	}
	return refs, nil
}

// CheckComplete refuses a commit whose files a partial clone has not fetched:
// inside there is nobody to fetch them from.
func (r *Repo) CheckComplete(ctx context.Context, commit string) error {
	if !r.PartialClone {
		return nil
	}
	out, err := r.run(ctx, "rev-list", "--objects", "--no-object-names", "--no-walk", "--missing=print", commit)
	if err != nil {
		return fmt.Errorf("cannot list the objects of %s: %w", short(commit), err)
	}
	missing := 0
	for line := range strings.Lines(string(out)) {
		if line[0] == '?' {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("cannot make a tree of %s: %d of its objects are not in this partial clone; fetch them: git fetch --refetch --no-filter", short(commit), missing)
	}
	return nil
}

// writePrivate makes the private git directory of a checkout.
func (r *Repo) writePrivate(t *Tree, refs *lent) error {
	d, err := r.privateDir(t, refs)
	if err != nil {
		return err
	}
	d.head, d.refs[t.branch()] = t.branch(), t.Base
	if err := os.Mkdir(t.path(treeName), 0o755); err != nil {
		return fmt.Errorf("cannot make the tree: %w", err)
	}
	if err := os.WriteFile(t.path(refsName), d.packedRefs, 0o644); err != nil {
		return fmt.Errorf("cannot keep the list of refs: %w", err)
	}
	return d.write(filepath.Join(t.path(treeName), ".git"))
}

// privateDir describes a private git directory but for what differs from task
// to task: HEAD and the task's branch.
func (r *Repo) privateDir(t *Tree, refs *lent) (*gitDir, error) {
	exclude, err := r.excludes()
	if err != nil {
		return nil, err
	}
	shallow, err := r.shallowFile()
	if err != nil {
		return nil, err
	}
	id := r.identity()
	// The objects of the host lie in alternates: packing them again into the
	// private directory, as gc --auto might, would copy the whole history.
	// Remotes are left out: their URLs may carry tokens.
	config := formatConfig(r.Format) +
		"[core]\n\tbare = false\n\tfilemode = true\n\tlogallrefupdates = true\n" +
		"[user]\n\tname = " + quoteConfig(id.Name) + "\n\temail = " + quoteConfig(id.Email) + "\n" +
		"[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n" + r.carriedConfig()
	d := &gitDir{config: config, shallow: shallow, exclude: exclude, packedRefs: packedRefs(refs.values), refs: map[string]string{}}
	for ref, target := range refs.links {
		d.refs[ref] = "ref: " + target
	}
	for _, s := range t.Stores {
		d.alternates = append(d.alternates, s.Target)
	}
	return d, nil
}

// giveAway makes the agent's user id the owner of dir and what we put in it.
func (t *Tree) giveAway(dir string) error {
	if t.UID < 0 {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, t.UID, t.GID)
	})
	if err != nil {
		return fmt.Errorf("cannot give the tree to user %d: %w", t.UID, err)
	}
	return nil
}

// Mounts are what the agent's sandbox shows of this package's: the tree,
// writable, and the object stores.
func (t *Tree) Mounts() []Mount {
	tree := Mount{Source: t.path(treeName), Target: t.Path, Writable: true}
	if t.overlay() {
		tree = Mount{Target: t.Path, Lower: t.layers(), Upper: t.path(ownName), Writable: true}
	}
	return append(append([]Mount{tree}, t.storeMounts()...), t.monitorMounts()...)
}

// PlanMounts are the mounts that a tree of a kind in dir will have. Nothing is
// made; of an overlay's layers only the places in the cache are known.
func (r *Repo) PlanMounts(dir, kind string, c *Cache) ([]Mount, error) {
	stores, err := objectStores(filepath.Join(r.CommonDir, "objects"))
	if err != nil {
		return nil, err
	}
	t := &Tree{Dir: dir, Path: r.Path, Stores: stores, Kind: kind}
	if kind == KindOverlay {
		t.Lower = []string{c.path(gitKind, ""), c.path(baseKind, "")}
	}
	return t.Mounts(), nil
}

func (t *Tree) storeMounts() []Mount {
	var mounts []Mount
	for _, s := range t.Stores {
		mounts = append(mounts, Mount{Source: s.Source, Target: s.Target, MapOwner: s.MapRoot && t.UID >= 0})
		if s.Chained {
			mounts = append(mounts, Mount{Target: s.Target + "/info/alternates", Empty: true})
		}
	}
	return mounts
}

// Populate are the commands that fill the tree. They run in the sandbox, as
// the agent's user, in the tree, before anything of the agent's.
// checkout.workers=0 uses all cores where there are many files (git-config(1));
// a process for each core costs more than it saves up to about two thousand.
// An overlay shows all files already; only uncommitted work that was carried
// along has to be written.
func (t *Tree) Populate() [][]string {
	switch {
	case t.overlay() && t.Base == t.Start:
		return nil
	case t.overlay():
		return [][]string{{"git", "read-tree", "-m", "-u", t.Start, "HEAD"}}
	}
	return [][]string{{"git", "-c", "checkout.workers=0", "-c", "checkout.thresholdForParallelism=2000", "read-tree", "--reset", "-u", "HEAD"}}
}

// Populated is called once, after Populate and before the agent starts. It
// keeps a copy of the index, from which the harvest knows the files that were
// never touched without reading them. The copy has the original's time: an
// entry as young as the index itself is one whose file may have changed
// without a trace, and git reads such files again (Documentation/technical/
// racy-git.txt). A copy with a time of its own would lose that.
// The harvest of an overlay needs no index.
func (t *Tree) Populated(ctx context.Context) error {
	if t.overlay() {
		return nil
	}
	root, err := os.OpenRoot(t.path(treeName))
	if err != nil {
		return fmt.Errorf("cannot open the tree: %w", err)
	}
	defer root.Close()
	in, err := root.Open(".git/index")
	if err != nil {
		return fmt.Errorf("cannot open the tree's index: %w", err)
	}
	defer in.Close()
	if err := os.Remove(t.path(indexName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot keep the tree's index: %w", err)
	}
	if err := copyKeepingTime(in, t.path(indexName)); err != nil {
		return fmt.Errorf("cannot keep the tree's index: %w", err)
	}
	return nil
}

// copyKeepingTime copies an open file to path, which must not exist, with its
// modification time.
func copyKeepingTime(in *os.File, path string) error {
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", quotePath(in.Name()))
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Chtimes(path, fi.ModTime(), fi.ModTime())
}

// Again makes a tree whose sandbox has ended ready for another one around it, on
// the same layers.
func (t *Tree) Again() error {
	if !t.overlay() {
		return nil
	}
	return t.fresh()
}
