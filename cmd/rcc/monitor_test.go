package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// monitorSteps is how many batches of changes are tried in one task, unless
// RCC_STEPS says otherwise.
const monitorSteps = 50

// TestStatusAsWithoutMonitor makes random changes, with and without git, in a
// task whose git asks our hook what changed. After each batch git must say the
// same as it does when it looks at every file.
func TestStatusAsWithoutMonitor(t *testing.T) {
	bin, steps, seed := randomChanges(t, "RCC_STEPS", monitorSteps)
	p := newProperty(t, filepath.Join(bin, "overlay", "rcc"))
	proj := p.dir + "/proj"
	// So many files that the hook is configured.
	p.run(proj, "bash", "-c", `mkdir many && cd many && for d in {1..102}; do mkdir $d; for f in {1..100}; do echo $f >$d/$f; done; done
		git add . && git commit -qm many && echo more >>1/1 && git commit -qam more && git rm -rq 2 && git commit -qm less`)
	r := rand.New(rand.NewPCG(seed, 0))
	// The second half runs in another sandbox, on other layers.
	for i, args := range [][]string{{"task", "monitor", "--name", "monitor", "--"}, {"exec", "monitor", "--"}} {
		if i == 1 {
			p.run(p.dir, "chmod", "-R", "u+rwx", p.dir+"/cache")
			p.run(p.dir, "rm", "-rf", p.dir+"/cache")
		}
		said := p.piped(10*time.Minute, monitorScript(r, steps/2), proj, p.rcc, append(args, "bash")...)
		if i == 0 && !strings.HasPrefix(said, "asked: 1\n") {
			t.Errorf("git did not ask the hook:\n%s", said)
		}
		if !strings.HasSuffix(said, "as without") {
			t.Fatalf("git says something else than without the hook:\n%s", said)
		}
	}
}

// monitorStart is the head of the script. check compares what git says with the
// hook and without; the other way round, git would have noted what it found.
const monitorStart = `exec 3>&1 2>/dev/null
# rcc refuses a result with a repository in it.
echo '/w[0-9]*' >>.git/info/exclude
set +e; git config advice.detachedHead false; start=$(git rev-parse HEAD); here=$PWD
echo asked: $(GIT_TRACE=1 git status 2>&1 | grep -c rcc-fsmonitor) >&3
says() {
	git "$@" status --porcelain=v1 -uall; git "$@" diff --name-status; git "$@" diff --name-status HEAD; git "$@" diff-index HEAD | cut -f2
}
check() {
	test -d .git || { test -L .git && rm .git; git init -q; }
	cp -p .git/index /tmp/index || rm -f /tmp/index
	GIT_INDEX_FILE=/tmp/index git -c core.fsmonitor=false status --porcelain=v1 -uall >/tmp/want
	git status --porcelain=v1 -uall >/tmp/got
	cmp -s /tmp/want /tmp/got || { echo "step $1: status"; diff /tmp/want /tmp/got; exit; } >&3
	cp -p .git/index /tmp/index
	GIT_INDEX_FILE=/tmp/index says -c core.fsmonitor=false >/tmp/want
	says >/tmp/got
	cmp -s /tmp/want /tmp/got || { echo "step $1: diff"; diff /tmp/want /tmp/got; exit; } >&3
}
calm() { git rebase --abort; git merge --abort; git cherry-pick --abort; git am --abort; rm -f .git/index.lock; }
`

// monitorScript is a random list of batches with a check after each.
func monitorScript(r *rand.Rand, steps int) string {
	var b strings.Builder
	b.WriteString(monitorStart)
	for n := range steps {
		b.WriteString("# step " + strconv.Itoa(n) + "\n")
		if r.IntN(4) > 0 {
			for line := range strings.Lines(propertyScript(r)) {
				if !strings.HasPrefix(line, "exec ") && !strings.Contains(line, "mkfifo") && r.IntN(2) == 0 {
					b.WriteString("{ " + strings.TrimSuffix(strings.ReplaceAll(line, "\n", ""), ";") + "; } </dev/null\n")
				}
			}
		}
		for range r.IntN(4) {
			b.WriteString("{ " + monitorCommand(r, n) + "; } </dev/null >/dev/null; cd $here\n")
		}
		if r.IntN(10) == 0 {
			b.WriteString("sleep 1.1\n")
		}
		fmt.Fprintf(&b, "check %d\n", n)
		if r.IntN(12) == 0 {
			b.WriteString("{ calm; git stash drop; git update-index --no-split-index --no-untracked-cache --index-version 2; git checkout -qf -B work $start; git clean -qfdx; } >/dev/null </dev/null\n")
		}
	}
	b.WriteString("calm; rm -rf w[0-9]*; check last; echo as without >&3\n")
	return b.String()
}

// monitorCommand is something to do with git.
func monitorCommand(r *rand.Rand, n int) string {
	path := func() string {
		if r.IntN(3) == 0 {
			return fmt.Sprintf("many/%d/%d", 1+r.IntN(6), 1+r.IntN(100))
		}
		return propertyPaths[r.IntN(len(propertyPaths))]
	}
	p, q := path(), path()
	commit := []string{"HEAD", "HEAD~1", "HEAD~2", "$start", "$start~1", "$start~2"}[r.IntN(6)]
	list := []string{
		"git add -A", "git add ./" + p, "git add -u", "git add -N ./" + p, "git commit -qam work", "git commit -q --allow-empty -m none", "git commit -qm part -- ./" + p,
		"git reset -q --soft " + commit, "git reset -q " + commit, "git reset -q --hard " + commit, "git reset -q -- ./" + p,
		"git checkout -q " + commit + " -- .", "git checkout -q " + commit + " -- ./" + p, "git checkout -qf " + commit, "git checkout -q -B other " + commit, "git restore ./" + p,
		"git stash push -q", "git stash push -q -u", "git stash push -q -- ./" + p, "git stash pop -q", "git stash apply -q --index",
		"git rm -rq --cached ./" + p, "git rm -rqf ./" + p, "git mv -k ./" + p + " ./" + q, "git mv -f ./" + p + " ./" + q + "; rm -rf ./" + q,
		"git commit -qam x; git rebase -q --force-rebase HEAD~2", "git commit -qam x; git rebase -q --apply HEAD~2 --onto $start", "git cherry-pick " + commit, "git merge -q --no-edit " + commit,
		"git diff --binary HEAD " + commit + " >/tmp/p; git apply --index /tmp/p; rm -rf ./" + p, "git diff --binary HEAD " + commit + " >/tmp/p; git apply /tmp/p",
		"git format-patch -q -1 --stdout >/tmp/p; git reset -q --hard HEAD~1; git am -q /tmp/p; rm -f ./" + p,
		"git read-tree " + commit, "git read-tree -m -u HEAD " + commit, "git read-tree --empty", "git update-index --refresh", "git update-index --chmod=+x ./" + p,
		"git update-index --index-version 4", "git update-index --index-version 2", "git update-index --split-index", "git update-index --no-split-index",
		"git update-index --untracked-cache", "git update-index --no-untracked-cache", "git update-index --force-remove ./" + p, "git checkout-index -f -a",
		"git config core.fsmonitor false; git status; git config --unset core.fsmonitor", "rm -f .git/index", "cp -p .git/index /tmp/old", "test -f /tmp/old && cp -p /tmp/old .git/index",
		"GIT_INDEX_FILE=/tmp/other git read-tree " + commit + "; GIT_INDEX_FILE=/tmp/other git status; GIT_INDEX_FILE=/tmp/other git add -A; cp /tmp/other .git/index",
		fmt.Sprintf("git worktree add -qf --detach /tmp/w%d; cd /tmp/w%d && echo x >>t1; git status; git commit -qam w", n, n),
		fmt.Sprintf("git worktree add -qf --detach w%d; cd w%d && echo x >>t1; git status; git commit -qam w", n, n),
		"git status & git status & echo x >>./" + p + "; git status; wait", "git clean -qfd", "git status --porcelain -- d", "(cd d && git status)",
		"rm -rf many/3; mkdir many/3; echo new >many/3/1", "mkdir x1 x2; cp d/* x1; cp lib/x/* x2; git add -f x1 x2; git status; mv x1 x3; mv x2 x1; mv x3 x2",
	}
	return list[r.IntN(len(list))]
}
