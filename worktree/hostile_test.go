package worktree

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// evil is a git configuration in which every key that runs something leaves a
// nonce.
func evil(nonce string) string {
	run := "touch " + nonce
	var b strings.Builder
	for _, kv := range [][2]string{
		{"core.fsmonitor", run},
		{"core.pager", run},
		{"core.editor", run},
		{"core.sshCommand", run},
		{"core.askPass", run},
		{"core.gitProxy", run},
		{"core.alternateRefsCommand", run},
		{"diff.external", run},
		{"pager.diff", run},
		{"filter.x.clean", run},
		{"filter.x.smudge", run},
		{"filter.x.process", run},
		{"diff.x.textconv", run},
		{"diff.x.command", run},
		{"merge.x.driver", run},
		{"gpg.program", run},
		{"credential.helper", "!" + run},
		{"uploadpack.packObjectsHook", run},
		{"commit.gpgsign", "true"},
		{"alias.rev-parse", "!" + run},
		{"alias.for-each-ref", "!" + run},
		{"sequence.editor", run},
		{"interactive.diffFilter", run},
	} {
		i := strings.LastIndexByte(kv[0], '.')
		fmt.Fprintf(&b, "git config '%s' '%s'\n", kv[0][:i]+kv[0][i:], kv[1])
	}
	return strings.TrimSuffix(b.String(), "\n")
}

const hooks = `; mkdir -p .git/hooks
for h in pre-commit post-checkout post-index-change reference-transaction post-commit pre-auto-gc fsmonitor-watchman; do
	printf '#!/bin/sh\ntouch %s\n' "$NONCE" > .git/hooks/$h; chmod +x .git/hooks/$h
done`

func TestHostileTree(t *testing.T) {
	const work = "echo four >> a.txt; git commit -qam work; echo left > left.txt;"
	for _, tc := range []struct {
		name, script string
		commits      bool   // the agent's commits survive
		note         string // said about it
		control      string // a plain git command on which the nonce appears
	}{
		{name: "config and hooks", script: "EVIL; HOOKS; echo '*.txt filter=x diff=x merge=x' > .gitattributes", commits: true, control: "git add -A"},
		{name: "config.worktree", script: "git config extensions.worktreeConfig true; git config --worktree core.fsmonitor 'touch NONCE'", commits: true, control: "git status"},
		{name: "nested repository", script: "mkdir n; cd n; git init -q .; EVIL; HOOKS; echo '* filter=x' > .gitattributes; echo s > secret.txt; echo '* filter=x' > .git/info/attributes; git -c core.fsmonitor=false -c core.hooksPath=/x -c commit.gpgsign=false -c filter.x.clean= -c filter.x.process= -c filter.x.required=false commit -q --allow-empty -m n; rm -f NONCE", commits: true, note: "repository of its own", control: "git -C n status"},
		{name: "nested bare repository", script: "git init -q --bare b.git; git --git-dir=b.git config core.fsmonitor 'touch NONCE'; git --git-dir=b.git config core.bare false; git --git-dir=b.git config core.worktree ..", commits: true, control: "git -C b.git status"},
		{name: "no git directory", script: "rm -rf .git", note: "git directory"},
		{name: "empty git directory", script: "rm -rf .git; mkdir .git", note: "git directory"},
		{name: "git file elsewhere", script: "mv .git elsewhere; echo 'gitdir: elsewhere' > .git", commits: true},
		{name: "git file nowhere", script: "rm -rf .git; echo 'gitdir: /nonexistent/x' > .git", note: "git directory"},
		{name: "git link", script: "mv .git elsewhere; ln -s elsewhere .git", commits: true},
		{name: "git link to the real one", script: "rm -rf .git; ln -s REPO/.git .git", note: ""},
		{name: "git pipe", script: "rm -rf .git; mkfifo .git", note: "git directory"},
		{name: "commondir", script: "mkdir evil; cp -r .git/. evil/; (cd evil; git --git-dir=. config core.fsmonitor 'touch NONCE'); echo ../evil > .git/commondir", commits: true, control: "git status"},
		{name: "alternates to nowhere", script: "echo /nonexistent > .git/objects/info/alternates", commits: true},
		{name: "alternates in a circle", script: "echo \"$PWD/.git/objects\" >> .git/objects/info/alternates", commits: true},
		{name: "alternates as a pipe", script: "rm .git/objects/info/alternates; mkfifo .git/objects/info/alternates", note: "only its files"},
		{name: "HEAD as a pipe", script: "rm .git/HEAD; mkfifo .git/HEAD", note: "git directory"},
		{name: "config as a pipe", script: "rm .git/config; mkfifo .git/config", note: "git directory"},
		{name: "index as a pipe", script: "rm .git/index; mkfifo .git/index", commits: true},
		{name: "broken index", script: "echo garbage > .git/index", commits: true},
		{name: "broken config", script: "echo '[[[' > .git/config", note: "git directory"},
		{name: "include of a pipe", script: "mkfifo .git/p; git config include.path p", note: "git directory"},
		{name: "missing object", script: "rm -f .git/objects/$(git rev-parse HEAD^{tree} | sed 's,^..,&/,')", note: "only its files"},
		{name: "HEAD to an option", script: "echo 'ref: refs/heads/--upload-pack=x' > .git/HEAD", commits: true, note: "its branch is taken"},
		{name: "replace refs", script: "git replace -f HEAD HEAD~1", commits: true},
		{name: "grafts", script: "git rev-parse HEAD > .git/info/grafts", commits: true},
		{name: "shallow", script: "git rev-parse HEAD > .git/shallow", commits: true},
		{name: "promisor", script: "git config core.repositoryformatversion 1; git config extensions.partialClone o; git config remote.o.url /nonexistent; git config remote.o.promisor true; git config remote.o.uploadpack 'touch NONCE;'; git config protocol.allow always; echo 1234567890123456789012345678901234567890 > .git/refs/heads/gone", commits: true, control: "git cat-file -e 1234567890123456789012345678901234567890"},
		{name: "ignore file as a pipe", script: "rm .gitignore; mkfifo .gitignore", commits: true, note: "a pipe"},
		{name: "attributes as a pipe", script: "mkfifo .gitattributes dir/.gitattributes; echo x > dir/new", commits: true, note: "a pipe"},
		{name: "special files", script: "mkfifo p; rm dir/b.txt; mkfifo dir/b.txt", commits: true, note: "a pipe: p"},
		{name: "dot git in other spellings", script: "mkdir .GIT 'git~1' '.git '; touch .GIT/config 'git~1/config' '.git /config' '.git::$DATA'", commits: true, note: ".git on some file system"},
		{name: "dirs without permissions", script: "mkdir shut; echo x > shut/x; chmod 0 shut", commits: true},
		{name: "tree without permissions", script: "chmod 0 .", commits: true},
		{name: "deep", script: "d=x; for i in 1 2 3 4 5 6 7 8 9 10; do d=$d/$d; test ${#d} -lt 1500 || break; done; mkdir -p $d; touch $d/f", commits: true},
		{name: "odd names", script: "printf x > \"$(printf 'a\\nb')\"; printf x > ./-x; printf x > ':(top)x'; printf x > '*'; printf x > \"$(printf '\\377')\"; printf x > '\"'", commits: true},
		{name: "modules as a link", script: "ln -s a.txt .gitmodules", commits: true, note: "symbolic link in the place of .gitmodules"},
		{name: "link loops", script: "ln -s . loop; ln -s l2 l1; ln -s l1 l2; ln -s / root; ln -s ../../../../etc out2", commits: true},
		{name: "folder becomes link", script: "rm -r dir; ln -s /etc dir", commits: true},
	} {
		for _, kind := range kinds {
			t.Run(tc.name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "sha1")
				if strings.Contains(tc.name, "pipe") {
					w.limits.Ask = 3 * time.Second
				}
				nonce := filepath.Join(w.dir, "nonce")
				r, tree := w.kind("t", kind, nil)
				before := w.fingerprint(w.repo, true)
				script := strings.NewReplacer("EVIL", evil(nonce), "HOOKS", "EVIL_NONCE="+nonce+strings.ReplaceAll(hooks, "$NONCE", "$EVIL_NONCE"), "NONCE", nonce, "REPO", w.repo).Replace(tc.script)
				w.agent(tree, work+script)
				t.Cleanup(func() { exec.Command("chmod", "-R", "u+rwx", tree.top()).Run() })
				h := w.harvest(r, tree)
				if err := tree.Accept(t.Context(), r, h.Tip); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Lstat(nonce); err == nil {
					t.Fatal("the nonce was left: something of the agent's ran")
				}
				same(t, "the repository", w.without(before), w.fingerprint(w.repo, false))
				if !slices.Contains(w.files(h.Tip), "left.txt") || !strings.Contains(w.g("show", h.Tip+":a.txt"), "four") {
					t.Errorf("the files are lost: %q", w.files(h.Tip))
				}
				if got := strings.Contains(w.g("log", "--format=%s", h.Tip), "work"); got != tc.commits {
					t.Errorf("commits survive: %v, want %v (notes %q)", got, tc.commits, h.Notes)
				}
				if tc.note != "" && !has(h.Notes, tc.note) {
					t.Errorf("notes %q, want %q", h.Notes, tc.note)
				}
				if strings.Contains(w.g("ls-tree", "-r", h.Tip), "160000") {
					t.Error("the result has a gitlink")
				}
				if tc.control != "" {
					out := w.agent(tree, "("+tc.control+") 2>&1 || true")
					if _, err := os.Lstat(nonce); err != nil {
						t.Errorf("no control: %q left no nonce: %s", tc.control, out)
					}
				}
				if tree.overlay() {
					return // not removed here
				}
				if err := tree.Remove(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestNestedRepositoryComesAsFiles(t *testing.T) {
	w := newWorld(t, "sha1")
	r, tree := w.task("t", false)
	w.agent(tree, "git init -q n; echo s > n/f; mkdir n/sub; echo s > n/sub/g; git -C n add -A; git -C n commit -qm n")
	h := w.accept(r, tree)
	if got, want := w.files(h.Tip), []string{".gitignore", "a.txt", "dir/b.txt", "n/f", "n/sub/g"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	// The control: git add makes a link of it, and the content is gone from view.
	w.agent(tree, "rm .git/index; git add -A")
	if got := w.agent(tree, "git ls-files -s n"); !strings.HasPrefix(got, "160000") {
		t.Errorf("no control: %q", got)
	}
}

// badResults are results that the host must not take. reason is what the
// harvester says, and host what the host says when the harvester lets it pass.
var badResults = []struct {
	name, script string
	reason, host string
	lim          Limits
}{
	{name: "gitlink", script: "git update-index --add --cacheinfo 160000,1234567890123456789012345678901234567890,sub; git commit -qm x", reason: "another repository"},
	{name: "gitlink in history only", script: "git update-index --add --cacheinfo 160000,1234567890123456789012345678901234567890,sub; git commit -qm x; git rm -q --cached sub; git commit -qm y", reason: "another repository"},
	{name: "gitlink in an old folder", script: "git update-index --add --cacheinfo 160000,1234567890123456789012345678901234567890,dir/sub; git commit -qm x", reason: "another repository"},
	{name: "gitlink in the place of a file", script: "git update-index --cacheinfo 160000,1234567890123456789012345678901234567890,a.txt; git commit -qm x", reason: "another repository"},
	{name: "dot git", script: "EVILTREE .git", reason: "on some file system", host: "hasDotgit"},
	{name: "dot dot", script: "EVILTREE ..", reason: "a way out", host: "hasDotdot"},
	{name: "git short name", script: "EVILTREE GIT~1", reason: "on some file system", host: "hasDotgit"},
	{name: "modules link", script: "ln -s x y; b=$(printf x | git hash-object -w --stdin); t=$(printf '120000 blob %s\\t.gitmodules\\n' $b | git mktree); git update-ref HEAD $(git commit-tree -p HEAD -m x $t)", reason: "gitmodules"},
	{name: "bad mode", script: "git cat-file tree HEAD^{tree} | sed 's/100644 a/100777 a/' > T; t=$(git hash-object -t tree --literally -w T); rm T; git update-ref HEAD $(git commit-tree -p HEAD -m x $t)", reason: "mode"},
	{name: "bytes", script: "head -c 2000000 /dev/zero > z; git add z; git commit -qm z", lim: Limits{Bytes: 1 << 20}, reason: "MiB"},
	{name: "wire", script: "head -c 2000000 /dev/urandom > z; git add z; git commit -qm z", lim: Limits{Wire: 1 << 20}, reason: "on the wire"},
	{name: "objects", script: "mkdir m; for i in $(seq 50); do echo $i > m/$i; done; git add -A; git commit -qm m; git rm -rq m; git commit -qm n", lim: Limits{Objects: 20}, reason: "new objects"},
	{name: "deep", script: "mkdir -p 1/2/3/4/5/6; touch 1/2/3/4/5/6/x; git add -A; git commit -qm d", lim: Limits{Depth: 5}, reason: "deep"},
	{name: "long path", script: "mkdir -p 1/2/3/4/5/6; touch 1/2/3/4/5/6/x; git add -A; git commit -qm d", lim: Limits{Path: 12}, reason: "path longer"},
	{name: "bomb", script: bomb + "git update-ref HEAD $(git commit-tree -p HEAD -m x $o)", reason: "unfolds"},
	{name: "bomb in history", script: bomb + "x=$(git commit-tree -p HEAD -m x $o); git update-ref HEAD $(git commit-tree -p $x -m y HEAD^{tree})", reason: "unfolds"},
	{name: "bomb of the base's folders", script: "o=$(git rev-parse HEAD:dir); for i in $(seq 12); do o=$(for j in 0 1 2 3 4 5 6 7 8 9; do printf '040000 tree %s\\t%s\\n' $o $j; done | git mktree); done; git update-ref HEAD $(git commit-tree -p HEAD -m x $o)", reason: "unfolds"},
	{name: "commit size", script: "x=$(head -c 2000000 /dev/zero | tr '\\0' x | git commit-tree -p HEAD HEAD^{tree}); git update-ref HEAD $x", reason: "message"},
}

const bomb = "b=$(echo | git hash-object -w --stdin); l='100644 blob'; o=$b; for i in $(seq 12); do o=$(for j in 0 1 2 3 4 5 6 7 8 9; do printf '%s %s\\t%s\\n' \"$l\" $o $j; done | git mktree); l='040000 tree'; done; "

// makeBad brings a tree to a bad result.
func (w *world) makeBad(tree *Tree, script string) {
	w.t.Helper()
	name, ok := strings.CutPrefix(script, "EVILTREE ")
	if !ok {
		w.agent(tree, script)
		return
	}
	blob, err := hex.DecodeString(w.agent(tree, "echo x | git hash-object -w --stdin"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("raw", "100644 "+name+"\x00"+string(blob))
	w.agent(tree, "git update-ref HEAD $(git commit-tree -p HEAD -m x $(git hash-object -t tree --literally -w "+w.dir+"/raw))")
}

func TestRefused(t *testing.T) {
	for _, tc := range badResults {
		for _, lying := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/lying=%v", tc.name, lying), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "sha1")
				r, tree := w.kind("t", kinds[len(tc.name)%2], nil)
				before := w.fingerprint(w.repo, true)
				w.makeBad(tree, tc.script)
				how, want := Confine(confine), tc.reason
				if lying {
					how = w.lie(tree, "")
					if tc.host != "" {
						want = tc.host
					}
				}
				_, err := tree.Harvest(t.Context(), r, how, HarvestOptions{Limits: tc.lim})
				var re *RefusedError
				if !errors.As(err, &re) || !strings.Contains(re.Reason, want) {
					t.Fatalf("got %v, want %q", err, want)
				}
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("more than a line: %q", err)
				}
				same(t, "the repository", before, w.fingerprint(w.repo, true))
				if _, err := os.Lstat(tree.path(incomingName)); err == nil {
					t.Error("the quarantine is not empty")
				}
			})
		}
	}
}

// The host's own parser and limits hold without fsck too.
func TestCheckAlone(t *testing.T) {
	for _, tc := range badResults {
		if tc.name == "wire" {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "sha1")
			r, tree := w.task("t", false)
			w.makeBad(tree, tc.script)
			tip := w.agent(tree, "git rev-parse HEAD")
			if err := tree.makeIncoming(r); err != nil {
				t.Fatal(err)
			}
			w.write(filepath.Join(tree.path(incomingName), "objects/info/alternates"), in(tree, ".git/objects")+"\n")
			w.write(filepath.Join(tree.path(incomingName), tipRef), tip+"\n")
			err := tree.check(t.Context(), r, tip, tc.lim.orDefault())
			if !isRefused(err) || !strings.Contains(err.Error(), tc.reason) {
				t.Fatalf("got %v, want %q", err, tc.reason)
			}
		})
	}
}

// lie is a harvester that was taken over: it reports what it likes and serves
// the agent's objects as they are.
func (w *world) lie(tree *Tree, tip string) Confine {
	return func(ctx context.Context, j Job) (func() (int, error), error) {
		real := w.agent(tree, "git rev-parse HEAD")
		if tip == "" {
			tip = real
		}
		if err := json.NewEncoder(j.Files[reportFD]).Encode(harvestReport{Tip: tip}); err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, "git", "-C", w.repo, "pack-objects", "-q", "--revs", "--stdout", "--delta-base-offset")
		cmd.Env = append(w.environ[:len(w.environ):len(w.environ)], "GIT_OBJECT_DIRECTORY="+filepath.Join(tree.top(), ".git/objects"), "GIT_ALTERNATE_OBJECT_DIRECTORIES="+filepath.Join(w.repo, ".git/objects"))
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(real+"\n^"+tree.Base+"\n"), j.Files[1], j.Files[2]
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return func() (int, error) { _ = cmd.Wait(); return 0, nil }, nil
	}
}

func TestTipMustBeTheOneAnnounced(t *testing.T) {
	w := newWorld(t, "sha1")
	r, tree := w.task("t", false)
	w.agent(tree, "echo x > x; git add x; git commit -qm x")
	for _, tip := range []string{strings.Repeat("1", 40), w.g("rev-parse", "HEAD^{tree}")} {
		if _, err := tree.Harvest(t.Context(), r, w.lie(tree, tip), HarvestOptions{}); !isRefused(err) || !strings.Contains(err.Error(), "announced") {
			t.Errorf("%s: got %v", tip, err)
		}
	}
}

func TestHarvestEndsInTime(t *testing.T) {
	w := newWorld(t, "sha1")
	r, tree := w.task("t", false)
	w.agent(tree, "mkfifo .git/objects/pack/p; rm -rf .git/HEAD; mkfifo .git/HEAD; echo x > x")
	began := time.Now()
	_, err := tree.Harvest(t.Context(), r, confine, HarvestOptions{Limits: Limits{Time: time.Second}})
	if err == nil || time.Since(began) > 8*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}
