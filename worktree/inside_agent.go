package worktree

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// agent is what could be learned from the agent's git directory. Its commits
// are whole: every object down to the base is there.
type agent struct {
	head    string            // commit of HEAD, "" when it cannot be used
	branch  string            // commit of the task's branch, likewise
	refs    map[string]string // branches and the stash, as they stand
	index   *indexFile        // paths in it may be ignored ones that were added by force; nil when nothing is known
	lent    []string          // ids of the refs that it was given
	lentSet map[string]bool
}

// asker puts a question to git about the agent's git directory.
type asker func(args ...string) ([]byte, error)

// ask is an asker. GIT_ALLOW_PROTOCOL: a promisor remote in the directory's
// configuration would be asked for missing objects, by a program that the
// configuration names.
func (h *harvester) ask(ctx context.Context) asker {
	return func(args ...string) ([]byte, error) {
		env := []string{"GIT_ALLOW_PROTOCOL=none"}
		dir := filepath.Join(h.p.Tree, ".git")
		return h.git.run(ctx, call{dir: "/", limit: h.p.Limits.Ask, env: env}, append([]string{"--git-dir=" + dir}, args...)...)
	}
}

// readAgent learns the agent's refs and its objects. The git directory may be
// anything: a file, a link, a pipe that blocks who opens it. Whatever fails
// only means that less is known; then the base and the files in the tree are
// the result.
func (h *harvester) readAgent(ctx context.Context) *agent {
	a := &agent{refs: map[string]string{}, lentSet: map[string]bool{}}
	if h.p.FilesOnly {
		h.note("the task's git directory cannot be used: its commits are lost, its files are taken")
		return a
	}
	h.readLent(a)
	if err := h.readRefs(a, h.ask(ctx)); err != nil {
		h.note("the task's git directory cannot be read, only its files are taken: %s", lastLine(err.Error()))
		a.head, a.branch, a.refs = "", "", map[string]string{}
		return a
	}
	h.judge(ctx, a)
	return a
}

// readRefs reads the refs, as files where they are plainly there, and borrows
// the agent's objects if a ref stands on one that the host did not give. git
// itself has the say on a configuration that was touched.
func (h *harvester) readRefs(a *agent, ask asker) error {
	if !h.plainRefs(a) {
		a.head, a.branch, a.refs = "", "", map[string]string{}
		return h.askRefs(a, ask)
	}
	objects := filepath.Join(h.p.Tree, ".git", "objects")
	if !h.untouched("config") {
		out, err := ask("rev-parse", "--path-format=absolute", "--git-path", "objects")
		if err != nil {
			return err
		}
		if strings.TrimSuffix(string(out), "\n") != objects {
			return h.askRefs(a, ask)
		}
	}
	known := func(id string) bool { return id == h.p.Base || a.lentSet[id] }
	all := known(a.head)
	for _, id := range a.refs {
		all = all && known(id)
	}
	if all {
		return nil
	}
	return h.borrow(append(h.p.Stores[:len(h.p.Stores):len(h.p.Stores)], objects)...)
}

// readLent reads the refs that the agent was given; H has the list.
func (h *harvester) readLent(a *agent) {
	data, err := os.ReadFile(filepath.Join(h.p.Home, "lent"))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		if id, _, ok := strings.Cut(line, " "); ok && isID(id, h.p.Format) && !a.lentSet[id] {
			a.lentSet[id] = true
			a.lent = append(a.lent, id)
		}
	}
}

func (h *harvester) askRefs(a *agent, ask asker) error {
	out, err := ask("rev-parse", "--path-format=absolute", "--git-path", "objects")
	if err != nil {
		return err
	}
	objects := strings.TrimSuffix(string(out), "\n")
	if fi, err := os.Stat(objects); err != nil || !fi.IsDir() {
		return errors.New("it has no objects")
	}
	if err := h.borrow(append(h.p.Stores[:len(h.p.Stores):len(h.p.Stores)], objects)...); err != nil {
		return err
	}
	out, err = ask("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/", "refs/stash")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		id, ref, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if isID(id, h.p.Format) {
			a.refs[ref] = id
		}
	}
	out, err = ask("rev-parse", "--verify", "--quiet", "HEAD")
	if status(err) == -1 {
		return err
	}
	a.head, a.branch = strings.TrimSpace(string(out)), a.refs[h.p.Branch]
	return nil
}

// judge keeps those of the agent's two tips that are whole. If neither is, its
// objects are no use, and may do harm: an index of packs that is a pipe blocks
// every git that looks for an object.
func (h *harvester) judge(ctx context.Context, a *agent) {
	head, branch := a.head, a.branch
	a.head, a.branch = "", ""
	if isID(head, h.p.Format) && h.whole(ctx, head) {
		a.head = head
	}
	switch {
	case branch == head:
		a.branch = a.head
	case isID(branch, h.p.Format) && h.whole(ctx, branch):
		a.branch = branch
	}
	if a.head != "" {
		return
	}
	if a.branch != "" {
		h.note("HEAD of the task names no usable commit; its branch is taken")
		return
	}
	a.refs = map[string]string{}
	if err := h.borrow(h.p.Stores...); err == nil {
		h.note("the commits of the task cannot be read; only its files are taken")
	}
}

// whole says whether id is a commit with all its objects, down to the base. A
// result that will be refused counts as whole: the refusal says why. A store of
// the agent's that blocks whoever reads it has as long as any question to its
// git directory.
func (h *harvester) whole(ctx context.Context, id string) bool {
	if id == h.p.Base {
		return true
	}
	look, err := h.inspector(ctx)
	if err != nil {
		return false
	}
	slow := time.AfterFunc(h.p.Limits.Ask, h.giveUp)
	defer time.AfterFunc(connectTime, h.giveUp).Stop()
	defer slow.Stop()
	if _, err := look.objects.read(id, "commit"); err != nil {
		return false
	}
	slow.Stop()
	err = look.result(ctx, id)
	return err == nil || isRefused(err) && !isMissing(err)
}

// readAgentIndex reads from the agent's index what the tree alone does not
// tell: ignored files that were added by force, and files that a sparse
// checkout left out (they are not deleted). What cannot be read as plain data
// git is asked for.
func (h *harvester) readAgentIndex(ctx context.Context, a *agent) {
	if h.p.FilesOnly {
		return
	}
	data, err := h.readGitFile("index", maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		if a.index, err = parseIndex(data, h.p.Format); err == nil {
			return
		}
	}
	out, err := h.ask(ctx)("ls-files", "-z", "-t", "--cached")
	if err != nil {
		return
	}
	a.index = &indexFile{}
	for _, item := range splitNul(out) {
		if tag, p, ok := strings.Cut(item, " "); ok && p != "" {
			a.index.lines = append(a.index.lines, indexLine{path: p, skip: tag == "S"})
			a.index.skips = a.index.skips || tag == "S"
		}
	}
	sort.Slice(a.index.lines, func(i, j int) bool { return a.index.lines[i].path < a.index.lines[j].path })
}

// furthest chooses the result when nothing is uncommitted. An agent that went
// back to look at another commit, or to a branch that it was given, has its
// work on the task's branch.
func (h *harvester) furthest(ctx context.Context, parent string, a *agent) string {
	if a.branch == "" || a.branch == parent {
		return parent
	}
	_, err := h.h(ctx, nil, "merge-base", "--is-ancestor", parent, a.branch)
	if err == nil {
		return a.branch
	}
	if fresh, _ := h.isNew(ctx, connectTime, a, parent); !fresh {
		return a.branch
	}
	return parent
}

// isNew says whether id is a commit that neither the refs that the agent was
// given nor those of except contain. What cannot be read in the given time is not.
func (h *harvester) isNew(ctx context.Context, limit time.Duration, a *agent, id string, except ...string) (bool, error) {
	var in bytes.Buffer
	in.WriteString(id + "\n^" + h.p.Base + "\n")
	for _, x := range except {
		in.WriteString("^" + x + "\n")
	}
	for _, x := range a.lent {
		in.WriteString("^" + x + "\n")
	}
	out, err := h.run(ctx, call{in: &in, limit: limit}, "rev-list", "--max-count=1", "--ignore-missing", "--stdin")
	return err == nil && len(bytes.TrimSpace(out)) > 0, err
}

// noteOthers names the branches of the agent's whose commits the result lacks.
func (h *harvester) noteOthers(ctx context.Context, tip string, a *agent) {
	const most = 20
	var names []string
	for ref, id := range a.refs {
		if id != tip && !a.lentSet[id] {
			names = append(names, ref)
		}
	}
	sort.Strings(names)
	if len(names) > most {
		h.note("the task has %d branches of its own; only the first %d are looked at", len(names), most)
		names = names[:most]
	}
	for _, ref := range names {
		fresh, err := h.isNew(ctx, h.p.Limits.Ask, a, a.refs[ref], tip)
		if status(err) == -1 { // one that blocks is enough
			h.note("the branches of the task besides its own cannot be read, %s the first", quotePath(strings.TrimPrefix(ref, "refs/heads/")))
			return
		}
		if !fresh {
			continue
		}
		if ref == "refs/stash" {
			h.note("the task left work in a stash, which is not part of the result")
			continue
		}
		h.note("the branch %s of the task has commits that the result lacks", quotePath(strings.TrimPrefix(ref, "refs/heads/")))
	}
}
