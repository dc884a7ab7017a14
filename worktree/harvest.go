package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Job is something to run in a sandbox of its own: no network, and nothing
// writable but what Mounts says.
type Job struct {
	Name   string // for messages
	Args   []string
	Env    []string
	Dir    string
	Mounts []Mount
	Files  []*os.File // become descriptors 0, 1, 2, 3, …
	Limit  time.Duration
}

// Confine starts a job. Once it has returned, the caller may close Files; wait
// returns the exit status. Args[0] may be HarvestName: our own executable, to
// be started under that name.
type Confine func(ctx context.Context, j Job) (wait func() (int, error), err error)

// HarvestOptions say what the commit for uncommitted work looks like.
type HarvestOptions struct {
	Message string    // default: Uncommitted work
	Time    time.Time // default: now
	Author  Ident     // default: the user
	Limits  Limits    // zero values: DefaultLimits
}

// Limits bound what a result may be. What is over them is refused.
type Limits struct {
	Wire    int64         // bytes of the pack on the wire
	Bytes   int64         // of all new objects, unpacked
	Objects int64         // new objects
	Files   int64         // files that differ from the base, counted once for each path
	Depth   int           // folders in a path
	Path    int           // bytes of a path
	Time    time.Duration // for harvest and transfer together
	Ask     time.Duration // for one question to the agent's git directory
}

// DefaultLimits are generous for work that a person will read.
var DefaultLimits = Limits{Wire: 1 << 30, Bytes: 4 << 30, Objects: 2e6, Files: 5e6, Depth: deepest, Path: longest, Time: 15 * time.Minute, Ask: 10 * time.Second}

func (l Limits) orDefault() Limits {
	d := DefaultLimits
	set := func(v *int64, def int64) {
		if *v == 0 {
			*v = def
		}
	}
	set(&l.Wire, d.Wire)
	set(&l.Bytes, d.Bytes)
	set(&l.Objects, d.Objects)
	set(&l.Files, d.Files)
	if l.Depth == 0 {
		l.Depth = d.Depth
	}
	if l.Path == 0 {
		l.Path = d.Path
	}
	if l.Time == 0 {
		l.Time = d.Time
	}
	if l.Ask == 0 {
		l.Ask = d.Ask
	}
	return l
}

// Harvested is a result that has passed every check and lies in quarantine.
type Harvested struct {
	Tip         string   // commit; the tree's Base when there is nothing new
	Uncommitted bool     // its last commit was made of uncommitted work
	Notes       []string // what was left out or is worth knowing; inert text
}

// RefusedError is a result that the host does not take. The quarantine is
// empty; the tree is as it was.
type RefusedError struct {
	Reason  string
	missing bool // an object is not there
}

func (e *RefusedError) Error() string { return "cannot take the result: " + e.Reason }

func refuse(format string, args ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, args...)}
}

func isRefused(err error) bool {
	var re *RefusedError
	return errors.As(err, &re)
}

// Where the harvester's folder is mounted, and our git directory in it.
const (
	insideHarvest = "/rcc/harvest"
	insideHome    = insideHarvest + "/git"
	insideUpper   = "/rcc/upper"
)

// Harvest takes over what the agent left. Every process of the task must be
// dead. A git directory that makes the harvester fail is tried once more
// without it: then the files in the tree are the result.
func (t *Tree) Harvest(ctx context.Context, r *Repo, confine Confine, opt HarvestOptions) (*Harvested, error) {
	opt.Limits = opt.Limits.orDefault()
	ctx, cancel := context.WithTimeout(ctx, opt.Limits.Time)
	defer cancel()
	// The tree's own folder is the one thing of the agent's that is touched
	// here: its mode may be 0. Its place cannot be changed from inside.
	if err := os.Chmod(t.top(), 0o755); err != nil {
		return nil, fmt.Errorf("cannot open the tree: %w", err)
	}
	h, err := t.harvestOnce(ctx, r, confine, opt, false)
	if err != nil && !isRefused(err) && ctx.Err() == nil {
		if second, again := t.harvestOnce(ctx, r, confine, opt, true); again == nil {
			return second, nil
		}
	}
	if err != nil {
		return nil, errors.Join(err, t.emptyIncoming())
	}
	return h, nil
}

func (t *Tree) harvestOnce(ctx context.Context, r *Repo, confine Confine, opt HarvestOptions, filesOnly bool) (*Harvested, error) {
	// What does not depend on the harvester goes on beside it: the quarantine
	// is made while it starts, its folder is removed while its result is checked.
	quarantine := beside(func() error { return t.makeIncoming(r) })
	defer quarantine()
	remove := sync.OnceValue(func() error { return removeTree(t.path(harvestName), t.path(trashName)) })
	defer remove()
	if err := t.makeHarvestDir(r); err != nil {
		return nil, err
	}
	c, err := t.connect(ctx, r, confine, opt, filesOnly)
	if err != nil {
		return nil, err
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.giveUp)()
	rep, err := c.report(t.Format)
	if err != nil {
		return nil, err
	}
	res := &Harvested{Tip: rep.Tip, Uncommitted: rep.Uncommitted, Notes: rep.Notes}
	if rep.Tip == t.Base {
		return res, c.end()
	}
	if err := quarantine(); err != nil {
		return nil, err
	}
	if err := t.receive(ctx, r, c, rep.Tip, opt.Limits); err != nil {
		return nil, err
	}
	defer beside(remove)()
	if err := t.check(ctx, r, rep.Tip, opt.Limits); err != nil {
		return nil, err
	}
	return res, t.setReceived(rep.Tip)
}

// beside does something in the background; what it returns waits for the end.
func beside(do func() error) func() error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	return sync.OnceValue(func() error { return <-done })
}

// makeHarvestDir makes the harvester's own git directory, empty but for the
// index that the tree started with, the ignore rules, and a list of the refs
// that the agent was given.
func (t *Tree) makeHarvestDir(r *Repo) error {
	dir := t.path(harvestName)
	if err := removeTree(dir, t.path(trashName)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the harvest's folder: %w", err)
	}
	home := filepath.Join(dir, filepath.Base(insideHome))
	exclude, err := r.excludes()
	if err != nil {
		return err
	}
	shallow, err := r.shallowFile()
	if err != nil {
		return err
	}
	// No filter, hook or monitor is configured here. protectHFS and protectNTFS
	// make git refuse the same names as we do.
	config := formatConfig(t.Format) + "[core]\n\tbare = false\n\tprotectHFS = true\n\tprotectNTFS = true\n\tsafecrlf = false\n\tfsync = none\n" + r.carriedConfig()
	g := gitDir{head: "refs/heads/tip", config: config, shallow: shallow, exclude: exclude}
	if err := g.write(home); err != nil {
		return err
	}
	if refs, err := os.ReadFile(t.lentFile()); err == nil {
		if err := os.WriteFile(filepath.Join(home, "lent"), refs, 0o644); err != nil {
			return fmt.Errorf("cannot make the harvest's folder: %w", err)
		}
	}
	if t.overlay() {
		return t.giveAway(dir)
	}
	in, err := os.Open(t.path(indexName))
	if err == nil {
		err = copyKeepingTime(in, filepath.Join(home, "index"))
		in.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot make the harvest's folder: %w", err)
	}
	return t.giveAway(dir)
}

func (t *Tree) harvestJob(ctx context.Context, r *Repo, opt HarvestOptions, filesOnly bool) (Job, error) {
	if opt.Message == "" {
		opt.Message = "Uncommitted work"
	}
	if opt.Time.IsZero() {
		opt.Time = time.Now()
	}
	if opt.Author.Name == "" || opt.Author.Email == "" {
		opt.Author = r.identity()
	}
	p := harvestParams{
		Tree: t.Path, Home: insideHome, Branch: t.branch(), Base: t.Base, Format: t.Format,
		Message: oneArgument(opt.Message), Author: opt.Author, Date: fmt.Sprintf("@%d %s", opt.Time.Unix(), opt.Time.Format("-0700")),
		FilesOnly: filesOnly, Limits: opt.Limits, Carried: t.Carried, CarryGone: t.carryGone(),
	}
	for _, s := range t.Stores {
		p.Stores = append(p.Stores, s.Target)
	}
	var err error
	mounts := []Mount{{Source: t.path(treeName), Target: t.Path}}
	if t.overlay() {
		p.Upper, p.LowerTree = insideUpper, t.LowerTree
		if mounts, err = t.harvestLayers(ctx, r); err != nil {
			return Job{}, err
		}
	}
	mounts = append(append(mounts, Mount{Source: t.path(harvestName), Target: insideHarvest, Writable: true}), t.storeMounts()...)
	arg, err := json.Marshal(p)
	if err != nil {
		return Job{}, err
	}
	return Job{
		Name: "harvest", Args: []string{HarvestName, string(arg)}, Dir: t.Path, Mounts: mounts, Limit: opt.Limits.Time,
		Env: []string{
			"PATH=" + filepath.Dir(r.git.path) + ":/usr/local/bin:/usr/bin:/bin", "HOME=" + insideHarvest,
			"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		},
	}, nil
}

// oneArgument makes a message fit into an argument of a program, which holds
// at most 128 KiB (execve(2), MAX_ARG_STRLEN) and no NUL.
func oneArgument(message string) string {
	const most = 32 << 10
	message = strings.ReplaceAll(strings.ToValidUTF8(message, "\uFFFD"), "\x00", "")
	if len(message) > most {
		message = strings.ToValidUTF8(message[:most], "") + "…\n"
	}
	if strings.TrimSpace(message) == "" {
		return "Uncommitted work\n"
	}
	return message
}
