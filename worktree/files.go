package worktree

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// File is a file as git knows it.
type File struct {
	Path string // from the top of the tree, with slashes
	Mode string // as in a tree object: "100644", "100755", "120000" or "160000"
	ID   string // of its content, as a blob
}

// Files lists all files of a commit or tree, sorted by path.
func (r *Repo) Files(ctx context.Context, tree string) ([]File, error) {
	out, err := r.run(ctx, "ls-tree", "-r", "-z", "--full-tree", tree)
	if err != nil {
		return nil, fmt.Errorf("cannot list the files of %s: %w", short(tree), err)
	}
	var files []File
	for _, entry := range splitNul(out) {
		meta, name, _ := strings.Cut(entry, "\t")
		f := strings.Fields(meta) // mode type id
		if len(f) != 3 || name == "" {
			return nil, fmt.Errorf("cannot list the files of %s: git ls-tree printed %q", short(tree), inert(entry))
		}
		files = append(files, File{Path: name, Mode: f[0], ID: f[2]})
	}
	return files, nil
}

// Blobs calls each with the content of every blob of the list, in its order.
// One that is larger than 64 MiB is an error.
func (r *Repo) Blobs(ctx context.Context, ids []string, each func(i int, content []byte) error) error {
	if len(ids) == 0 {
		return nil
	}
	objects, err := openObjects(ctx, r.git, call{dir: r.dir()})
	if err != nil {
		return err
	}
	defer objects.close()
	for i, id := range ids {
		content, err := objects.read(id, "blob")
		if err != nil {
			return err
		}
		if err := each(i, content); err != nil {
			return err
		}
	}
	return nil
}

// SmallBlobs is Blobs for content of limit bytes at most, and of sum bytes in all:
// what is larger, or would be too much after those before it, is nil.
func (r *Repo) SmallBlobs(ctx context.Context, ids []string, limit, sum int64, each func(i int, content []byte) error) error {
	if len(ids) == 0 {
		return nil
	}
	objects, err := openObjects(ctx, r.git, call{dir: r.dir()})
	if err != nil {
		return err
	}
	defer objects.close()
	var sizes []int64
	if err := objects.sizes(ids, "blob", func(n int64) error {
		sizes = append(sizes, n)
		return nil
	}); err != nil {
		return err
	}
	for i, id := range ids {
		var content []byte
		if sizes[i] <= min(limit, sum) {
			sum -= sizes[i]
			if content, err = objects.read(id, "blob"); err != nil {
				return err
			}
		}
		if err := each(i, content); err != nil {
			return err
		}
	}
	return nil
}

// Export writes files into dir, an empty folder: their bytes as git keeps them,
// no filter and no line ending applied, so that the result follows from the ids
// alone. A submodule is an empty folder. Nothing is written outside of dir,
// whatever the names are.
func (r *Repo) Export(ctx context.Context, files []File, dir string) error {
	w, err := openExport(dir)
	if err != nil {
		return err
	}
	defer w.root.Close()
	ids := make([]string, 0, len(files))
	blobs := make([]File, 0, len(files))
	for _, f := range files {
		if f.Mode == string(modeModule) {
			if err := w.folder(f.Path); err != nil {
				return exportError(f.Path, err)
			}
			continue
		}
		ids, blobs = append(ids, f.ID), append(blobs, f)
	}
	return r.Blobs(ctx, ids, func(i int, content []byte) error {
		if err := w.write(blobs[i], content); err != nil {
			return exportError(blobs[i].Path, err)
		}
		return nil
	})
}

func exportError(name string, err error) error {
	return fmt.Errorf("cannot write a copy of %s: %w", quotePath(name), underlyingPath(err))
}

func underlyingPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// exporter writes below one folder.
type exporter struct {
	root *os.Root // refuses every way out (os.Root)
	made map[string]bool
}

func openExport(dir string) (*exporter, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot write a copy of the tree: %w", err)
	}
	return &exporter{root: root, made: map[string]bool{".": true}}, nil
}

func (w *exporter) folder(name string) error {
	if w.made[name] {
		return nil
	}
	if err := w.root.MkdirAll(name, 0o755); err != nil {
		return err
	}
	w.made[name] = true
	return nil
}

func (w *exporter) write(f File, content []byte) error {
	if err := w.folder(path.Dir(f.Path)); err != nil {
		return err
	}
	switch f.Mode {
	case "120000":
		return w.root.Symlink(string(content), f.Path)
	case "100755":
		return w.file(f.Path, content, 0o755)
	}
	return w.file(f.Path, content, 0o644)
}

func (w *exporter) file(name string, content []byte, mode os.FileMode) error {
	out, err := w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = out.Write(content)
	return errors.Join(err, out.Close())
}

// Present are the files of the checkout as they are on the disk now: what is
// tracked, and with Untracked also what git would add. Files that are gone are
// left out.
type Present struct {
	Untracked bool
	// Only chooses among the paths; nil takes all.
	Only func(path string) bool
}

// PresentFiles lists them, sorted as git does, each with the id that its bytes
// on the disk have as a blob (no filter applied).
func (r *Repo) PresentFiles(ctx context.Context, what Present) ([]File, error) {
	var files []File
	err := r.present(ctx, what, func(f File, content io.Reader, size int64) error {
		id, err := blobID(r.Format, content, size)
		if err != nil {
			return err
		}
		f.ID = id
		files = append(files, f)
		return nil
	})
	return files, err
}

// ExportPresent is Export for files on the disk, which must be as PresentFiles
// has found them: one that changed since is an error.
func (r *Repo) ExportPresent(ctx context.Context, files []File, dir string) error {
	w, err := openExport(dir)
	if err != nil {
		return err
	}
	defer w.root.Close()
	top, err := os.OpenRoot(r.Top)
	if err != nil {
		return fmt.Errorf("cannot read the checkout: %w", err)
	}
	defer top.Close()
	for _, want := range files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		found := false
		err := openPresent(top, want.Path, func(f File, content io.Reader, size int64) error {
			data, err := io.ReadAll(io.LimitReader(content, size+1))
			if err != nil {
				return err
			}
			if f.ID, err = blobID(r.Format, bytes.NewReader(data), size); err != nil {
				return err
			}
			if found = f == want; !found {
				return nil
			}
			return w.write(f, data)
		})
		if err == nil && !found {
			err = errFileChanged
		}
		if err != nil {
			return exportError(want.Path, err)
		}
	}
	return nil
}

var errFileChanged = errors.New("it changed while it was read; try again")

// present opens each file of the checkout in turn, below its top folder and
// never through a link out of it.
func (r *Repo) present(ctx context.Context, what Present, each func(f File, content io.Reader, size int64) error) error {
	if r.Top == "" {
		return errors.New("cannot read the checkout: the repository is bare")
	}
	args := []string{"ls-files", "-z", "--cached"}
	if what.Untracked {
		args = append(args, "--others", "--exclude-standard")
	}
	out, err := r.git.run(ctx, call{dir: r.Top}, args...)
	if err != nil {
		return fmt.Errorf("cannot list the files of the checkout: %w", err)
	}
	top, err := os.OpenRoot(r.Top)
	if err != nil {
		return fmt.Errorf("cannot read the checkout: %w", err)
	}
	defer top.Close()
	names := splitNul(out)
	slices.Sort(names)
	// An unmerged path is listed once for each of its stages.
	for _, name := range slices.Compact(names) {
		if strings.HasSuffix(name, "/") || what.Only != nil && !what.Only(name) {
			continue // the former is a repository inside this one
		}
		if err := openPresent(top, name, each); err != nil {
			return fmt.Errorf("cannot read %s: %w", quotePath(name), underlyingPath(err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func openPresent(top *os.Root, name string, each func(f File, content io.Reader, size int64) error) error {
	fi, err := top.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && fi.IsDir() {
		return nil // removed, or a submodule
	}
	if err != nil {
		return err
	}
	f := File{Path: name, Mode: "100644"}
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		to, err := top.Readlink(name)
		if err != nil {
			return err
		}
		f.Mode = "120000"
		return each(f, strings.NewReader(to), int64(len(to)))
	case !fi.Mode().IsRegular():
		return nil // git does not keep it
	case fi.Mode()&0o100 != 0:
		f.Mode = "100755"
	}
	in, err := top.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	return each(f, in, fi.Size())
}

// blobID is what git would name the content (gitformat-pack(5): the hash is
// over "blob SIZE\0" and the bytes).
func blobID(format string, content io.Reader, size int64) (string, error) {
	var h hash.Hash = sha1.New()
	if format == "sha256" {
		h = sha256.New()
	}
	h.Write([]byte("blob " + strconv.FormatInt(size, 10) + "\x00"))
	n, err := io.Copy(h, io.LimitReader(content, size+1))
	if err == nil && n != size {
		err = errFileChanged
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// InCheckout is the path from the checkout's top of dir, an absolute path in it
// ("" for the top itself); false where dir is not in the checkout.
func (r *Repo) InCheckout(dir string) (string, bool) {
	if r.Top == "" {
		return "", false
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(r.Top, real)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	if rel == "." {
		rel = ""
	}
	return filepath.ToSlash(rel), true
}

// Existing are those of the paths that a commit or tree has.
func (r *Repo) Existing(ctx context.Context, tree string, paths []string) (map[string]bool, error) {
	out, err := r.run(ctx, append([]string{"--literal-pathspecs", "ls-tree", "-z", "--full-tree", "--name-only", tree, "--"}, paths...)...)
	if err != nil {
		return nil, fmt.Errorf("cannot look for %s in %s: %w", quotePath(paths[0]), short(tree), err)
	}
	found := map[string]bool{}
	for _, p := range splitNul(out) {
		found[p] = true
	}
	return found, nil
}
