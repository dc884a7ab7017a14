package devshell

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// BenchmarkHit is what a task with a cached dev shell pays: the key, the entry,
// a look at each path of the closure, and the variables. 100 KB of functions are
// in rc.bash, which is not read.
func BenchmarkHit(b *testing.B) {
	for _, paths := range []int{1, 1000, 5000} {
		b.Run(fmt.Sprint(paths), func(b *testing.B) {
			dir := b.TempDir()
			nix := filepath.Join(dir, "nix")
			if err := os.WriteFile(nix, []byte("#!/bin/sh\necho 'nix (Nix) 2.8.0'\n"), 0o755); err != nil {
				b.Fatal(err)
			}
			n, err := Find([]string{"PATH=" + dir})
			if err != nil {
				b.Fatal(err)
			}
			source := Source{Kind: KindFlake}
			for i := range 50 {
				source.Files = append(source.Files, File{fmt.Sprintf("nix/%d.nix", i), "100644", strings.Repeat("0", 40)})
			}
			c := OpenCache(filepath.Join(dir, "cache"))
			fakeEntry(b, c, source.key("2.8.0", n.surroundings(source)), filepath.Join(dir, "store"), paths)
			b.ResetTimer()
			for range b.N {
				s, err := c.Shell(context.Background(), n, source, Options{})
				if err != nil {
					b.Fatal(err)
				}
				if len(s.Environ("/o")) != 101 || len(s.Paths) != paths || s.Fresh {
					b.Fatalf("%+v", s)
				}
				s.Release()
			}
		})
	}
}

// fakeEntry is an entry with that many paths, which exist.
func fakeEntry(b *testing.B, c *Cache, key, store string, paths int) {
	b.Helper()
	dir := c.path(key, "1")
	s := &Shell{Key: key, Name: "bench", RC: filepath.Join(dir, rcName)}
	for i := range paths {
		path := fmt.Sprintf("%s/%032d-package-%d", store, i, i)
		if err := os.MkdirAll(path, 0o755); err != nil {
			b.Fatal(err)
		}
		s.Paths = append(s.Paths, path)
	}
	slices.Sort(s.Paths)
	for i := range 100 {
		s.exported = append(s.exported, variable{fmt.Sprintf("variable%d", i), s.Paths[0] + "/" + strings.Repeat("x", 300), true})
	}
	s.exported = append(s.exported, variable{"PATH", strings.Join(s.Paths[:min(100, paths)], "/bin:"), true})
	s.places = []place{{From: s.Paths[0], Kind: placeOutput, Name: "out", Else: s.Paths[0]}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(s.RC, make([]byte, 100<<10), 0o644); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, lockName), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := s.writeEntry(dir); err != nil {
		b.Fatal(err)
	}
}
