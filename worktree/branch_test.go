package worktree

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNothingChanged(t *testing.T) {
	w := newWorld(t, "sha1")
	r, tree := w.task("t", false)
	w.agent(tree, "touch a.txt; touch x.o; chmod 600 a.txt")
	if h := w.harvest(r, tree); h.Tip != tree.Base || h.Uncommitted {
		t.Errorf("%+v", h)
	}
}

// Wherever the agent ended, its work is the result.
func TestWhereTheAgentEnded(t *testing.T) {
	for _, tc := range []struct{ name, script, log, note string }{
		{"own branch", "git checkout -qb mine; echo 1 > 1; git add 1; git commit -qm one", "one|start", ""},
		{"detached", "git checkout -q --detach; echo 1 > 1; git add 1; git commit -qm one", "one|start", ""},
		{"went back to main", "echo 1 > 1; git add 1; git commit -qm one; git checkout -q main", "one|start", ""},
		{"looks at another branch", "echo 1 > 1; git add 1; git commit -qm one; git checkout -q side", "one|start", ""},
		{"went back and left files", "echo 1 > 1; git add 1; git commit -qm one; git checkout -q main; echo 2 > 2", "left over|start", "branch rcc/t"},
		{"took in a branch it was given", "git merge -q side", "side|start", ""},
		{"deleted its branch", "echo 1 > 1; git add 1; git commit -qm one; git checkout -q --detach; git branch -qD rcc/t", "one|start", ""},
		{"orphan", "git checkout -q --orphan new; git rm -rqf .; echo 1 > 1; git add 1; git commit -qm alone", "alone", ""},
		{"unborn", "echo 1 > 1; git add 1; git commit -qm one; git checkout -q --orphan new", "one|start", "its branch is taken"},
		{"another branch", "echo 1 > 1; git add 1; git commit -qm one; git branch -q other; git reset -q --hard HEAD~1; echo 2 > 2", "left over|start", "branch other"},
		{"stash", "echo 1 >> a.txt; git stash -q; echo 2 > 2", "left over|start", "stash"},
		{"amended", "git commit -q --amend -m again; echo 1 > 1", "left over|again", ""},
		{"sparse", "git sparse-checkout set other; test ! -e dir; mkdir other; echo 1 > other/1", "left over|start", ""},
		{"staged only", "echo 1 > 1; git add 1; rm 1; echo 2 > 2", "left over|start", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "sha1")
			w.g("checkout", "-qb", "side")
			w.write("proj/side", "s\n")
			w.commit("side")
			w.g("checkout", "-q", "main")
			r, tree := w.task("t", false)
			w.agent(tree, tc.script)
			h := w.accept(r, tree)
			if got := strings.ReplaceAll(w.g("log", "--format=%s", h.Tip), "\n", "|"); got != tc.log {
				t.Errorf("log %q, want %q (notes %q)", got, tc.log, h.Notes)
			}
			if tc.note == "" && len(h.Notes) > 0 || !has(append(h.Notes, ""), tc.note) {
				t.Errorf("notes %q, want %q", h.Notes, tc.note)
			}
			if tc.name == "sparse" && !slices.Contains(w.files(h.Tip), "dir/b.txt") {
				t.Error("what the sparse checkout left out was deleted")
			}
		})
	}
}

func TestAcceptTwiceAndMoved(t *testing.T) {
	w := newWorld(t, "sha1")
	r, tree := w.task("t", false)
	w.agent(tree, "echo 1 > 1")
	first := w.accept(r, tree)
	if err := tree.Accept(t.Context(), r, first.Tip); err != nil {
		t.Error(err)
	}
	w.agent(tree, "for i in $(seq 150); do echo $i > f$i; done") // more than go loose
	second := w.accept(r, tree)
	if got := w.g("rev-parse", "rcc/t"); got != second.Tip {
		t.Errorf("branch is at %s", got)
	}
	if got := w.g("fsck", "--strict", "--no-dangling"); got != "" {
		t.Error(got)
	}
	if err := tree.Accept(t.Context(), r, first.Tip); err == nil {
		t.Error("an old tip was accepted")
	}
	w.g("update-ref", "refs/heads/rcc/t", "main")
	w.agent(tree, "echo 2 > 2")
	third := w.harvest(r, tree)
	if err := tree.Accept(t.Context(), r, third.Tip); err == nil || !strings.Contains(err.Error(), "was moved") {
		t.Errorf("over a moved branch: %v", err)
	}
}

// Killed before or after the ref was set, a later result is still taken.
func TestAcceptAfterACrash(t *testing.T) {
	w := newWorld(t, "sha1")
	r, tree := w.task("t", false)
	w.agent(tree, "echo 1 > 1")
	first := w.harvest(r, tree)
	if err := tree.setAccepted("", first.Tip); err != nil { // and the ref was not set
		t.Fatal(err)
	}
	if err := tree.Accept(t.Context(), r, first.Tip); err != nil {
		t.Fatal(err)
	}
	w.agent(tree, "echo 2 > 2")
	second := w.harvest(r, tree)
	r.halt = func(string) bool { return true } // the ref is set, the end is not noted
	if err := tree.Accept(t.Context(), r, second.Tip); !errors.Is(err, errHalted) {
		t.Fatal(err)
	}
	r.halt = nil
	w.agent(tree, "echo 3 > 3")
	w.accept(r, tree)
}

func TestAcceptClearsStaleLock(t *testing.T) {
	w := newWorld(t, "sha1")
	r, tree := w.task("t", false)
	w.agent(tree, "echo 1 > 1")
	w.write("proj/.git/refs/heads/rcc/t.lock", "")
	w.accept(r, tree)
	if _, err := os.Lstat(w.repo + "/.git/refs/heads/rcc/t.lock"); err == nil {
		t.Error("the lock is left")
	}
}

func TestDropAndRestore(t *testing.T) {
	w := newWorld(t, "sha1")
	r, tree := w.task("t", false)
	w.agent(tree, "echo 1 > 1")
	tip := w.accept(r, tree).Tip
	if _, sight, err := w.git.Look(t.Context(), w.repo, "HEAD", "t"); err != nil || !sight.Taken {
		t.Errorf("%+v, %v", sight, err)
	}
	if all, err := r.Branches(t.Context()); err != nil || len(all) != 1 || all["t"] != tip {
		t.Errorf("%v, %v", all, err)
	}
	if err := r.DropBranch(t.Context(), "t", tree.Base); err == nil {
		t.Error("dropped at another tip")
	}
	open := w.dir + "/opened"
	if err := r.OpenWorktree(t.Context(), "t", tree.Base, open); err != nil {
		t.Fatal(err)
	}
	if err := r.OpenWorktree(t.Context(), "t", tree.Base, open+"2"); err == nil || !strings.Contains(err.Error(), "is open at") {
		t.Errorf("opened twice: %v", err)
	}
	if err := r.DropBranch(t.Context(), "t", tip); err == nil || !strings.Contains(err.Error(), "git worktree remove") {
		t.Errorf("dropped while open: %v", err)
	}
	w.write("opened/loose", "x")
	if err := r.CloseWorktree(t.Context(), "t", tree.Base, open); err == nil {
		t.Error("closed with something in it")
	}
	os.Remove(open + "/loose")
	if err := r.CloseWorktree(t.Context(), "t", tree.Base, open); err != nil {
		t.Error(err)
	}
	if err := tree.RemoveWork(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.DropBranch(t.Context(), "t", tip); err != nil {
			t.Fatal(err)
		}
	}
	w.g("prune", "--expire=now")
	if err := tree.RestoreBranch(t.Context(), r, tip); err != nil {
		t.Fatal(err)
	}
	if got := w.g("show", "rcc/t:1"); got != "1" {
		t.Errorf("restored %q", got)
	}
}

func TestBranchNamesInTheWay(t *testing.T) {
	for name, want := range map[string]string{"rcc": "git branch -m rcc", "rcc/t": "use another name", "rcc/t/x": "use another name"} {
		w := newWorld(t, "sha1")
		w.g("branch", name)
		_, err := w.open().NewTree(t.Context(), TreeSpec{Dir: t.TempDir(), ID: "t", Base: w.g("rev-parse", "HEAD"), UID: -1})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, id := range []string{"", "..", "a/b", "a..b", "-x", ".x", "x.lock", "x.", "a b", "a\nb"} {
		if checkTaskID(id) == nil {
			t.Errorf("%q is taken for an id", id)
		}
	}
}

func TestLentRefs(t *testing.T) {
	w := newWorld(t, "sha1")
	w.g("tag", "-a", "v1", "-m", "v1")
	w.g("update-ref", "refs/remotes/origin/main", "HEAD")
	w.g("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
	w.g("branch", "rcc/other")
	w.g("update-ref", "refs/secret/x", "HEAD")
	w.g("remote", "add", "origin", "https://user:token@example.org/x")
	_, tree := w.task("t", false)
	got := w.agent(tree, "git for-each-ref --format='%(refname) %(objecttype)'; git symbolic-ref refs/remotes/origin/HEAD; git remote -v; git describe")
	want := "refs/heads/main commit\nrefs/heads/rcc/t commit\nrefs/remotes/origin/HEAD commit\nrefs/remotes/origin/main commit\nrefs/tags/v1 tag\nrefs/remotes/origin/main\nv1"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDiff(t *testing.T) {
	w := newWorld(t, "sha1")
	nonce := w.dir + "/nonce"
	w.write("proj/.gitattributes", "*.txt diff=evil\n")
	w.write("proj/long", strings.Repeat("line\n", 50))
	w.commit("attributes")
	for _, kv := range [][2]string{{"diff.evil.textconv", "touch " + nonce}, {"diff.evil.command", "touch " + nonce}, {"diff.external", "touch " + nonce}, {"diff.noprefix", "true"}, {"diff.mnemonicPrefix", "true"}, {"color.ui", "always"}, {"diff.renames", "false"}, {"diff.submodule", "log"}} {
		w.g("config", kv[0], kv[1])
	}
	r, tree := w.task("t", false)
	w.agent(tree, `echo four >> a.txt; printf '\0\1\2' > bin; git mv long "$(printf 'q\n"\377')"; git rm -q dir/b.txt; chmod +x a.txt; ln -s x link`)
	tip := w.accept(r, tree).Tip
	var patch bytes.Buffer
	if err := r.Diff(t.Context(), tree.Base, tip, DiffOptions{}, &patch); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(nonce); err == nil {
		t.Error("a program ran")
	}
	w.write("p", patch.String())
	w.g("apply", "--index", w.dir+"/p")
	if got, want := w.g("write-tree"), w.g("rev-parse", tip+"^{tree}"); got != want {
		t.Errorf("the patch gives %s, want %s:\n%s", got, want, patch.String())
	}
	st, err := r.Stat(t.Context(), tree.Base, tip)
	if err != nil || st.Files != 5 || st.Added != 2 || st.Removed != 1 || !slices.Contains(st.Paths, "q\n\"\xff") || !slices.Contains(st.Paths, "long") {
		t.Errorf("%+v, %v", st, err)
	}
	var out bytes.Buffer
	if err := r.Diff(t.Context(), tree.Base, tip, DiffOptions{Stat: true}, &out); err != nil || !strings.Contains(out.String(), "5 files changed") {
		t.Errorf("%q, %v", out.String(), err)
	}
	out.Reset()
	if err := r.Diff(t.Context(), tree.Base, tip, DiffOptions{Brief: true}, &out); err != nil || strings.Contains(out.String(), "\x1b[") || !strings.Contains(out.String(), "Binary files") {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// The result must not choose which of the user's filter drivers run.
func TestFiltersOfTheResult(t *testing.T) {
	for _, chosen := range []bool{true, false} {
		w := newWorld(t, "sha1")
		nonce := w.dir + "/nonce"
		w.g("config", "--global", "filter.a=b.smudge", "touch "+nonce+"; cat")
		w.g("config", "--global", "filter.a=b.clean", "cat")
		w.g("config", "--global", "filter.a=b.required", "true")
		if !chosen {
			w.write("proj/.gitattributes", "*.f filter=a=b\n")
			w.commit("attributes")
		}
		r, tree := w.task("t", false)
		script := "echo x > x.f"
		if chosen {
			script += "; mkdir sub; echo '*.f filter=a=b' > sub/.gitattributes; echo x > sub/y.f"
		}
		w.agent(tree, script)
		tip := w.accept(r, tree).Tip
		os.Remove(nonce)
		ran := func() bool {
			_, err := os.Lstat(nonce)
			os.Remove(nonce)
			return err == nil
		}
		if err := r.OpenWorktree(t.Context(), "t", tree.Base, w.dir+"/opened"); err != nil {
			t.Fatal(err)
		}
		if ran() == chosen {
			t.Errorf("open: the driver ran: %v", !chosen)
		}
		in := w.plan(r, MergeSpec{ID: "t", Base: tree.Base, Start: tree.Start, Tip: tip})
		if err := r.ApplyMerge(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if in.NoFilters != chosen || ran() == chosen {
			t.Errorf("merge: the driver ran: %v", !chosen)
		}
		os.Remove(filepath.Join(w.repo, "x.f"))
		if chosen {
			os.Remove(filepath.Join(w.repo, "sub/y.f"))
			w.g("checkout", "sub/y.f")
			if !ran() {
				t.Error("no control: plain git did not run the driver")
			}
		}
	}
}

func TestMergeInProgressIsRefused(t *testing.T) {
	w := newWorld(t, "sha1")
	r, _, spec := w.ready("t")
	for name, want := range map[string]string{"MERGE_HEAD": "a merge is in progress", "rebase-merge": "a rebase is in progress", "index.lock": "remove"} {
		path := filepath.Join(w.repo, ".git", name)
		w.write(path, "")
		if _, err := r.PlanMerge(t.Context(), spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		os.Remove(path)
	}
}

func TestRebaseKeepsAuthors(t *testing.T) {
	w := newWorld(t, "sha1")
	r, tree := w.task("t", false)
	w.agent(tree, `echo 1 > 1; git add 1; git commit -q --author='Ann Agent <ann@example.org>' --date='2001-02-03T04:05:06 +0700' -m "$(printf 'one\n\nbody')"
		git -c i18n.commitEncoding=ISO-8859-1 commit -q --allow-empty -m "$(printf 'caf\351')"
		git checkout -qb x HEAD~1; echo 2 > 2; git add 2; git commit -qm two; git checkout -q rcc/t; git merge -q --no-edit x`)
	h := w.accept(r, tree)
	w.write("proj/o", "o\n")
	w.commit("other")
	in := w.plan(r, MergeSpec{ID: "t", Base: tree.Base, Start: tree.Start, Tip: h.Tip, Mode: Rebase})
	got := w.g("log", "--reverse", "--format=%s|%an|%ad|%cn|%e|%p", "--date=iso", "main.."+in.New)
	if !strings.HasPrefix(got, "one|Ann Agent|2001-02-03 04:05:06 +0700|Ursula User||") || !strings.Contains(got, "café|Ursula User|") || !strings.Contains(got, "ISO-8859-1") || !strings.Contains(got, "two|") || strings.Contains(got, "Merge") {
		t.Errorf("log %q", got)
	}
	if w.g("log", "--reverse", "--format=%b", "main.."+in.New)[:4] != "body" {
		t.Error("the message is lost")
	}
}
