package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// propertyCases is how many random changes are tried with each kind of tree,
// unless RCC_CASES says otherwise.
const propertyCases = 200

// TestSameTreeAsGit makes random changes in a task's tree and in a plain clone:
// what rcc takes over must be the tree that git add -A records in the clone.
func TestSameTreeAsGit(t *testing.T) {
	bin, cases, seed := randomChanges(t, "RCC_CASES", propertyCases)
	for _, kind := range testTrees {
		t.Run(kind, func(t *testing.T) {
			const workers = 4
			for w := range workers {
				t.Run(strconv.Itoa(w), func(t *testing.T) {
					t.Parallel()
					p := newProperty(t, filepath.Join(bin, kind, "rcc"))
					for n := w; n < cases && !t.Failed(); n += workers {
						p.try(n, rand.New(rand.NewPCG(seed, uint64(n))))
					}
				})
			}
		})
	}
}

// randomChanges is what a test of random changes begins with: the folder of the
// binaries, how many changes to try unless the variable says otherwise, and what
// they follow from.
func randomChanges(t *testing.T, variable string, n int) (bin string, count int, seed uint64) {
	t.Helper()
	if !scriptHasUserns() {
		lacking(t, "userns")
	}
	bin, err := testBinDir()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		n = m
	}
	seed = uint64(time.Now().UnixNano())
	if m, err := strconv.ParseUint(os.Getenv("RCC_SEED"), 10, 64); err == nil {
		seed = m
	}
	t.Logf("RCC_SEED=%d", seed)
	return bin, n, seed
}

// property is a repository with tasks, and a clone of it.
type property struct {
	t    *testing.T
	dir  string
	rcc  string
	env  []string
	base string // tree of the commit that all start from
}

func newProperty(t *testing.T, rcc string) *property {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "rcc-property-")
	if err != nil {
		t.Fatal(err)
	}
	p := &property{t: t, dir: dir, rcc: rcc}
	p.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"XDG_STATE_HOME=" + dir + "/state", "XDG_CACHE_HOME=" + dir + "/cache", "XDG_CONFIG_HOME=" + dir + "/config",
	}
	t.Cleanup(func() {
		p.run(dir, "chmod", "-R", "u+rwx", dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	p.run(dir, "git", "config", "--global", "user.name", "Tester")
	p.run(dir, "git", "config", "--global", "user.email", "t@example.org")
	p.run(dir, "git", "init", "-q", "-b", "main", dir+"/proj")
	p.run(dir+"/proj", "bash", "-c", propertyStart+"\ngit add -A && git add -f kept.o && git commit -qm start")
	p.base = p.run(dir+"/proj", "git", "rev-parse", "HEAD^{tree}")
	p.run(dir, "git", "clone", "-q", dir+"/proj", dir+"/clone")
	return p
}

// propertyStart makes the files that every case starts from.
const propertyStart = `set -e
mkdir -p d/e/f d/g lib/x lib/y 'sp ace'
for i in 1 2 3; do echo top $i >t$i; echo d $i >d/d$i; echo e $i >d/e/e$i; echo f $i >d/e/f/f$i; echo g $i >d/g/g$i; echo x $i >lib/x/x$i; done
echo y >lib/y/y; echo s >'sp ace/s'; echo n >$'new\nline'; echo b >$'by\xffte'; echo u >ünder; echo c >:colon
printf '#!/bin/sh\n' >run.sh; chmod 755 run.sh; ln -s t1 link; ln -s d dirlink; ln -s nowhere lib/broken
printf '*.o\n/out/\n!kept.o\n' >.gitignore; echo o >kept.o; printf 'f3\n' >d/e/.gitignore; printf '*.txt text eol=crlf\n' >.gitattributes; printf 'one\ntwo\n' >eol.txt`

func (p *property) run(dir, name string, args ...string) string {
	p.t.Helper()
	return p.piped(time.Minute, "", dir, name, args...)
}

// piped is run with something to read, and a time of its own.
func (p *property) piped(limit time.Duration, in, dir, name string, args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = dir, p.env
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(in), &out, &errs
	if err := c.Run(); err != nil {
		p.t.Fatalf("%q: %v\n%s%s", append([]string{name}, args...), err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String())
}

func (p *property) try(n int, r *rand.Rand) {
	script := propertyScript(r)
	id := "case" + strconv.Itoa(n)
	var wg sync.WaitGroup
	want, clone := "", filepath.Join(p.dir, "clone-"+id)
	wg.Go(func() {
		p.run(p.dir, "cp", "-a", p.dir+"/clone", clone)
		p.run(clone, "bash", "-c", script)
		p.run(clone, "git", "add", "-A")
		want = p.run(clone, "git", "write-tree")
	})
	p.run(p.dir+"/proj", p.rcc, "run", "--keep", "--name", id, "--", "bash", "-c", script)
	wg.Wait()
	got := p.base
	if p.run(p.dir+"/proj", "git", "for-each-ref", "refs/heads/rcc/"+id) != "" {
		got = p.run(p.dir+"/proj", "git", "rev-parse", "refs/heads/rcc/"+id+"^{tree}")
	}
	if got == want {
		p.run(p.dir, "rm", "-rf", clone)
		p.run(p.dir+"/proj", p.rcc, "discard", id)
		if n%20 == 0 {
			p.run(p.dir+"/proj", p.rcc, "gc", "--all")
		}
		return
	}
	p.t.Errorf("case %d: rcc took over a tree other than that of git add -A; the changes were:\n%s\nfrom git's tree to rcc's:\n%s", n, script,
		p.run(clone, "env", "GIT_ALTERNATE_OBJECT_DIRECTORIES="+p.dir+"/proj/.git/objects", "git", "diff-tree", "-r", want, got))
}

// Paths that changes are made at: those that are there, new ones, and ones that
// lie below what is a file.
var propertyPaths = []string{
	"t1", "t2", "t3", "d", "d/d1", "d/d2", "d/e", "d/e/e1", "d/e/e2", "d/e/f", "d/e/f/f1", "d/e/f/f3", "d/g", "d/g/g1", "lib", "lib/x", "lib/x/x1", "lib/y", "lib/y/y", "lib/broken",
	"'sp ace'", "'sp ace/s'", `$'new\nline'`, `$'by\xffte'`, "ünder", ":colon", "run.sh", "link", "dirlink", "kept.o", ".gitignore", "d/e/.gitignore", "eol.txt",
	"new", "d/new", "n/e/w", "lib/x/deep/er", "a.o", "d/b.o", "out", "out/x", "out/kept.o", `$'\x01odd'`, "'q\"uote'", "-dash", "'*'", "t1/below", "d/e/e1/below", "more.txt", "d/more.txt", ".hidden", "d/g/.gitignore",
}

// propertyScript is a random list of changes. Changes that cannot be made, such
// as a file below a file, fail alike in both places.
func propertyScript(r *rand.Rand) string {
	path := func() string { return propertyPaths[r.IntN(len(propertyPaths))] }
	var b strings.Builder
	b.WriteString("exec 2>/dev/null\n")
	for range 1 + r.IntN(14) {
		p, q, n := path(), path(), r.IntN(1000)
		parent := fmt.Sprintf(`mkdir -p -- "$(dirname -- ./%s)"; `, q)
		switch r.IntN(24) {
		case 0, 1, 2:
			fmt.Fprintf(&b, "%s echo %d >./%s\n", parent, n, q)
		case 3, 4:
			fmt.Fprintf(&b, "test -f ./%s && echo %d >>./%s\n", p, n, p)
		case 5, 6:
			fmt.Fprintf(&b, "rm -rf ./%s\n", p)
		case 7, 8, 9:
			fmt.Fprintf(&b, "%s mv -- ./%s ./%s\n", parent, p, q)
		case 10:
			fmt.Fprintf(&b, "test -L ./%s || chmod -R %s ./%s\n", p, []string{"+x", "-x,+X", "u+x"}[r.IntN(3)], p)
		case 11:
			// None leads to a file that is there outside: git's side runs on the host, and later changes follow links.
			fmt.Fprintf(&b, "%s ln -sfn %s ./%s\n", parent, []string{"t1", "d", "../up", "/proc/none", "."}[r.IntN(5)], q)
		case 12:
			fmt.Fprintf(&b, "mkdir -p ./%s\n", q)
		case 13:
			fmt.Fprintf(&b, "rm -rf ./%s; mkdir -p ./%s && echo %d >./%s/in\n", p, p, n, p)
		case 14:
			fmt.Fprintf(&b, "test -d ./%s && rm -rf ./%s && echo %d >./%s\n", p, p, n, p)
		case 15:
			fmt.Fprintf(&b, "test -d ./%s && cp -a ./%s save%d && rm -rf ./%s && mv save%d ./%s\n", p, p, n, p, n, p)
		case 16:
			fmt.Fprintf(&b, "cp -a ./%s copy%d\n", p, n)
		case 17:
			fmt.Fprintf(&b, "touch -h ./%s\n", p)
		case 18: // another content with the same size and time, which git may miss in the second after a copy was made
			fmt.Fprintf(&b, `test -f ./%[1]s && ! test -L ./%[1]s && touch -r ./%[1]s ref%[2]d && tr a-z b-za <./%[1]s >same%[2]d && cat same%[2]d >./%[1]s; test -n "$RCC_TASK" && touch -r ref%[2]d ./%[1]s; rm -f same%[2]d ref%[2]d`+"\n", p, n)
		case 19:
			fmt.Fprintf(&b, "echo '%s' >>./%s\n", []string{"*.o", "!*.o", "/new", "d/*", "!d/d1", "in", "copy*", "/out", "!/out"}[r.IntN(9)], []string{".gitignore", "d/.gitignore", "lib/.gitignore"}[r.IntN(3)])
		case 20:
			b.WriteString("git add -A && git commit -qm work\n")
		case 21:
			fmt.Fprintf(&b, "git add -f -- ./%s\n", p)
		case 22:
			fmt.Fprintf(&b, "git rm -rq --cached -- ./%s && git commit -qm untracked\n", p)
		case 23:
			fmt.Fprintf(&b, "test -f ./%[1]s && chmod 600 ./%[1]s\n", p)
		}
	}
	// Last, and in the task alone: whoever opens a pipe waits, git add too.
	fmt.Fprintf(&b, "test -n \"$RCC_TASK\" && mkfifo ./%s\ntrue\n", path())
	return b.String()
}
