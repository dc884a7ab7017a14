package worktree

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// carryBenches are a folder of many small files, as node_modules is, and one of
// a few large ones, as target is.
var carryBenches = []struct {
	name               string
	dirs, files, bytes int
}{
	{"small", 3000, 10, 2000},
	{"large", 10, 20, 5 << 20},
}

func benchWorld(b *testing.B, dirs, files, size int) *Repo {
	b.Helper()
	top := b.TempDir()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	for d := range dirs {
		dir := filepath.Join(top, "deps", fmt.Sprint(d/100), fmt.Sprint(d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range files {
			copy(data, fmt.Sprint(d, f))
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d.js", f)), data, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	g, err := NewGit(append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null"))
	if err != nil {
		b.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-q", "--allow-empty", "-m", "x"}} {
		if _, err := g.Run(b.Context(), top, args...); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(top+"/.git/info/exclude", []byte("/deps/\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	r, err := g.Open(b.Context(), top)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func BenchmarkCarry(b *testing.B) {
	for _, c := range carryBenches {
		r := benchWorld(b, c.dirs, c.files, c.bytes)
		find := func(b *testing.B) *Carried {
			found, err := r.FindCarried(b.Context(), CarrySpec{Patterns: []string{"deps"}, Tree: "HEAD"})
			if err != nil || found.Files != c.dirs*c.files {
				b.Fatalf("%+v, %v", found, err)
			}
			return found
		}
		b.Run(c.name+"/find", func(b *testing.B) {
			var key bytes.Buffer
			for b.Loop() {
				key.WriteString(find(b).Key())
			}
		})
		carried := find(b)
		for name, do := range map[string]func(dir string) error{
			"layer": func(dir string) error { return carried.write(b.Context(), dir) },
			"copy":  func(dir string) error { return carried.CopyInto(dir, -1, -1) },
		} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				// Nothing is removed in between: ext4 is slow to give out inodes
				// that were just freed (fs/ext4/ialloc.c, recently_deleted).
				for b.Loop() {
					dir, err := os.MkdirTemp(filepath.Dir(r.Top), "layer")
					if err != nil {
						b.Fatal(err)
					}
					if err := do(dir); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
