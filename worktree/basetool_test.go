package worktree

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// stageJob builds a root of its own in a mount namespace: the host's folders,
// and the job's mounts over them. $1 is an empty folder, $2 the folder to run
// in, then the program. The mounts come as lines of shell.
const stageJob = `set -e
PATH=$PATH:/usr/sbin:/sbin
root=$1 dir=$2
shift 2
mount -t tmpfs none "$root"
for d in /*; do
	if [ -L "$d" ]; then cp -P "$d" "$root$d"
	elif [ -d "$d" ]; then mkdir "$root$d"; mount --rbind "$d" "$root$d"; fi
done
%s
exec chroot "$root" sh -c 'cd "$1"; shift; exec "$@"' sh "$dir" "$@"
`

// staged runs jobs with their real mounts and no other confinement.
func staged(ctx context.Context, j Job) (func() (int, error), error) {
	root, err := os.MkdirTemp("", "stage")
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for _, m := range j.Mounts {
		target := `"$root"` + m.Target
		switch {
		case m.Empty:
			fmt.Fprintf(&b, "mount --bind /dev/null %s\n", target)
		case len(m.Lower) == 0:
			fmt.Fprintf(&b, "mkdir -p %s\nmount --bind %s %s\n", target, m.Source, target)
			if !m.Writable {
				fmt.Fprintf(&b, "mount -o remount,bind,ro %s || true\n", target)
			}
		default:
			var dirs []string
			for _, l := range m.Lower {
				dirs = append(dirs, l.Dir)
			}
			options := "userxattr,lowerdir=" + strings.Join(dirs, ":")
			if m.Upper != "" {
				options += ",upperdir=" + m.Upper + "/upper,workdir=" + m.Upper + "/work"
			}
			fmt.Fprintf(&b, "mkdir -p %s\nmount -t overlay -o %s none %s\n", target, options, target)
		}
	}
	args := []string{"-m"}
	if os.Geteuid() != 0 {
		args = []string{"-rm"}
	}
	args = append(args, "env", "-i", "PATH="+os.Getenv("PATH"))
	args = append(append(args, j.Env...), "sh", "-c", fmt.Sprintf(stageJob, b.String()), "sh", root, j.Dir)
	cmd := exec.CommandContext(ctx, "unshare", append(args, j.Args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = j.Files[0], j.Files[1], j.Files[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (int, error) {
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode(), os.Remove(root)
	}, nil
}

// baker makes bases of a world's repository.
type baker struct {
	*world
	repo  *Repo
	cache *Cache
	inUse map[string]bool
	plain map[string]string // what a checkout of a commit looks like
}

func newBaker(t *testing.T, format string) *baker {
	t.Helper()
	return bakerOf(newWorld(t, format))
}

func bakerOf(w *world) *baker {
	b := &baker{world: w, repo: w.open(), cache: OpenCache(filepath.Join(w.dir, "cache")), inUse: map[string]bool{}, plain: map[string]string{}}
	b.cache.rules.floor = 1
	b.cache.rules.share = 1000
	return b
}

func (b *baker) spec(commit string) BaseSpec {
	return BaseSpec{Commit: commit, Confine: staged, InUse: func() (map[string]bool, error) { return b.inUse, nil }}
}

// base finds or makes the base of a commit and compares it with a checkout.
func (b *baker) base(commit string) *Base {
	b.t.Helper()
	base, err := b.cache.Base(b.t.Context(), b.repo, b.spec(commit))
	if err != nil {
		b.t.Fatalf("base: %v", err)
	}
	b.t.Cleanup(base.Release)
	if err := base.Check(); err != nil {
		b.t.Fatalf("check: %v", err)
	}
	b.compare(base, commit)
	if base.Made {
		again, err := b.cache.Base(b.t.Context(), b.repo, b.spec(commit))
		if err != nil {
			b.t.Fatalf("base: %v", err)
		}
		defer again.Release()
		if err := again.Check(); err != nil || again.Made {
			b.t.Fatalf("a base does not stay: %v", err)
		}
	}
	return base
}

const listTree = `find . -name .git -prune -o -printf '%y %m %p %l\n' | sort
find . -name .git -prune -o -type f -print0 | sort -z | xargs -0r sha256sum`

// compare looks at a base as a task would see it.
func (b *baker) compare(base *Base, commit string) {
	b.t.Helper()
	key := commit + b.repo.carriedConfig()
	if b.plain[key] == "" {
		plain := b.world.t.TempDir()
		b.sh(b.dir, "git", "clone", "-q", "--no-checkout", b.world.repo, plain)
		b.sh(plain, "sh", "-c", `git config core.autocrlf "$(git -C "$1" config core.autocrlf)"; git checkout -q "$2"`, "sh", b.world.repo, commit)
		b.plain[key] = b.sh(plain, "sh", "-c", listTree)
	}
	// diff-files takes every file for changed whose numbers are not the index's.
	got, unfit, _ := strings.Cut(b.inside(base, listTree+`
echo; echo ======
git diff-files --raw; git diff-index --cached `+commit+`; git ls-files -o; find . -type f -newer /rcc/git/index`), "\n\n======")
	same(b.t, "the base", b.plain[key], got)
	if unfit != "" {
		b.t.Errorf("the index does not fit: %s", unfit)
	}
	index, err := os.ReadFile(base.Index)
	if err != nil {
		b.t.Fatal(err)
	}
	n := 0
	if _, err := indexEntries(index, b.repo.Format, func(_, _ []byte) { n++ }); err != nil || n != base.Files {
		b.t.Errorf("%d of %d entries, %v", n, base.Files, err)
	}
}

// inside runs a script in the base's tree.
func (b *baker) inside(base *Base, script string) string {
	b.t.Helper()
	j := &baseJob{repo: b.repo, spec: b.spec(""), dir: b.t.TempDir()}
	mounts, err := j.prepare()
	if err != nil {
		b.t.Fatal(err)
	}
	b.sh(b.dir, "cp", "--preserve=timestamps", base.Index, filepath.Join(j.dir, workGit, "index"))
	out, err := os.Create(filepath.Join(j.dir, "out"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	wait, err := staged(b.t.Context(), Job{
		Args: []string{"sh", "-ec", script}, Dir: b.repo.Path, Mounts: append(mounts, treeMount(b.repo, base, j.spec)),
		Env:   []string{"GIT_DIR=" + insideBaseGit, "GIT_WORK_TREE=" + b.repo.Path, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_OPTIONAL_LOCKS=0"},
		Files: []*os.File{nil, out, out},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	st, err := wait()
	data, rerr := os.ReadFile(out.Name())
	if st != 0 || err != nil || rerr != nil {
		b.t.Fatalf("%q ended with %d, %v, %v: %s", script, st, err, rerr, data)
	}
	return strings.TrimSuffix(string(data), "\n")
}

// keys lists what the folder of bases holds, hidden names too.
func (b *baker) names() []string {
	b.t.Helper()
	entries, err := os.ReadDir(b.cache.path(baseKind, ""))
	if err != nil {
		b.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names
}

// bakerName is the argv[0] of a process that makes a base. Its arguments are
// the cache, the repository, the commit, the layer limit.
const bakerName = "rcc-baker"

func bakerMain() int {
	g, err := NewGit(os.Environ())
	if err != nil {
		return 2
	}
	r, err := g.Open(context.Background(), os.Args[2])
	if err != nil {
		return 2
	}
	c := OpenCache(os.Args[1])
	c.rules.floor, c.rules.share = 1, 1000
	c.rules.layers, _ = strconv.Atoi(os.Args[4])
	fmt.Println("open")
	none := func() (map[string]bool, error) { return nil, nil }
	b, err := c.Base(context.Background(), r, BaseSpec{Commit: os.Args[3], Confine: staged, InUse: none})
	if err == nil {
		err = b.Check()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"made": b.Made, "layers": len(b.Layers)})
	return 0
}

// another starts such a process.
func (b *baker) another(commit string, layers int) (*exec.Cmd, *strings.Builder) {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(self, b.cache.dir, b.world.repo, commit, strconv.Itoa(layers))
	cmd.Args[0], cmd.Env = bakerName, slices.Concat(b.environ, []string{"TMPDIR=" + os.TempDir()})
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	return cmd, out
}
