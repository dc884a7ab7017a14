package worktree

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Sight is what a task has to know of a repository before it starts: one look,
// by processes that run beside each other.
type Sight struct {
	Commit string // what the revision names
	Tree   string // id of its tree
	Taken  bool   // the branch rcc/<id> is there

	top  map[string]topEntry // what is in its top folder, by name
	refs []byte              // as git for-each-ref has printed them
}

// A topEntry is what a tree object has under one name: the mode without leading
// zeros, and the id.
type topEntry struct{ mode, id string }

// Has tells whether the commit has something of that name in its top folder.
func (s *Sight) Has(name string) bool {
	_, ok := s.top[name]
	return ok
}

// File is the id of the content of a regular file in the top folder.
func (s *Sight) File(name string) (id string, ok bool) {
	e := s.top[name]
	return e.id, e.mode == "100644" || e.mode == "100755"
}

// Look opens the repository that dir, an absolute path, lies in, and looks at
// the commit that rev names and at the branch of a task.
func (g *Git) Look(ctx context.Context, dir, rev, id string) (*Repo, *Sight, error) {
	wait := g.startSight(ctx, dir, rev, id)
	r, err := g.Open(ctx, dir)
	s, seen := wait()
	if err != nil {
		return nil, nil, err
	}
	if seen != nil || !isID(s.Commit, r.Format) {
		// A revision that has to be asked for in another way, or none at all.
		commit, err := r.Resolve(ctx, rev)
		if err != nil {
			return nil, nil, err
		}
		if s, seen = r.git.startSight(ctx, dir, commit, id)(); seen != nil {
			return nil, nil, seen
		}
	}
	return r, s, nil
}

// Look is the same for a repository that is open.
func (r *Repo) Look(ctx context.Context, commit, id string) (*Sight, error) {
	return r.git.startSight(ctx, r.dir(), commit, id)()
}

func (g *Git) startSight(ctx context.Context, dir, rev, id string) func() (*Sight, error) {
	type listing struct {
		refs []byte
		err  error
	}
	listed := make(chan listing, 1)
	go func() {
		out, err := g.run(ctx, call{dir: dir}, lentRefsArgs...)
		listed <- listing{out, err}
	}()
	type answer struct {
		sight *Sight
		err   error
	}
	seen := make(chan answer, 1)
	go func() {
		s, err := g.askSight(ctx, dir, rev, id)
		seen <- answer{s, err}
	}()
	return func() (*Sight, error) {
		l, a := <-listed, <-seen
		if a.err != nil {
			return nil, a.err
		}
		if l.err != nil {
			return nil, fmt.Errorf("cannot list the refs: %w", l.err)
		}
		a.sight.refs = l.refs
		return a.sight, nil
	}
}

// askSight asks one process for all objects.
func (g *Git) askSight(ctx context.Context, dir, rev, id string) (*Sight, error) {
	if rev == "" || strings.ContainsAny(rev, "\x00\n") {
		return nil, errNotSeen
	}
	in := "info " + rev + "^{commit}\ncontents " + rev + "^{tree}\ninfo " + branchPrefix + id + "\n"
	out, err := g.run(ctx, call{dir: dir, in: strings.NewReader(in)}, "cat-file", "--batch-command")
	if err != nil {
		return nil, err
	}
	answers := bufio.NewReader(bytes.NewReader(out))
	commit, err := readInfo(answers)
	if err != nil || commit.kind != "commit" {
		return nil, errNotSeen
	}
	tree, err := readInfo(answers)
	if err != nil || tree.kind != "tree" {
		return nil, errNotSeen
	}
	data := make([]byte, tree.size+1)
	if _, err := io.ReadFull(answers, data); err != nil {
		return nil, errNotSeen
	}
	branch, err := readInfo(answers)
	if err != nil {
		return nil, errNotSeen
	}
	return &Sight{Commit: commit.id, Tree: tree.id, Taken: branch.kind != "", top: entriesIn(data[:tree.size], len(tree.id)/2)}, nil
}

// entriesIn is what a tree object of the user's own has: unlike parseTree, it has
// nothing to say about it.
func entriesIn(tree []byte, idBytes int) map[string]topEntry {
	entries := map[string]topEntry{}
	for {
		mode, rest, ok := bytes.Cut(tree, []byte(" "))
		if !ok {
			return entries
		}
		name, rest, ok := bytes.Cut(rest, []byte{0})
		if !ok || len(rest) < idBytes {
			return entries
		}
		entries[string(name)] = topEntry{string(mode), hex.EncodeToString(rest[:idBytes])}
		tree = rest[idBytes:]
	}
}

var errNotSeen = errors.New("git cat-file did not answer for the commit")

// object is the line in which git cat-file tells of one; kind is "" when there
// is no such object.
type object struct {
	id, kind string
	size     int64
}

// readInfo reads "<id> <type> <size>", or "<what was asked> missing", or the
// same with another word (git-cat-file(1), "BATCH OUTPUT").
func readInfo(r *bufio.Reader) (object, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return object{}, err
	}
	f := strings.Fields(line)
	if len(f) != 3 || !isID(f[0], "sha1") && !isID(f[0], "sha256") {
		return object{}, nil
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || size < 0 || size > maxTree && f[1] == "tree" {
		return object{}, nil
	}
	return object{f[0], f[1], size}, nil
}
