package worktree

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// insideBaseGit is our own git directory, inside the sandbox of the job that
// makes a base. The files stand where a task's tree does, at the repository's
// own path.
const insideBaseGit = "/rcc/git"

// What a base is made in, in the folder of the entry to be.
const (
	workName  = "making"
	workGit   = workName + "/git"
	workFiles = workName + "/files" // a full base
	workLayer = workName + "/layer" // a layer: "upper" and "work" of an overlay
)

// baseTime bounds a job that makes files. The largest repositories take minutes.
const baseTime = time.Hour

// baseJob is git at work on the files of a base. It runs in a sandbox because
// what a commit holds is data of people whom the user need not trust.
type baseJob struct {
	repo *Repo
	spec BaseSpec
	dir  string // of the entry that is being made
}

// prepare makes the git directory: the settings that decide how blobs become
// files, as in a task's own (writePrivate), no filter, no hook, and the
// repository's objects by reference.
func (j *baseJob) prepare() ([]Mount, error) {
	stores, err := objectStores(filepath.Join(j.repo.CommonDir, "objects"))
	if err != nil {
		return nil, err
	}
	g := gitDir{
		head:   "refs/heads/base",
		config: formatConfig(j.repo.Format) + "[core]\n\tbare = false\n\tfilemode = true\n" + j.repo.carriedConfig(),
	}
	for _, s := range stores {
		g.alternates = append(g.alternates, s.Target)
	}
	git := filepath.Join(j.dir, workGit)
	if err := os.MkdirAll(filepath.Dir(git), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make a base: %w", err)
	}
	if err := g.write(git); err != nil {
		return nil, err
	}
	t := Tree{Stores: stores, UID: -1}
	if j.spec.MapOwner {
		t.UID = 0 // any: the stores of a private repository are mapped
	}
	return append(t.storeMounts(), Mount{Source: git, Target: insideBaseGit, Writable: true, MapOwner: j.spec.MapOwner}), nil
}

// run runs git with mounts. What git says of its progress goes to spec.Progress.
func (j *baseJob) run(ctx context.Context, mounts []Mount, args ...string) error {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot make a base: %w", err)
	}
	defer null.Close()
	says, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer says.Close()
	ctx, cancel := context.WithTimeout(ctx, baseTime)
	defer cancel()
	wait, err := j.spec.Confine(ctx, Job{
		Name: "making of a base",
		Args: append([]string{
			"git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0",
			// The hash of the index is half of what a layer costs; ours is written
			// anyway (git 2.40 and newer know the setting).
			"-c", "index.version=2", "-c", "index.skipHash=true", "-c", "checkout.workers=0", "-c", "checkout.thresholdForParallelism=1000",
		}, args...),
		Env: []string{
			"PATH=" + filepath.Dir(j.repo.git.path) + ":/usr/local/bin:/usr/bin:/bin", "HOME=/nonexistent",
			"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
			// Without this, git says nothing in the first two seconds.
			"GIT_PROGRESS_DELAY=0",
			"GIT_DIR=" + insideBaseGit, "GIT_WORK_TREE=" + j.repo.Path,
		},
		Dir: j.repo.Path, Mounts: mounts, Files: []*os.File{null, null, theirs}, Limit: baseTime,
	})
	theirs.Close()
	if err != nil {
		return fmt.Errorf("cannot start git for a base: %w", err)
	}
	// A helper of git's that lives on may hold the pipe; the sandbox ends it
	// before wait returns.
	said := make(chan string, 1)
	go func() { said <- readProgress(says, j.spec.Progress) }()
	st, err := wait()
	_ = says.SetReadDeadline(time.Now().Add(time.Second))
	last := lastLine(<-said)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("cannot make a base: %w", ctx.Err())
	case err != nil:
		return fmt.Errorf("cannot make a base: %w", err)
	case st != 0:
		return &GitError{Args: args, Status: st, Stderr: last}
	}
	return nil
}

// readProgress reads git's standard error to its end, reports its progress and
// returns the last of what is something else. git writes "Updating files:  12%
// (9360/78000)" with a carriage return behind it (progress.c).
func readProgress(from io.Reader, report func(done, total int)) string {
	last := &tail{max: stderrCap}
	sc := bufio.NewScanner(from)
	sc.Buffer(nil, 1<<16)
	sc.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := strings.IndexAny(string(data), "\r\n"); i >= 0 {
			return i + 1, data[:i], nil
		}
		if atEOF && len(data) == 0 {
			return 0, nil, io.EOF
		}
		if atEOF || len(data) >= 1<<15 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	for sc.Scan() {
		if done, total, ok := parseProgress(sc.Text()); !ok {
			_, _ = last.Write(append(sc.Bytes(), '\n'))
		} else if report != nil {
			report(done, total)
		}
	}
	_, _ = io.Copy(io.Discard, from)
	return last.String()
}

func parseProgress(line string) (done, total int, ok bool) {
	if !strings.HasPrefix(line, "Updating files:") {
		return 0, 0, false
	}
	_, counts, _ := strings.Cut(line, "(")
	counts, _, _ = strings.Cut(counts, ")")
	a, b, _ := strings.Cut(counts, "/")
	done, err1 := strconv.Atoi(a)
	total, err2 := strconv.Atoi(b)
	return done, total, errors.Join(err1, err2) == nil
}

// umask is ours, which the files of a base are made with: umask(2) cannot be
// asked without being set, which is a race (proc(5), "Umask").
func umask() (string, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", fmt.Errorf("cannot learn the umask: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Umask:"); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", errors.New("cannot learn the umask: /proc/self/status does not say it")
}

// bootID tells one boot of the machine from another (random(4)).
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot learn the boot: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
