package worktree

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Accept moves a harvested and checked result into the repository: first its
// objects, then refs/heads/rcc/<id>. Nothing else is touched. The branch must
// be absent, or where the last Accept left it; a branch that somebody moved
// since is not overwritten.
func (t *Tree) Accept(ctx context.Context, r *Repo, tip string) error {
	if !isID(tip, r.Format) {
		return fmt.Errorf("cannot accept %q: it is not a commit id", inert(tip))
	}
	if got, err := t.received(); err != nil || got != tip {
		return fmt.Errorf("cannot accept %s: it is not what was received", short(tip))
	}
	old, err := r.Tip(ctx, t.ID)
	if err != nil {
		return err
	}
	if old != "" && old != tip && !slices.Contains(t.accepted(), old) {
		return fmt.Errorf("cannot move the branch rcc/%s: it was moved to %s since the last harvest; rename it: git branch -m rcc/%s NEW", t.ID, short(old), t.ID)
	}
	if old != tip {
		if err := t.moveObjects(ctx, r, tip); err != nil {
			return fmt.Errorf("cannot move the result into the repository: %w", err)
		}
		// Noted before it is done, with what was there: a crash between the two
		// leaves the branch at one of them.
		if err := t.setAccepted(old, tip); err != nil {
			return err
		}
		if err := r.setRef(ctx, t.branch(), tip, old, "rcc: result of "+t.ID); err != nil {
			return err
		}
		if err := r.step("accepted"); err != nil {
			return err
		}
	}
	return t.setAccepted(tip)
}

// accepted is what the branch was last set to; nothing when it never was.
func (t *Tree) accepted() []string {
	data, err := os.ReadFile(t.path(acceptedName))
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))
}

// setAccepted writes a new file and renames it, so that a crash leaves the old
// content or the new.
func (t *Tree) setAccepted(ids ...string) error {
	tmp := t.path(acceptedName + ".new")
	err := os.WriteFile(tmp, []byte(strings.Join(ids, "\n")+"\n"), 0o644)
	if err == nil {
		err = os.Rename(tmp, t.path(acceptedName))
	}
	if err != nil {
		return fmt.Errorf("cannot note what was accepted: %w", err)
	}
	return nil
}

// unpackLimit is git's own default for received packs (transfer.unpackLimit in
// git-config(1)): fewer objects become loose ones, so that many small tasks do
// not leave as many packs.
const unpackLimit = 100

// moveObjects packs what the repository does not have, down to the commit that
// was asked for (the snapshot of uncommitted work included), and unpacks or
// stores it there. A plain `git fetch` would read the user's fetch settings and
// might rewrite the shallow file.
func (t *Tree) moveObjects(ctx context.Context, r *Repo, tip string) error {
	rd, wr, err := os.Pipe()
	if err != nil {
		return err
	}
	defer rd.Close()
	c := t.onIncoming(call{in: strings.NewReader(tip + "\n^" + t.Start + "\n"), out: wr})
	wait, err := r.git.start(ctx, &c, "pack-objects", "--quiet", "--revs", "--stdout", "--delta-base-offset")
	wr.Close()
	if err != nil {
		return err
	}
	err = r.storePack(ctx, rd)
	rd.Close()
	if packErr := wait(); packErr != nil {
		return packErr
	}
	return err
}

// storePack takes a pack from a stream. Its header says how many objects it
// has (gitformat-pack(5)).
func (r *Repo) storePack(ctx context.Context, stream io.Reader) error {
	in := bufio.NewReader(stream)
	head, err := in.Peek(12)
	if err != nil {
		return errors.New("git pack-objects gave no pack")
	}
	args := []string{"index-pack", "--stdin"}
	if binary.BigEndian.Uint32(head[8:]) < unpackLimit {
		args = []string{"unpack-objects", "-q"}
	}
	_, err = r.git.run(ctx, call{dir: r.dir(), in: in}, args...)
	return err
}

// setRef moves a ref from old ("": absent) to new, or fails. A lock that a
// killed git left behind is cleared once.
func (r *Repo) setRef(ctx context.Context, ref, new, old, why string) error {
	if old == "" {
		old = zeroID(r.Format)
	}
	args := []string{"update-ref", "-m", why, ref, new, old}
	if ref == "HEAD" || strings.HasPrefix(ref, branchPrefix) {
		// Ours are never symbolic; a branch of the user's may be.
		args = append([]string{"update-ref", "--no-deref"}, args[1:]...)
	}
	update := func() error {
		_, err := r.run(ctx, args...)
		return err
	}
	err := update()
	if err == nil {
		return nil
	}
	if now, rerr := r.refValue(ctx, ref); rerr == nil && now == new {
		return nil
	}
	if cleared := r.clearRefLocks(ref, new); cleared {
		if err = update(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("cannot set %s: %w", ref, err)
}

// clearRefLocks removes the lock files that a killed update-ref of ours may
// have left, and says whether there was one.
func (r *Repo) clearRefLocks(ref, new string) bool {
	cleared := false
	for _, lock := range []string{filepath.Join(r.CommonDir, ref+".lock"), filepath.Join(r.GitDir, "HEAD.lock")} {
		if clearStaleLock(lock, new) {
			cleared = true
		}
	}
	return cleared
}
