package devshell

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Shell is a dev shell as plain values. It is held until Release: Collect
// leaves its entry, and the entry is a root for Nix's garbage collector.
type Shell struct {
	Key, Name string
	Fresh     bool     // made now
	Log       string   // file with what Nix said when it was made, "" if nothing
	Paths     []string // the closure: absolute store paths, sorted
	Bash      string   // the dev shell's bash, absolute, in the closure; "" if there is none
	// Interactive is a bash of the closure that has readline, "" if there is none.
	Interactive string
	HasHook     bool   // shellHook is not empty
	RC          string // file of the host: text for bash, see rcText
	// Attrs is a folder of the host with .attrs.json and .attrs.sh of a
	// derivation with __structuredAttrs, "" for others. RC and Environ name the
	// files there, unless told of another folder.
	Attrs string

	exported []variable
	places   []place
	lock     *os.File
}

// Places says where things are for whoever enters the shell; "" is the default.
type Places struct {
	Outputs string // folder for outputs of the derivation; default: outputs in the working directory
	Tree    string // the tree, for a shell.nix that names its own folder; default: where it was evaluated
	Attrs   string // folder with .attrs.json and .attrs.sh; default: Shell.Attrs
}

// Environ lists the exported variables as NAME=VALUE, by name. Paths of the
// derivation's outputs become outputs/<name>, as nix develop has it. SHELL,
// HOME, TERM and the like are not among them.
func (s *Shell) Environ(outputs string) []string { return s.EnvironAt(Places{Outputs: outputs}) }

// EnvironAt is Environ for other places.
func (s *Shell) EnvironAt(at Places) []string {
	var pairs []string
	for _, p := range s.places {
		to := p.Else
		switch {
		case p.Kind == placeOutput:
			to = filepath.Join(at.Outputs, p.Name)
		case p.Kind == placeTree && at.Tree != "":
			to = at.Tree
		case p.Kind == placeAttrs && at.Attrs != "":
			to = filepath.Join(at.Attrs, p.Name)
		case p.Kind == placeAttrs:
			to = filepath.Join(p.Else, p.Name)
		}
		pairs = append(pairs, p.From, to)
	}
	r := strings.NewReplacer(pairs...)
	out := make([]string, 0, len(s.exported))
	for _, v := range s.exported {
		out = append(out, v.name+"="+r.Replace(v.value))
	}
	return out
}

// Look finds a program on the dev shell's own PATH and in its closure, and
// returns its absolute path, or "". A link is followed; where it leads must be
// in the closure too.
func (s *Shell) Look(name string) string {
	for _, v := range s.exported {
		if v.name == "PATH" {
			return lookIn(s.Paths, v.value, name)
		}
	}
	return ""
}

// Release lets go of the shell: Collect may remove its entry now.
func (s *Shell) Release() {
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
}

// lookIn finds a program in the folders of a PATH that are in the closure.
func lookIn(paths []string, path, name string) string {
	if name == "" || strings.ContainsRune(name, '/') {
		return ""
	}
	for dir := range strings.SplitSeq(path, ":") {
		if file := filepath.Join(dir, name); isProgram(paths, file) {
			return file
		}
	}
	return ""
}

// isProgram says whether a file is a program in the closure. Only what names a
// path of the closure is looked at.
func isProgram(paths []string, file string) bool {
	if !inClosure(paths, file) {
		return false
	}
	real, err := filepath.EvalSymlinks(file)
	if err != nil || !inClosure(paths, real) {
		return false
	}
	fi, err := os.Stat(real)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

// inClosure says whether an absolute, clean path lies in one of the store paths.
func inClosure(paths []string, file string) bool {
	if len(paths) == 0 || !filepath.IsAbs(file) || filepath.Clean(file) != file {
		return false
	}
	rest, ok := strings.CutPrefix(file, filepath.Dir(paths[0])+"/")
	if !ok {
		return false
	}
	name, _, _ := strings.Cut(rest, "/")
	_, found := slices.BinarySearch(paths, filepath.Dir(paths[0])+"/"+name)
	return found
}
