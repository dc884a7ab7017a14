package worktree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A folder that somebody committed may be what git takes for a bare repository.
// Its configuration makes git run programs: control first.
func TestBareRepositoryInCheckout(t *testing.T) {
	for _, name := range []string{"plain", "with a checkout", "in a bare one"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "sha1")
			top := w.repo
			if name == "in a bare one" {
				top = filepath.Join(w.dir, "outer.git")
				w.sh(w.dir, "git", "init", "-q", "--bare", top)
			}
			bare := filepath.Join(top, "lib.git")
			nonce := filepath.Join(w.dir, "nonce")
			w.sh(w.dir, "git", "init", "-q", "--bare", bare)
			for key, value := range map[string]string{
				"core.repositoryFormatVersion": "1", "extensions.partialClone": "origin", "remote.origin.promisor": "true",
				"remote.origin.url": "/nonexistent", "remote.origin.uploadpack": "touch " + nonce + ";", "protocol.allow": "always",
			} {
				w.sh(bare, "git", "config", "--file", "config", key, value)
			}
			w.write(filepath.Join(bare, "refs/heads/main"), "1234567890123456789012345678901234567890\n")
			if name == "with a checkout" {
				w.sh(bare, "git", "config", "--file", "config", "core.bare", "false")
				w.sh(bare, "git", "config", "--file", "config", "core.worktree", w.dir)
			}
			w.try(bare, "git", "cat-file", "-e", "HEAD")
			if _, err := os.Stat(nonce); err != nil {
				t.Fatal("control: plain git ran nothing")
			}
			if err := os.Remove(nonce); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{bare, filepath.Join(bare, "refs")} {
				_, err := w.git.Open(t.Context(), dir)
				_, _, lookErr := w.git.Look(t.Context(), dir, "HEAD", "x")
				for _, err := range []error{err, lookErr} {
					if err == nil || !strings.Contains(err.Error(), "lib.git") || strings.Contains(err.Error(), "\n") {
						t.Errorf("%s: %v", dir, err)
					}
				}
			}
			if _, err := os.Stat(nonce); err == nil {
				t.Error("opening it ran a program")
			}
		})
	}
}
