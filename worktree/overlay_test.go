package worktree

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// sameTrees are things that an agent does. In both kinds of tree the result is
// what `git add -A` makes of them in a plain clone.
var sameTrees = []struct {
	name, script string
	plain        string // run in the plain clone before `git add -A`
	note         string
}{
	{name: "nothing", script: "true"},
	{name: "status only", script: "git status"},
	{name: "edit", script: "echo x >> a.txt"},
	{name: "touched", script: "touch a.txt; chmod 600 dir/b.txt"},
	{name: "edited back", script: "cp a.txt A; echo x >> a.txt; cat A > a.txt; rm A"},
	{name: "add", script: "echo x > new; mkdir -p n/o/p; echo y > n/o/p/q; mkdir empty"},
	{name: "delete", script: "rm a.txt"},
	{name: "delete a folder", script: "rm -r deep"},
	{name: "delete all", script: "rm -rf a.txt dir deep .gitignore sub.o link"},
	{name: "delete in a folder", script: "rm deep/1/2/f deep/g"},
	{name: "delete and make again", script: "rm -r deep; mkdir deep; echo n > deep/n; mkdir deep/1; echo n > deep/1/n"},
	{name: "rename a file", script: "mv a.txt b.txt"},
	{name: "rename a folder", script: "mv deep shallow"},
	{name: "rename a folder into itself", script: "mv deep d; mkdir deep; mv d deep/d"},
	{name: "swap folders", script: "mv deep d; mv dir deep; mv d dir; echo x > dir/new"},
	{name: "folder becomes file", script: "rm -r deep; echo x > deep"},
	{name: "folder becomes link", script: "rm -r deep; ln -s dir deep"},
	{name: "folder becomes file and back", script: "rm -r deep; echo x > deep; rm deep; mkdir -p deep/1; echo z > deep/1/z"},
	{name: "file becomes folder", script: "rm a.txt; mkdir a.txt; echo x > a.txt/x"},
	{name: "file becomes link", script: "rm a.txt; ln -s dir/b.txt a.txt"},
	{name: "file becomes empty folder", script: "rm a.txt; mkdir a.txt"},
	{name: "link becomes file", script: "rm link; echo x > link"},
	{name: "link becomes folder", script: "rm link; mkdir link; echo x > link/x"},
	{name: "modes", script: "chmod +x a.txt; chmod +x deep/g; chmod -x run"},
	{name: "links", script: "ln -s nowhere l1; ln -s / l2; ln -s . l3; ln -sf other link"},
	{name: "odd names", script: "printf x > \"$(printf 'a\\nb')\"; printf x > ./-x; printf x > ':(top)x'; printf x > '*'; printf x > \"$(printf '\\377')\"; printf x > '\"'; mkdir ' '; printf x > ' / '; printf x > 'a\\b'"},
	{name: "sorting", script: "mkdir a; echo x > a/x; echo x > a.b; echo x > a0; echo x > a-; mkdir dir.; echo x > dir./x"},
	{name: "ignored", script: "echo x > x.o; mkdir out; echo x > out/x; echo y > dir/y.o"},
	{name: "ignored but tracked", script: "echo x > sub.o"},
	{name: "forced", script: "echo x > x.o; mkdir -p out/a/b; echo x > out/a/b/x; echo y > out/y; git add -f x.o out/a/b/x"},
	{name: "forced and gone", script: "echo x > x.o; git add -f x.o; rm x.o"},
	{name: "ignore rules change", script: "echo a.txt > .gitignore; echo '*.md' >> .gitignore; echo x > x.md; echo x > x.o; echo y >> a.txt"},
	{name: "ignore rules in a folder", script: "echo '*' > dir/.gitignore; echo x > dir/new; echo x >> dir/b.txt; mkdir new; echo '!*.o' > new/.gitignore; echo x > new/x.o"},
	{name: "ignore rules gone", script: "rm .gitignore; echo x > x.o; mkdir out; echo x > out/x"},
	{name: "nested repository", script: "mkdir -p n/m; cd n; git init -q .; echo x > x; echo y > m/y; git add -A; git commit -qm n", plain: "rm -rf n/.git", note: "repository of its own"},
	{name: "commits", script: "echo x > x; git add -A; git commit -qm x; git rm -rq deep; git commit -qm y"},
	{name: "commits and more", script: "echo x > x; git rm -rq deep; git add -A; git commit -qm x; echo y > x; rm a.txt; mkdir deep; echo z > deep/z"},
	{name: "commits undone in the tree", script: "echo x > x; echo x >> a.txt; git rm -q dir/b.txt; git add -A; git commit -qm x; rm x; git show HEAD~1:a.txt > a.txt; mkdir dir; echo b > dir/b.txt"},
	{name: "committed files become others", script: "mkdir x; echo x > x/y; git add -A; git commit -qm x; rm -r x; echo x > x; rm -r deep; ln -s x deep"},
	{name: "rm --cached", script: "git rm -q --cached a.txt; git rm -rq --cached deep"},
	{name: "rm --cached of an ignored one committed", script: "git rm -q --cached sub.o; git commit -qm x"},
	{name: "rm --cached committed", script: "git rm -rq --cached deep a.txt; git commit -qm x"},
	{name: "rm --cached committed forced again", script: "git rm -q --cached sub.o; git commit -qm x; git add -f sub.o"},
	{name: "reset --soft", script: "git reset -q --soft HEAD~1"},
	{name: "reset", script: "git reset -q HEAD~1; echo x > x"},
	{name: "reset --hard", script: "git reset -q --hard HEAD~1; echo x > x"},
	{name: "reset by update-ref", script: "git update-ref HEAD HEAD~2; echo x > x"},
	{name: "to another branch", script: "git checkout -q other; echo x > x"},
	{name: "merge", script: "echo x > x; git add x; git commit -qm x; git merge -q -m m other; echo y > y"},
	{name: "orphan", script: "git checkout -q --orphan o; git rm -rqf .; echo x > x; git add x; git commit -qm o; echo y > y"},
	{name: "sparse", script: "git sparse-checkout set --no-cone '/*' '!/deep/'; echo x > x; rm a.txt"},
	{name: "sparse with something in the place", script: "git sparse-checkout set --no-cone '/*' '!/deep/'; mkdir -p deep/1/2; echo x > deep/new; echo y > deep/1/new", plain: "git sparse-checkout disable 2>/dev/null; git checkout -q -- deep 2>/dev/null || true"},
	{name: "sparse then committed", script: "git sparse-checkout set --no-cone '/*' '!/deep/'; echo x > x; git add x; git commit -qm x; echo y > y"},
	{name: "conflicts", script: "echo x > a.txt; git commit -qam x; git merge -q other2 || true"},
	{name: "index of version 4", script: "git update-index --index-version 4; echo x > x.o; git add -f x.o; echo x >> a.txt"},
	{name: "split index", script: "git update-index --split-index; echo x > x.o; git add -f x.o"},
	{name: "intent to add", script: "echo x > x.o; git add -fN x.o"},
	{name: "ends of lines", script: "echo '* text=auto' > .gitattributes; printf 'a\\r\\nb\\r\\n' > crlf2; printf 'x\\r\\n' >> crlf; printf 'x\\r\\n' >> a.txt"},
	{name: "attributes", script: "printf '*.txt eol=crlf\\n*.id ident\\n*.u working-tree-encoding=UTF-16LE\\n' > .gitattributes; printf '$Id: x $\\n' > x.id; printf 'a\\0b\\0' > x.u; printf 'x\\r\\n' >> a.txt; printf 'x\\r\\n' > deep/x.txt"},
	{name: "attributes gone", script: "rm -f deep/.gitattributes; printf 'x\\r\\ny\\r\\n' > deep/new.txt", plain: "git rm -q --cached deep/.gitattributes"},
	{name: "packed refs", script: "echo x > x; git add x; git commit -qm x; git pack-refs --all; git gc -q; echo y > y"},
	{name: "tags and a detached HEAD", script: "git checkout -q --detach; echo x > x; git add x; git commit -qm x; git tag v; echo y > y"},
	{name: "mode of the top", script: "chmod 700 .; echo x > x"},
	{name: "many", script: "for i in $(seq 300); do mkdir -p m/$((i%7)); echo $i > m/$((i%7))/$i; done"},
}

var kinds = []string{"checkout", "overlay"}

// rich is a repository with a little of everything.
func rich(t *testing.T, format string) *world {
	w := newWorld(t, format)
	w.write("proj/old.txt", "old\n")
	w.commit("older")
	w.write("proj/deep/1/2/f", "f\n")
	w.write("proj/deep/1/h", "h\n")
	w.write("proj/deep/g", "g\n")
	w.write("proj/deep/.gitattributes", "*.txt text\n")
	w.write("proj/crlf", "a\r\nb\r\n")
	w.write("proj/sub.o", "tracked although ignored\n")
	w.write("proj/run", "#!/bin/sh\n")
	w.g("rm", "-q", "old.txt")
	w.sh(w.repo, "sh", "-c", "ln -s a.txt link; chmod +x run; git add -f sub.o")
	w.commit("base")
	w.g("checkout", "-q", "-b", "other", "HEAD~1")
	w.write("proj/other.txt", "o\n")
	w.commit("other")
	w.g("checkout", "-q", "-b", "other2", "main")
	w.write("proj/a.txt", "another\n")
	w.commit("other2")
	w.g("checkout", "-q", "main")
	return w
}

// plainTree is what `git add -A` makes of a script in a plain clone.
func (w *world) plainTree(script, plain string) string {
	w.t.Helper()
	dir := filepath.Join(w.dir, "plain")
	w.sh(w.dir, "git", "clone", "-q", w.repo, dir)
	w.sh(dir, "sh", "-ec", "git branch -q other origin/other; git branch -q other2 origin/other2; git checkout -q -b rcc/t; "+script)
	if plain != "" {
		w.sh(dir, "sh", "-c", plain)
	}
	w.sh(dir, "git", "add", "-A")
	return w.sh(dir, "git", "write-tree")
}

func TestSameTreeAsGitAdd(t *testing.T) {
	for _, tc := range sameTrees {
		for _, kind := range kinds {
			t.Run(tc.name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				w := rich(t, formats[len(tc.name)%2])
				want := w.plainTree(tc.script, tc.plain)
				r, tree := w.kind("t", kind, nil)
				w.agent(tree, tc.script)
				h := w.harvest(r, tree)
				if h.Tip != tree.Base {
					h = w.accept(r, tree) // a second time, and the same
				}
				if got := w.g("rev-parse", h.Tip+"^{tree}"); got != want {
					t.Errorf("notes %q, differs from git add -A:\n%s", h.Notes, w.between(want, got))
				}
				if tc.note == "" && len(h.Notes) > 0 && !has(h.Notes, "branch") || tc.note != "" && !has(h.Notes, tc.note) {
					t.Errorf("notes %q, want %q", h.Notes, tc.note)
				}
				if out := w.g("fsck", "--strict", "--no-dangling"); out != "" {
					t.Errorf("fsck: %s", out)
				}
			})
		}
	}
}

// between lists what differs between a tree of the plain clone and one here.
func (w *world) between(want, got string) string {
	out, _ := w.try(w.repo, "git", "--git-dir="+filepath.Join(w.dir, "plain/.git"), "ls-tree", "-r", want)
	mine, _ := w.try(w.repo, "git", "ls-tree", "-r", got)
	return "want\n" + out + "got\n" + mine
}

// kind makes a tree of one kind.
func (w *world) kind(id, kind string, carried map[string]string) (*Repo, *Tree) {
	w.t.Helper()
	if kind == "overlay" {
		return w.overlayTask(id, carried)
	}
	return w.task(id, false)
}

func TestCarriedIsNoResult(t *testing.T) {
	w := rich(t, "sha1")
	r, tree := w.overlayTask("t", map[string]string{"node_modules/a/x.js": "x\n", "node_modules/a/y.js": "y\n", ".env": "secret\n"})
	w.agent(tree, "echo z >> node_modules/a/x.js; mkdir node_modules/b; echo n > node_modules/b/n; rm node_modules/a/y.js; echo more >> .env; echo real > real; mkdir node_modules/c; echo f > node_modules/c/f; git add -f node_modules/c/f node_modules/a/x.js")
	h := w.accept(r, tree)
	if got, want := w.changed(tree, h), []string{"node_modules/a/x.js", "node_modules/c/f", "real"}; !slices.Equal(got, want) {
		t.Errorf("changed %q, want %q", got, want)
	}
}

// Forced by its name only: the file lies in the carried layer.
func TestCarriedAndForced(t *testing.T) {
	w := rich(t, "sha1")
	r, tree := w.overlayTask("t", map[string]string{"node_modules/a/x.js": "x\n"})
	w.agent(tree, "git add -f node_modules/a/x.js")
	h := w.accept(r, tree)
	if got, want := w.changed(tree, h), []string{"node_modules/a/x.js"}; !slices.Equal(got, want) {
		t.Errorf("changed %q, want %q", got, want)
	}
}

func (w *world) changed(tree *Tree, h *Harvested) []string {
	w.t.Helper()
	return splitNul([]byte(w.g("diff", "--no-renames", "-z", "--name-only", tree.Base, h.Tip)))
}

// A cache that somebody removed under a task costs nothing that the agent did,
// and nothing that it did not touch.
func TestLowerRemovedBeforeHarvest(t *testing.T) {
	const script = "echo x >> a.txt; rm deep/g; echo x > x.o; mkdir out; echo o > out/o; echo new > deep/new; git rm -q --cached run; git commit -qm run"
	for _, how := range []string{"removed", "emptied"} {
		t.Run(how, func(t *testing.T) {
			w := rich(t, "sha1")
			r, tree := w.overlayTask("t", map[string]string{"kept/x": "carried\n"})
			w.agent(tree, script)
			if err := os.RemoveAll(tree.Lower[1]); err != nil {
				t.Fatal(err)
			}
			if how == "emptied" {
				w.write(filepath.Join(tree.Lower[1], ".gitignore"), "*.o\n/out/\n")
			}
			h := w.accept(r, tree)
			if got, want := w.changed(tree, h), []string{"a.txt", "deep/g", "deep/new"}; !slices.Equal(got, want) {
				t.Errorf("changed %q, want %q; notes %q", got, want, h.Notes)
			}
		})
	}
}
