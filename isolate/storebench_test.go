package isolate

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// fakeNames are names of store paths, as many as wanted.
func fakeNames(n int) []string {
	const digits = "0123456789abcdfghijklmnpqrsvwxyz"
	names := make([]string, n)
	for i := range names {
		hash := make([]byte, 32)
		for j, v := 0, uint64(i+1)*0x9e3779b97f4a7c15; j < 32; j, v = j+1, v*6364136223846793005+1442695040888963407 {
			hash[j] = digits[v>>59]
		}
		names[i] = fmt.Sprintf("%s-package-%d", hash, i)
	}
	return names
}

// BenchmarkStore is the whole life of a sandbox with so many store paths.
func BenchmarkStore(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			if err := os.Chmod(dir, 0o755); err != nil {
				b.Fatal(err)
			}
			var store []string
			for _, name := range fakeNames(n) {
				if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
					b.Fatal(err)
				}
				store = append(store, StoreDir+"/"+name)
			}
			benchmarkLife(b, NetNone, nil, func(j *Job) { j.Tools, j.Store, j.StoreSource = ToolsBoth, store, dir })
		})
	}
}
