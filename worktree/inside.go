package worktree

import (
	"compress/zlib"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// HarvestName is the argv[0] under which our executable is the harvester.
const HarvestName = "rcc-harvest"

// The descriptors of the harvester, agreed between Harvest and HarvestMain:
//
//	0  nothing
//	1  the wire: a pack, gitformat-pack(5)
//	2  messages, shown when it fails
//	3  its report, one JSON object, written before the wire is used
const reportFD = 3

// harvestParams are the harvester's only argument, as JSON. All paths are those
// inside its sandbox.
type harvestParams struct {
	Tree      string   // the agent's tree, read-only
	Upper     string   // the upper layer of it by itself, when the tree is an overlay
	LowerTree string   // id of the git tree that the layers below show
	Carried   []string // paths that were carried along: never part of the result
	CarryGone bool     // and the layer that has them is not there any more
	Home      string   // our git directory, made by the host, writable
	Stores    []string // the host's object stores
	Branch    string   // full name of the task's branch
	Base      string
	Format    string
	Message   string
	Author    Ident
	Date      string // as GIT_COMMITTER_DATE takes it
	FilesOnly bool   // leave the agent's git directory alone: it made the first try fail
	Limits    Limits
}

// harvestReport is what the harvester found. The host does not trust it.
type harvestReport struct {
	Tip         string   `json:"tip"`
	Uncommitted bool     `json:"uncommitted"` // the last commit was made here
	Notes       []string `json:"notes"`
	Error       string   `json:"error"`   // it could not be done
	Refused     bool     `json:"refused"` // and trying again would not help
}

const (
	mostNotes   = 50
	connectTime = 5 * time.Minute // walking the agent's new history once
	wantedName  = "wanted"        // in H: what the pack is to hold
)

// HarvestMain is the main function of the confined process: it turns what the
// agent left into a commit, reports it, and becomes git pack-objects. Everything
// hostile is read here and only here: there is no network, and nothing is
// writable but a folder of its own.
func HarvestMain() int {
	var p harvestParams
	if len(os.Args) != 2 || json.Unmarshal([]byte(os.Args[1]), &p) != nil {
		fmt.Fprintln(os.Stderr, HarvestName+": it is not meant to be run by hand")
		return 2
	}
	syscall.CloseOnExec(reportFD)
	g, err := NewGit(os.Environ())
	var rep harvestReport
	if err == nil {
		g.mortal = true // the sandbox sees to it; this is for whoever has none
		h := &harvester{git: g, p: p}
		rep, err = h.harvest(context.Background())
	}
	if err != nil {
		rep.Error = err.Error()
	}
	report := os.NewFile(reportFD, "report")
	if err := json.NewEncoder(report).Encode(rep); err != nil {
		fmt.Fprintln(os.Stderr, HarvestName+": cannot report:", err)
		return 1
	}
	report.Close()
	if rep.Error != "" {
		return 1
	}
	if rep.Tip == p.Base {
		return 0
	}
	err = sendPack(g, p.Home)
	fmt.Fprintln(os.Stderr, HarvestName+": cannot start git pack-objects:", err)
	return 1
}

// sendPack becomes the git that writes the pack to descriptor 1. It returns
// only when it cannot. The pack is complete in itself (no --thin), and a
// bitmap of the host's is not used: what it saves in counting objects it costs
// several times over in reading it.
func sendPack(g *Git, home string) error {
	in, err := os.Open(filepath.Join(home, wantedName))
	if err != nil {
		return err
	}
	if err := syscall.Dup2(int(in.Fd()), 0); err != nil {
		return err
	}
	// pack-objects reads .gitattributes where it stands (the attribute "delta",
	// gitattributes(5)): it must not be the tree.
	if err := os.Chdir(home); err != nil {
		return err
	}
	env := append(g.env, "GIT_DIR="+home)
	return syscall.Exec(g.path, []string{
		"git", "-c", "core.hooksPath=/dev/null", "-c", "pack.useSparse=true",
		"pack-objects", "--quiet", "--revs", "--stdout", "--delta-base-offset", "--no-use-bitmap-index",
	}, env)
}

// harvester works in our git directory H (p.Home) on the agent's tree. H
// borrows objects from the host's stores and from the agent's git directory;
// its configuration, refs and index are ours.
type harvester struct {
	git     *Git
	p       harvestParams
	notes   []string
	pipes   pipes // do not block git
	look    *inspector
	deflate *zlib.Writer
	giveUp  func() // ends what look waits for
}

func (h *harvester) note(format string, args ...any) {
	switch {
	case len(h.notes) < mostNotes:
		h.notes = append(h.notes, fmt.Sprintf(format, args...))
	case len(h.notes) == mostNotes:
		h.notes = append(h.notes, "there is more like this")
	}
}

// h runs git on H.
func (h *harvester) h(ctx context.Context, in []byte, args ...string) ([]byte, error) {
	return h.run(ctx, call{in: strings.NewReader(string(in))}, args...)
}

func (h *harvester) run(ctx context.Context, c call, args ...string) ([]byte, error) {
	return h.git.run(ctx, h.onH(c), args...)
}

func (h *harvester) onH(c call) call {
	c.dir = h.p.Tree
	c.env = append(c.env, "GIT_DIR="+h.p.Home, "GIT_WORK_TREE="+h.p.Tree)
	return c
}

func (h *harvester) line(ctx context.Context, args ...string) (string, error) {
	out, err := h.h(ctx, nil, args...)
	return strings.TrimSpace(string(out)), err
}

func (h *harvester) harvest(ctx context.Context) (harvestReport, error) {
	defer h.stopLooking()
	if err := h.borrow(h.p.Stores...); err != nil {
		return harvestReport{}, err
	}
	a := h.readAgent(ctx)
	parent := h.p.Base
	switch {
	case a.head != "":
		parent = a.head
	case a.branch != "":
		parent = a.branch
	}
	tip, err := h.commitRest(ctx, parent, a)
	if err != nil {
		return harvestReport{Notes: h.notes, Refused: isRefused(err)}, err
	}
	rep := harvestReport{Tip: tip, Uncommitted: tip != parent}
	if !rep.Uncommitted {
		rep.Tip = h.furthest(ctx, parent, a)
	}
	h.noteOthers(ctx, rep.Tip, a)
	wanted := rep.Tip + "\n^" + h.p.Base + "\n"
	if err := os.WriteFile(filepath.Join(h.p.Home, wantedName), []byte(wanted), 0o644); err != nil {
		return harvestReport{Notes: h.notes}, fmt.Errorf("cannot write to the harvest's folder: %w", err)
	}
	rep.Notes = h.notes
	return rep, nil
}

// borrow sets the object stores of H.
func (h *harvester) borrow(stores ...string) error {
	h.stopLooking()
	err := os.WriteFile(filepath.Join(h.p.Home, "objects", "info", "alternates"), alternatesFile(stores), 0o644)
	if err != nil {
		return fmt.Errorf("cannot write to the harvest's folder: %w", err)
	}
	return nil
}

// inspector is the one for H, started when it is first needed.
func (h *harvester) inspector(ctx context.Context) (*inspector, error) {
	if h.look != nil {
		return h.look, nil
	}
	h.look = &inspector{git: h.git, call: h.onH(call{}), format: h.p.Format, lim: h.p.Limits, base: h.p.Base}
	ctx, h.giveUp = context.WithCancel(ctx)
	defer time.AfterFunc(h.p.Limits.Ask, h.giveUp).Stop()
	if err := h.look.open(ctx); err != nil {
		h.stopLooking()
		return nil, err
	}
	return h.look, nil
}

func (h *harvester) stopLooking() {
	if h.look != nil {
		h.look.close()
		h.giveUp()
		h.look = nil
	}
}

// commitRest makes a commit on parent of all that is not committed, and
// returns it; parent when there is nothing.
func (h *harvester) commitRest(ctx context.Context, parent string, a *agent) (string, error) {
	if err := h.checkUnfolded(ctx, parent); err != nil {
		return "", err
	}
	defer h.pipes.close()
	look, err := h.inspector(ctx)
	if err != nil {
		return "", err
	}
	before, err := look.objects.root(parent)
	if err != nil {
		return "", err
	}
	treeOf := h.checkoutTree
	if h.p.Upper != "" {
		treeOf = h.overlayTree
	}
	tree, err := treeOf(ctx, parent, before, a)
	if err != nil || tree == before {
		return parent, err
	}
	p := h.p
	out, err := h.run(ctx, call{in: strings.NewReader(p.Message), env: []string{
		"GIT_AUTHOR_NAME=" + p.Author.Name, "GIT_AUTHOR_EMAIL=" + p.Author.Email, "GIT_AUTHOR_DATE=" + p.Date,
		"GIT_COMMITTER_NAME=" + p.Author.Name, "GIT_COMMITTER_EMAIL=" + p.Author.Email, "GIT_COMMITTER_DATE=" + p.Date,
	}}, "commit-tree", "-p", parent, tree)
	return strings.TrimSpace(string(out)), err
}

// checkUnfolded refuses a commit whose tree is a bomb (few objects, billions of
// files) before it is read into an index. The host looks again.
func (h *harvester) checkUnfolded(ctx context.Context, commit string) error {
	if commit == h.p.Base {
		return nil
	}
	look, err := h.inspector(ctx)
	if err != nil {
		return err
	}
	root, err := look.objects.root(commit)
	if err != nil {
		return err
	}
	return look.root(root, look.known)
}
