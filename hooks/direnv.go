package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// direnvMarker begins the file in direnv's lib folder that is ours to replace.
const direnvMarker = "# rcc: use_rcc for direnv"

// DirenvConfigDir is the folder in which direnv looks for lib/*.sh, by the
// environment: DIRENV_CONFIG, XDG_CONFIG_HOME/direnv, HOME/.config/direnv, as
// direnv's stdlib has it.
func DirenvConfigDir(environ []string) (string, error) {
	env := toMap(environ)
	dir := env["DIRENV_CONFIG"]
	if dir == "" && env["XDG_CONFIG_HOME"] != "" {
		dir = filepath.Join(env["XDG_CONFIG_HOME"], "direnv")
	}
	if dir == "" && env["HOME"] != "" {
		dir = filepath.Join(env["HOME"], ".config", "direnv")
	}
	if !filepath.IsAbs(dir) {
		return "", errors.New("cannot find direnv's configuration folder: HOME is not set to an absolute path")
	}
	return dir, nil
}

// DirenvLib is the text of lib/rcc.sh: use_rcc asks rcc once and evaluates what
// it prints. The shell options that a shellHook sets end with the function
// ("local -", bash 4.4; direnv needs 4.4 too).
func DirenvLib(rccPath string) string {
	return direnvMarker + `; written by "rcc hook direnv", which replaces it
use_rcc() {
  local - rcc_program=` + quotePosix(rccPath) + ` rcc_text
  [[ -x $rcc_program ]] || rcc_program=rcc
  rcc_text=$("$rcc_program" export direnv "$@") || return
  eval "$rcc_text"
}
`
}

// InstallDirenv writes lib/rcc.sh below direnv's configuration folder, for the
// rcc at an absolute path. changed is false when it is there as it should be. A
// file of that name that is not ours is left alone, with an error.
func InstallDirenv(configDir, rccPath string) (path string, changed bool, err error) {
	if !filepath.IsAbs(configDir) || !filepath.IsAbs(rccPath) {
		return "", false, fmt.Errorf("cannot install use_rcc: %q and %q have to be absolute paths", configDir, rccPath)
	}
	path = filepath.Join(configDir, "lib", "rcc.sh")
	text := []byte(DirenvLib(rccPath))
	info, err := os.Lstat(path)
	switch {
	case err == nil:
		have, err := os.ReadFile(path)
		if err == nil && bytes.Equal(have, text) {
			return path, false, nil
		}
		if err != nil || !info.Mode().IsRegular() || !strings.HasPrefix(string(have), direnvMarker) {
			return path, false, fmt.Errorf("cannot install use_rcc: %s is not from rcc; move it away", path)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return path, false, fmt.Errorf("cannot install use_rcc: cannot look at %s: %w", path, plain(err))
	}
	if err := replaceFile(path, text, 0o644); err != nil {
		return path, false, fmt.Errorf("cannot install use_rcc: %w", err)
	}
	return path, true, nil
}

// replaceFile makes the folder and puts a file into it in one step.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	err := os.MkdirAll(dir, 0o755)
	if err != nil {
		return fmt.Errorf("cannot make %s: %w", dir, plain(err))
	}
	temp, err := os.CreateTemp(dir, ".rcc-*")
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", dir, plain(err))
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(mode), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		os.Remove(temp.Name())
		return fmt.Errorf("cannot write %s: %w", path, plain(err))
	}
	return nil
}

// A Direnv is what use_rcc has to do in direnv's bash.
type Direnv struct {
	Environ []string  // of rcc export direnv, which is direnv's
	Since   time.Time // when the evaluation began: a file that changed later is read again; zero: not known
	Watch   []string  // absolute paths of what decides, also of what is not there yet

	// One of these, or neither when there is no shell to enter:
	Vars []string // exported variables, NAME=VALUE, of a shell without a shellHook
	RC   string   // devshell's rc.bash, sourced with rcc_outputs, rcc_path and rcc_data_dirs

	Tree    string   // top of the checkout: rcc_tree
	Outputs string   // folder for outputs: rcc_outputs
	Errors  []string // lines that direnv shows as errors
}

// Text is bash text that does it, for eval in the function use_rcc. It starts
// no process where direnv's list of watched files can be read. PATH and
// XDG_DATA_DIRS are those of the dev shell with what was there behind; variables that
// belong to the user's session (HOME, TERM, TMPDIR…) stay.
func (d Direnv) Text() string {
	env := toMap(d.Environ)
	var b strings.Builder
	b.WriteString(d.watches(env))
	if d.RC != "" {
		b.WriteString("rcc_outputs=" + quotePosix(d.Outputs) + " rcc_tree=" + quotePosix(d.Tree) + " rcc_path=$PATH rcc_data_dirs=${XDG_DATA_DIRS-}\n")
		b.WriteString(". " + quotePosix(d.RC) + "\nunset rcc_outputs rcc_tree rcc_path rcc_data_dirs\n")
		for _, name := range ownFolders {
			if value, ok := env[name]; ok {
				b.WriteString("export " + name + "=" + quotePosix(value) + "\n")
			} else {
				b.WriteString("unset -v " + name + "\n")
			}
		}
		// direnv reads the result by a trap on EXIT (__main__ in its stdlib), which a shellHook may have replaced.
		b.WriteString("if declare -F __dump_at_exit >/dev/null; then trap __dump_at_exit EXIT; fi\n")
	} else {
		next := toMap(Merge(d.Environ, d.Vars))
		for _, name := range sortedNames(toMap(d.Vars)) {
			b.WriteString("export " + name + "=" + quotePosix(next[name]) + "\n")
		}
	}
	for _, line := range d.Errors {
		b.WriteString("log_error " + quotePosix("rcc: "+line) + "\n")
	}
	return b.String()
}

// Merge is an environment with a dev shell's exported variables on top: PATH
// and XDG_DATA_DIRS keep what was there behind, and what belongs to the user's session stays.
func Merge(environ, vars []string) []string {
	env, dev := toMap(environ), toMap(vars)
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if _, changed := dev[name]; !changed || isOwn(name) {
			out = append(out, kv)
		}
	}
	for _, name := range sortedNames(dev) {
		value := dev[name]
		if name == "PATH" || name == "XDG_DATA_DIRS" {
			value = joinLists(value, env[name])
		}
		out = append(out, name+"="+value)
	}
	return out
}
