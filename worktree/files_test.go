package worktree

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// filesWorld has every kind of file that git keeps.
func filesWorld(t *testing.T, format string) (*world, *Repo) {
	w := newWorld(t, format)
	w.write("proj/run.sh", "#!/bin/sh\n")
	w.write("proj/dir/sp ace\n\"q\".nix", "{ }\n")
	w.write("proj/crlf.txt", "a\r\nb\r\n")
	w.write("proj/.gitattributes", "crlf.txt text eol=lf\n*.up filter=up ident\n")
	w.write("proj/x.up", "$Id$\n")
	w.sh(w.repo, "chmod", "755", "run.sh")
	w.sh(w.repo, "ln", "-s", "dir/b.txt", "link")
	w.sh(w.repo, "ln", "-s", "/etc/passwd", "out-link")
	w.commit("kinds")
	r, err := w.git.Open(t.Context(), w.repo)
	if err != nil {
		t.Fatal(err)
	}
	return w, r
}

func TestFilesOfCommitAndCheckout(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		w, r := filesWorld(t, format)
		w.g("config", "filter.up.smudge", "touch "+w.dir+"/smudged; cat")
		atCommit, err := r.Files(t.Context(), "HEAD")
		if err != nil {
			t.Fatal(err)
		}
		// git normalises this one: on the disk it has other bytes.
		odd := func(f File) bool { return f.Path == "crlf.txt" }
		onDisk, err := r.PresentFiles(t.Context(), Present{})
		if err != nil {
			t.Fatal(err)
		}
		if a, b := slices.DeleteFunc(slices.Clone(atCommit), odd), slices.DeleteFunc(slices.Clone(onDisk), odd); !slices.Equal(a, b) {
			t.Errorf("%s: a clean checkout is %v, its commit %v", format, b, a)
		}
		if len(atCommit) != 10 {
			t.Errorf("%s: %d files: %v", format, len(atCommit), atCommit)
		}

		w.write("proj/new.nix", "{ }\n")
		w.write("proj/x.o", "ignored\n")
		w.write("proj/dir/b.txt", "changed\n")
		os.Remove(filepath.Join(w.repo, "a.txt"))
		w.sh(w.repo, "git", "init", "-q", "inner")
		w.write("proj/inner/f.nix", "{ }\n")
		nix := func(p string) bool { return strings.HasSuffix(p, ".nix") || p == "dir/b.txt" || p == "a.txt" }
		changed, err := r.PresentFiles(t.Context(), Present{Untracked: true, Only: nix})
		if err != nil {
			t.Fatal(err)
		}
		want := []File{
			{"dir/b.txt", "100644", w.g("hash-object", "dir/b.txt")},
			{"dir/sp ace\n\"q\".nix", "100644", w.g("hash-object", "new.nix")},
			{"new.nix", "100644", w.g("hash-object", "new.nix")},
		}
		if !slices.Equal(changed, want) {
			t.Errorf("%s: the changed checkout has %v, want %v", format, changed, want)
		}
		if _, err := os.Stat(filepath.Join(w.dir, "smudged")); err == nil {
			t.Errorf("%s: a filter of the configuration ran", format)
		}
	}
}

func TestExport(t *testing.T) {
	w, r := filesWorld(t, "sha1")
	w.g("config", "filter.up.smudge", "touch "+w.dir+"/smudged; cat")
	dir := t.TempDir()
	files, err := r.Files(t.Context(), "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Export(t.Context(), files, dir); err != nil {
		t.Fatal(err)
	}
	// The same tree again, by git itself.
	w.sh(dir, "git", "init", "-q", "--object-format=sha1", ".")
	w.sh(dir, "git", "add", "-A")
	if got, want := w.sh(dir, "git", "write-tree"), w.g("rev-parse", "HEAD^{tree}"); got != want {
		t.Errorf("the copy is the tree %s, want %s\n%s", got, want, w.sh(dir, "git", "ls-files", "-s"))
	}
	if _, err := os.Stat(filepath.Join(w.dir, "smudged")); err == nil {
		t.Error("a filter of the configuration ran")
	}

	w.write("proj/new.nix", "{ }\n")
	w.write("proj/dir/b.txt", "changed\n")
	dir = t.TempDir()
	if files, err = r.PresentFiles(t.Context(), Present{Untracked: true}); err != nil {
		t.Fatal(err)
	}
	if err := r.ExportPresent(t.Context(), files, dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"new.nix": "{ }\n", "dir/b.txt": "changed\n", "crlf.txt": "a\r\nb\r\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s is %q, want %q (%v)", name, got, want, err)
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "out-link")); to != "/etc/passwd" {
		t.Errorf("the link leads to %q (%v)", to, err)
	}

	// What is written is what was listed.
	for name, change := range map[string]string{"content": "echo x >>a.txt", "mode": "chmod +x a.txt", "kind": "ln -sf /etc/passwd a.txt", "gone": "rm a.txt"} {
		w.sh(w.repo, "sh", "-c", change)
		dir = t.TempDir()
		err := r.ExportPresent(t.Context(), files, dir)
		if _, there := os.Lstat(filepath.Join(dir, "a.txt")); err == nil || !strings.Contains(err.Error(), "a.txt") || there == nil {
			t.Errorf("%s: the changed file was written: %v", name, err)
		}
		w.sh(w.repo, "git", "checkout", "-q", "a.txt")
	}
}

// Trees that git itself would not check out write nothing outside.
func TestExportStaysInside(t *testing.T) {
	w, r := filesWorld(t, "sha1")
	blob := w.g("hash-object", "-w", "a.txt")
	link := w.sh(w.repo, "sh", "-c", "printf .. | git hash-object -w --stdin")
	mk := func(entries string) string {
		return w.sh(w.repo, "sh", "-c", `printf "$1" | git mktree --missing -z`, "sh", entries)
	}
	below := mk("100644 blob " + blob + "\tnonce\\000")
	for name, tree := range map[string]string{
		"parent": mk("040000 tree " + below + "\t..\\000"),
		"link":   mk("120000 blob " + link + "\td\\000040000 tree " + below + "\te\\000"),
	} {
		if name == "link" {
			// The same name twice: first a link that leads out, then a folder.
			raw := filepath.Join(w.dir, "raw")
			w.sh(w.repo, "sh", "-c", `git cat-file tree "$1" | sed 's/40000 e/40000 d/' >"$2"`, "sh", tree, raw)
			tree = w.g("hash-object", "-t", "tree", "-w", "--literally", raw)
		}
		outer := t.TempDir()
		dir := filepath.Join(outer, "in")
		os.Mkdir(dir, 0o755)
		files, err := r.Files(t.Context(), tree)
		if err == nil {
			err = r.Export(t.Context(), files, dir)
		}
		if err == nil {
			t.Errorf("%s: the tree was written", name)
		}
		filepath.WalkDir(outer, func(p string, d fs.DirEntry, _ error) error {
			if d.Name() == "nonce" && !strings.HasPrefix(p, dir) {
				t.Errorf("%s: wrote %s", name, p)
			}
			return nil
		})
	}
}
