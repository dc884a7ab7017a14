package devshell

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeNix is a nix that is a script, with its path; PATH has what a script needs.
func fakeNix(t *testing.T, script string) (*Nix, *Cache) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.WriteFile(filepath.Join(bin, "nix"), []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	n, err := Find([]string{"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + dir})
	if err != nil {
		t.Fatal(err)
	}
	return n, OpenCache(filepath.Join(dir, "cache"))
}

// What a real process prints is bounded in memory, on both streams.
func TestFlood(t *testing.T) {
	n, _ := fakeNix(t, "#!/bin/sh\nhead -c 3000000 /dev/zero\nhead -c 3000000 /dev/zero >&2\n")
	out, stderr := &capped{max: 2 << 10}, &capped{max: 1 << 10}
	err := n.run(t.Context(), call{dir: "/", out: out, stderr: stderr})
	if err == nil || !strings.HasSuffix(err.Error(), "it is more than 2 KiB") {
		t.Errorf("%v", err)
	}
	if out.buf.Len() != out.max || stderr.buf.Len() != stderr.max || !out.over || !stderr.over {
		t.Errorf("%d and %d bytes", out.buf.Len(), stderr.buf.Len())
	}
}
