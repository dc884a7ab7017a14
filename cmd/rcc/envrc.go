package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rcc/hooks"
)

// What an .envrc does beyond "use rcc" is had inside the sandbox as well, by the
// direnv that is there, when the user has allowed the very same file in the
// checkout. Nothing of it runs on the host.

// findEnvrc looks at the .envrc of the base commit, and prepares the private home
// for the direnv inside.
func (s *session) findEnvrc(ctx context.Context, home string) error {
	s.rec.Envrc = false
	if s.repo.Top == "" || s.sight == nil || !s.sight.Has(envrcName) {
		return nil
	}
	content, ok, err := s.repo.ReadFile(ctx, s.rec.Base, envrcName)
	if err != nil || !ok {
		return nil // a strange one is the checkout's own matter
	}
	if _, plain := hooks.ParseEnvrc(content); plain {
		return nil // the dev shell is there anyway
	}
	data, err := hooks.DirenvDataDir(s.env.environ)
	if err != nil {
		return err
	}
	path := filepath.Join(s.repo.Path, envrcName)
	if _, err := os.Stat(hooks.AllowFile(data, path, content)); err != nil {
		s.tell([]string{".envrc has no effect in the task: you have not allowed it in the checkout (direnv allow)"})
		return nil
	}
	if s.direnv() == "" {
		s.tell([]string{".envrc has no effect in the task: there is no direnv in it; add it to the dev shell"})
		return nil
	}
	s.rec.Envrc = true
	files := map[string]string{
		".config/direnv/lib/rcc.sh":                           hooks.InsideLib(),
		hooks.AllowFile(".local/share/direnv", path, content): path + "\n",
	}
	for name, text := range files {
		if err := s.writeHome(home, name, text); err != nil {
			return fmt.Errorf("cannot prepare the private home for .envrc: %w", underlying(err))
		}
	}
	return nil
}

// direnv is the program inside, "" for none.
func (s *session) direnv() string { return s.lookInside("direnv") }

// lookInside finds a program as the task will.
func (s *session) lookInside(name string) string {
	if s.shell != nil {
		if p := s.shell.Look(name); p != "" || !s.rec.Shell.Host {
			return p
		}
	}
	for _, dir := range s.hostPath() {
		p := filepath.Join(dir, name)
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p
		}
	}
	return ""
}

// writeHome writes a file below the private home, and gives it and the folders
// that it made to the task's user.
func (s *session) writeHome(home, name, text string) error {
	give := func(p string) error {
		if s.rec.HostUID == os.Geteuid() {
			return nil
		}
		return os.Chown(p, s.rec.HostUID, s.rec.HostGID)
	}
	at := home
	for _, part := range strings.Split(filepath.Dir(name), "/") {
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o700); err != nil {
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			return err
		}
		if err := give(at); err != nil {
			return err
		}
	}
	file := filepath.Join(home, name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	return give(file)
}
