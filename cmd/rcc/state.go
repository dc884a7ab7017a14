package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rcc/isolate/egress"
	"rcc/worktree"
)

// States of a task, as `rcc list --json` has them.
const (
	stateRunning   = "running"   // a supervisor works on it
	stateReview    = "review"    // it is over and changed something
	stateEmpty     = "empty"     // it is over and changed nothing
	stateFailed    = "failed"    // it could not be started or taken over
	stateMerged    = "merged"    // its result is in a branch of the user's
	stateDiscarded = "discarded" // the user does not want it
)

// Record is what the host keeps of a task: record.json in its folder, written
// whole or not at all. Nothing in it was written by the agent but for what
// is named so.
type Record struct {
	Version  int       `json:"version"`
	ID       string    `json:"id"`
	State    string    `json:"state"`
	Phase    string    `json:"phase,omitempty"`  // while running: the step it is at
	Reason   string    `json:"reason,omitempty"` // why it failed, or what to know
	Notes    []string  `json:"notes,omitempty"`
	Branch   string    `json:"branch"`
	Base     string    `json:"base"`  // commit that the diff is against
	Start    string    `json:"start"` // commit that was asked for; differs from Base under --dirty
	Tip      string    `json:"tip"`   // commit of the result, "" while there is none
	Prompt   string    `json:"prompt"`
	Command  []string  `json:"command"`
	Env      []string  `json:"env,omitempty"` // names of variables of the caller that the command is given; what they hold is never written down
	Created  time.Time `json:"created"`
	Finished time.Time `json:"finished,omitzero"`
	Exit     *int      `json:"exit"` // null while it runs
	Files    int       `json:"files"`
	Added    int       `json:"added"`
	Removed  int       `json:"removed"`

	// Evaluated are the changed files that Nix or direnv would read on the host
	// after a merge. The agent chose their names.
	Evaluated []string `json:"evaluated,omitempty"`

	// LeftOut says that the agent left work that the result does not have, such
	// as another branch or a stash: the task's folder has the only copy.
	LeftOut bool `json:"leftOut,omitempty"`
	// Retry says that the work could not be taken over for a reason that may
	// pass, such as a full disk: gc tries again from Phase.
	Retry bool `json:"retry,omitempty"`

	// Filled says that the tree had all its files: before, nobody may work in it.
	Filled bool `json:"filled,omitempty"`

	Repository string        `json:"repository"`        // folder that rcc was started for
	Kind       string        `json:"kind,omitempty"`    // of tree, as asked for
	Carry      []string      `json:"carry,omitempty"`   // patterns of the configuration
	Include    bool          `json:"include,omitempty"` // and those of .worktreeinclude
	Dirty      bool          `json:"dirty,omitempty"`
	Run        bool          `json:"run,omitempty"`   // of rcc run: nothing is kept
	Shell      *shellRecord  `json:"shell,omitempty"` // nil: the host's tools
	Rules      *shellRules   `json:"rules,omitempty"` // of which files make a dev shell, when the task began
	Envrc      bool          `json:"envrc,omitempty"` // direnv starts its programs
	Terminal   bool          `json:"terminal,omitempty"`
	Timeout    time.Duration `json:"timeout,omitempty"` // nanoseconds

	NetFlags netFlags       `json:"netFlags,omitzero"` // of the way out, as the command line had them
	Network  *egress.Policy `json:"network,omitempty"` // what it may reach; nil: nothing
	Publish  []publish      `json:"publish,omitempty"` // ports of the sandbox that were asked for
	Ports    []port         `json:"ports,omitempty"`   // and those that there are
	Agent    string         `json:"agent,omitempty"`   // of the configuration, if one runs

	UID      int            `json:"uid"` // inside
	GID      int            `json:"gid"`
	HostUID  int            `json:"hostUID"` // as the host's kernel sees it
	HostGID  int            `json:"hostGID"`
	Tree     *worktree.Tree `json:"tree,omitempty"`
	MergedTo string         `json:"mergedTo,omitempty"`
	Hooks    []hook         `json:"hooks,omitempty"` // that are still to run when it is over or merged
}

const recordVersion = 1

// dirs are the folders that rcc keeps things in (XDG Base Directory
// Specification; a relative value is to be ignored).
type dirs struct{ State, Cache, Config string }

func findDirs(getenv func(string) string) (dirs, error) {
	home := getenv("HOME")
	pick := func(name, below string) (string, error) {
		if v := getenv(name); filepath.IsAbs(v) {
			return filepath.Join(v, "rcc"), nil
		}
		if !filepath.IsAbs(home) {
			return "", fmt.Errorf("cannot find a folder for rcc: set HOME or %s", name)
		}
		return filepath.Join(home, below, "rcc"), nil
	}
	var d dirs
	var errs [3]error
	d.State, errs[0] = pick("XDG_STATE_HOME", ".local/state")
	d.Cache, errs[1] = pick("XDG_CACHE_HOME", ".cache")
	d.Config, errs[2] = pick("XDG_CONFIG_HOME", ".config")
	for _, err := range errs {
		if err != nil {
			return d, err // one is enough: HOME mends them all
		}
	}
	return d, nil
}

// store is the part of the state folder that belongs to one repository.
type store struct{ dir string }

func (d dirs) store(key string) store { return store{filepath.Join(d.State, key)} }

// stores gives those of every repository that has one.
func (d dirs) stores() ([]store, error) {
	keys, err := subfolders(d.State)
	if err != nil {
		return nil, fmt.Errorf("cannot read the state folder: %w", err)
	}
	var out []store
	for _, key := range keys {
		out = append(out, d.store(key))
	}
	return out, nil
}

// subfolders lists a folder's folders but the hidden ones. One that is not there
// has none.
func subfolders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !hidden(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// lock takes the repository's lock: whoever makes, merges, discards or
// collects tasks holds it. It waits for another rcc; those hold it briefly.
func (s store) lock() (*os.File, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the state folder: %w", err)
	}
	f, err := openLock(filepath.Join(s.dir, "lock"))
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", s.dir, err)
		}
	}
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot write to the state folder: %w", err)
	}
	return f, nil
}

// task is a task's folder.
type task struct{ dir string }

func (s store) task(id string) task { return task{filepath.Join(s.dir, id)} }

func (t task) id() string              { return filepath.Base(t.dir) }
func (t task) path(name string) string { return filepath.Join(t.dir, name) }

// create makes a task's folder and its record, and gives the lock that says
// "somebody works on this task". The caller holds the repository's lock.
func (s store) create(r *Record) (task, *os.File, error) {
	t := s.task(r.ID)
	if err := os.Mkdir(t.dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return t, nil, fmt.Errorf("cannot name a task %s: there is one of that name; choose another with --name", r.ID)
		}
		return t, nil, fmt.Errorf("cannot write to the state folder: %w", err)
	}
	lock, err := t.tryLock()
	if err == nil {
		err = t.save(r)
	}
	if err != nil {
		if lock != nil {
			lock.Close()
		}
		os.RemoveAll(t.dir)
		return t, nil, err
	}
	return t, lock, nil
}

// errBusy says that another process works on the task.
var errBusy = errors.New("somebody works on this task")

// tryLock takes the task's lock, or gives errBusy. The lock lives as long as
// the open file, also in a process that inherited it (flock(2)), and the
// kernel lets it go however that process ends.
func (t task) tryLock() (*os.File, error) {
	f, err := openLock(t.path("lock"))
	if err != nil {
		return nil, err
	}
	// Who only looks whether somebody works on the task (busy) holds the lock
	// for a moment as well.
	for end := time.Now().Add(lockPatience); ; time.Sleep(2 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end):
			continue
		}
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errBusy
		}
		return nil, fmt.Errorf("cannot lock task %s: %w", t.id(), err)
	}
}

const lockPatience = 200 * time.Millisecond

// busy tells whether a living process works on the task.
func (t task) busy() bool {
	f, err := os.Open(t.path("lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// settle waits until a supervisor whose connection was lost is gone. The kernel
// closes a dying process's sockets a moment before it lets its locks go, and
// what is said of the task in between would not be true for long.
func (t task) settle() {
	for end := time.Now().Add(2 * time.Second); t.busy() && time.Now().Before(end); {
		time.Sleep(2 * time.Millisecond)
	}
}

// save writes the record. What a task came to reaches the disk at once; the
// steps on the way are only there for a crash of rcc, not of the machine.
func (t task) save(r *Record) error {
	r.Version = recordVersion
	return writeJSON(t.path("record.json"), r, r.State != stateRunning)
}

// load reads a record. A task that says "running" while nobody works on it was
// interrupted, and that is what the caller is told.
func (t task) load() (*Record, error) { return t.loadUnless(t.busy) }

// loadLocked is load for who holds the task's lock.
func (t task) loadLocked() (*Record, error) {
	return t.loadUnless(func() bool { return false })
}

func (t task) loadUnless(busy func() bool) (*Record, error) {
	var r Record
	err := readJSON(t.path("record.json"), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && r.Version != recordVersion {
		err = errors.New("it was written by another version of rcc")
	}
	if err != nil {
		// One broken record must not keep the user from the other tasks, nor
		// from discarding this one.
		return &Record{ID: t.id(), State: stateFailed, Branch: "rcc/" + t.id(), Reason: "its record cannot be read: " + oneLine(err)}, nil
	}
	if r.State == stateRunning && !busy() {
		// The end may have been written between the two looks.
		if err := readJSON(t.path("record.json"), &r); err != nil {
			return nil, err
		}
		if r.State == stateRunning {
			r.State = stateFailed
			r.Reason = fmt.Sprintf("interrupted while it was at %q; rcc gc takes over what it had done", r.Phase)
			r.Phase = "interrupted"
		}
	}
	return &r, nil
}

// interrupted tells whether load found a task whose supervisor died.
func (r *Record) interrupted() bool { return r.State == stateFailed && r.Phase == "interrupted" }

// tasks gives the repository's tasks, newest first. Folders without a record
// are left-overs of a creation that was killed; gc removes them.
func (s store) tasks() ([]*Record, error) {
	names, err := subfolders(s.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the state folder: %w", err)
	}
	var out []*Record
	for _, name := range names {
		r, err := s.task(name).load()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b *Record) int { return b.Created.Compare(a.Created) })
	return out, nil
}

// hidden are the names that no repository (Repo.Key) and no task (CheckID) can
// have.
func hidden(name string) bool { return strings.HasPrefix(name, ".") }

// find gives the task that an id or its unique beginning names.
func (s store) find(id string) (task, *Record, error) {
	all, err := s.tasks()
	if err != nil {
		return task{}, nil, err
	}
	var ids []string
	for _, r := range all {
		if !r.Run {
			ids = append(ids, r.ID)
		}
	}
	full, err := MatchID(id, ids)
	if err != nil {
		return task{}, nil, err
	}
	t := s.task(full)
	r, err := t.load()
	return t, r, err
}

// writeJSON replaces a file atomically: a reader, also after a crash, sees the
// old content or the new.
func writeJSON(path string, v any, sync bool) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(path, append(b, '\n'), sync); err != nil {
		return fmt.Errorf("cannot write %s: %w", filepath.Base(path), underlying(err))
	}
	return nil
}

func writeFile(path string, b []byte, sync bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	return nil
}

// underlying takes the operation and path off an error whose sentence names
// them already.
func underlying(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// shortID cuts a commit id for people.
func shortID(commit string) string {
	if len(commit) > 10 {
		return commit[:10]
	}
	return commit
}

// firstLine is the beginning of a text that may be long.
func firstLine(s string, n int) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
