package devshell

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// findBash sets the shell's bash and an interactive one. All that it looks at is
// in the closure; nothing is run.
func findBash(s *Shell, env *environment) {
	for _, name := range []string{"builder", "BASH", "CONFIG_SHELL", "SHELL"} {
		if file := env.all[name]; filepath.Base(file) == "bash" && isProgram(s.Paths, file) {
			s.Bash = file
			break
		}
	}
	if s.Bash == "" {
		s.Bash = s.Look("bash")
	}
	// nixpkgs' bashInteractive is called bash-interactive-5.2p37 or, in older
	// releases, bash-interactive-5.1-p16; its other outputs have no bin/bash.
	for _, path := range s.Paths {
		named := strings.HasPrefix(storeName(path), "bash-interactive")
		if file := path + "/bin/bash"; named && isProgram(s.Paths, file) {
			s.Interactive = file
			return
		}
	}
	for _, file := range []string{s.Look("bash"), s.Bash} {
		if file != "" && hasReadline(file) {
			s.Interactive = file
			return
		}
	}
}

// bashCap bounds what is read of a bash; a static one has 2 MB.
const bashCap = 16 << 20

// hasReadline says whether a bash edits its command line: the variable
// READLINE_LINE is known only to one that was built with readline (bashline.c).
// The bash of nixpkgs' stdenv was not.
func hasReadline(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, bashCap))
	return err == nil && bytes.Contains(data, []byte("READLINE_LINE"))
}
