package worktree

import (
	"bytes"
	"context"
	"errors"
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
	forced  []string          // paths in its index, which may be ignored ones that were added by force
	sparse  map[string]bool   // paths that its sparse checkout leaves out of the tree
	lent    []string          // ids of the refs that it was given
	lentSet map[string]bool
}

// readAgent asks the agent's git directory for its refs, its index and its
// objects. The directory may be anything: a file, a link, a pipe that blocks
// who opens it. Whatever fails only means that less is known; then the base and
// the files in the tree are the result.
func (h *harvester) readAgent(ctx context.Context) *agent {
	a := &agent{refs: map[string]string{}, sparse: map[string]bool{}, lentSet: map[string]bool{}}
	if h.p.FilesOnly {
		h.note("the task's git directory cannot be used: its commits are lost, its files are taken")
		return a
	}
	h.readLent(a)
	dir := filepath.Join(h.p.Tree, ".git")
	ask := func(args ...string) ([]byte, error) {
		// GIT_ALLOW_PROTOCOL: a promisor remote in its configuration would be
		// asked for missing objects, by a program that the configuration names.
		env := []string{"GIT_NO_REPLACE_OBJECTS=1", "GIT_ALLOW_PROTOCOL=none"}
		return h.git.run(ctx, call{dir: "/", limit: h.p.Limits.Ask, env: env}, append([]string{"--git-dir=" + dir}, args...)...)
	}
	if err := h.askRefs(a, ask); err != nil {
		h.note("the task's git directory cannot be read, only its files are taken: %s", lastLine(err.Error()))
		a.refs = map[string]string{}
		return a
	}
	h.judge(ctx, a)
	h.askIndex(a, ask)
	return a
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

func (h *harvester) askRefs(a *agent, ask func(...string) ([]byte, error)) error {
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

// askIndex reads two things from the agent's index that the tree alone does
// not tell: ignored files that were added by force, and files that a sparse
// checkout left out (they are not deleted).
func (h *harvester) askIndex(a *agent, ask func(...string) ([]byte, error)) {
	out, err := ask("ls-files", "-z", "-t", "--cached")
	if err != nil {
		return
	}
	for _, entry := range splitNul(out) {
		tag, path, ok := strings.Cut(entry, " ")
		if !ok || path == "" {
			continue
		}
		if tag == "S" {
			a.sparse[path] = true
		} else {
			a.forced = append(a.forced, path)
		}
	}
}

// furthest chooses the result when nothing is uncommitted. An agent that went
// back to look at another commit, or to a branch that it was given, has its
// work on the task's branch.
func (h *harvester) furthest(ctx context.Context, parent string, a *agent) string {
	if a.branch == "" || a.branch == parent {
		return parent
	}
	_, err := h.h(ctx, nil, "merge-base", "--is-ancestor", parent, a.branch)
	if err == nil || !h.isNew(ctx, a, parent) {
		return a.branch
	}
	return parent
}

// isNew says whether id is a commit that neither the refs that the agent was
// given nor those of except contain.
func (h *harvester) isNew(ctx context.Context, a *agent, id string, except ...string) bool {
	var in bytes.Buffer
	in.WriteString(id + "\n^" + h.p.Base + "\n")
	for _, x := range except {
		in.WriteString("^" + x + "\n")
	}
	for _, x := range a.lent {
		in.WriteString("^" + x + "\n")
	}
	out, err := h.run(ctx, call{in: &in, limit: connectTime}, "rev-list", "--max-count=1", "--ignore-missing", "--stdin")
	return err == nil && len(bytes.TrimSpace(out)) > 0
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
		if !h.isNew(ctx, a, a.refs[ref], tip) {
			continue
		}
		if ref == "refs/stash" {
			h.note("the task left work in a stash, which is not part of the result")
			continue
		}
		h.note("the branch %s of the task has commits that the result lacks", quotePath(strings.TrimPrefix(ref, "refs/heads/")))
	}
}
