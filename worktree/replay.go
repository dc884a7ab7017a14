package worktree

import (
	"bytes"
	"fmt"
	"strings"
)

// rebase puts the task's commits one after the other on the target. Merge
// commits are left out and commits that change nothing any more are dropped, as
// git-rebase(1) does.
func (m *merger) rebase() (string, error) {
	out, err := m.r.run(m.ctx, "rev-list", "--reverse", "--topo-order", "--no-merges", m.spec.Tip, "--not", m.spec.Base, m.onto)
	if err != nil {
		return "", fmt.Errorf("cannot list the task's commits: %w", err)
	}
	at := m.onto
	for _, id := range strings.Fields(string(out)) {
		if at, err = m.replay(id, at); err != nil {
			return "", err
		}
	}
	if at == m.onto {
		return "", ErrNothing
	}
	return at, nil
}

// replay applies one commit on top of another.
func (m *merger) replay(id, onto string) (string, error) {
	c, err := m.readCommit(id)
	if err != nil {
		return "", err
	}
	if len(c.parents) == 1 && c.parents[0] == onto {
		return id, nil // it stands there already
	}
	before, err := m.r.treeOf(m.ctx, onto)
	if err != nil {
		return "", err
	}
	tree, err := m.replayTree(c, onto)
	if ce, ok := err.(*ConflictError); ok {
		ce.Commit = id
	}
	if err != nil {
		return "", err
	}
	if tree == before && !c.empty {
		return onto, nil
	}
	author := call{env: c.authorEnv(), config: m.r.identConfig()}
	if c.encoding != "" {
		author.config = append(author.config, "i18n.commitEncoding="+c.encoding)
	}
	return m.commitAs(author, tree, c.message, onto)
}

// replayTree merges a commit's change into another commit's tree. The two
// sides are given the commit's parent as their only common ancestor, so that it
// is the merge base whatever the history says.
func (m *merger) replayTree(c *commitData, onto string) (string, error) {
	parent, theirs := "", c.id
	if len(c.parents) > 0 {
		parent = c.parents[0]
	} else {
		// A root commit: an empty one takes the place of its parent.
		empty, err := m.r.git.run(m.ctx, call{dir: m.r.dir()}, "mktree")
		if err != nil {
			return "", fmt.Errorf("cannot make an empty tree: %w", err)
		}
		if parent, err = m.plainCommit(strings.TrimSpace(string(empty))); err != nil {
			return "", err
		}
		if theirs, err = m.plainCommit(c.tree, parent); err != nil {
			return "", err
		}
	}
	ours, err := m.pretend(onto, parent)
	if err != nil {
		return "", err
	}
	return m.mergeTrees(ours, theirs)
}

// pretend makes a commit with the tree of one commit and another as its only
// parent. Nothing refers to it; git's gc removes it one day.
func (m *merger) pretend(commit, parent string) (string, error) {
	tree, err := m.r.treeOf(m.ctx, commit)
	if err != nil {
		return "", err
	}
	return m.plainCommit(tree, parent)
}

// plainCommit is always the same for the same tree and parents.
func (m *merger) plainCommit(tree string, parents ...string) (string, error) {
	c := call{env: []string{
		"GIT_AUTHOR_NAME=rcc", "GIT_AUTHOR_EMAIL=rcc@localhost", "GIT_AUTHOR_DATE=@0 +0000",
		"GIT_COMMITTER_NAME=rcc", "GIT_COMMITTER_EMAIL=rcc@localhost", "GIT_COMMITTER_DATE=@0 +0000",
	}}
	return m.commitTree(c, []string{"commit-tree"}, tree, "rcc: for a merge\n", parents...)
}

// commitData is what a commit object says.
type commitData struct {
	id, tree string
	parents  []string
	author   string // the line's value: name <address> seconds zone
	encoding string
	message  string
	empty    bool // it changes nothing against its parent
}

func (m *merger) readCommit(id string) (*commitData, error) {
	out, err := m.r.run(m.ctx, "cat-file", "commit", id)
	if err != nil {
		return nil, fmt.Errorf("cannot read commit %s: %w", short(id), err)
	}
	c := parseCommit(out)
	c.id = id
	if len(c.parents) == 1 {
		before, err := m.r.treeOf(m.ctx, c.parents[0])
		if err != nil {
			return nil, err
		}
		c.empty = before == c.tree
	}
	return c, nil
}

// parseCommit reads a commit object that fsck has passed.
func parseCommit(data []byte) *commitData {
	head, message, _ := bytes.Cut(data, []byte("\n\n"))
	c := &commitData{message: string(message)}
	for line := range strings.SplitSeq(string(head), "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "tree":
			c.tree = value
		case "parent":
			c.parents = append(c.parents, value)
		case "author":
			c.author = value
		case "encoding":
			c.encoding = value
		}
	}
	return c
}

// authorEnv keeps a commit's author. git refuses an empty name; then the
// commit is the user's.
func (c *commitData) authorEnv() []string {
	open, end := strings.IndexByte(c.author, '<'), strings.LastIndexByte(c.author, '>')
	if open < 0 || end < open {
		return nil
	}
	name, email, date := strings.TrimSpace(c.author[:open]), c.author[open+1:end], strings.TrimSpace(c.author[end+1:])
	if strings.Trim(name, " .,:;<>\"\\'\x00\t") == "" {
		return nil
	}
	env := []string{"GIT_AUTHOR_NAME=" + name, "GIT_AUTHOR_EMAIL=" + email}
	if date != "" {
		env = append(env, "GIT_AUTHOR_DATE=@"+date)
	}
	return env
}
