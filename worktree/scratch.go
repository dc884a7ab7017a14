package worktree

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Scratch makes a repository at dir, which must not exist, with the given
// files in one commit on main. It is for demonstrations.
func (g *Git) Scratch(ctx context.Context, dir string, files map[string]string, message string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make a scratch repository: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("cannot make a scratch repository: %w", err)
		}
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--template=", "--initial-branch=main"},
		{"add", "--all"},
		{"-c", "user.name=rcc demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgSign=false", "commit", "--quiet", "--message", message},
	} {
		if _, err := g.run(ctx, call{dir: dir}, args...); err != nil {
			return fmt.Errorf("cannot make a scratch repository: %w", err)
		}
	}
	return nil
}
