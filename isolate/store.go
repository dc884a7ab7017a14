package isolate

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
)

// StoreDir is where programs find Nix's store, inside and, if the Job does not
// say otherwise, on the host. Store paths have their dependencies' absolute
// paths written into them, so inside there is no choice.
const StoreDir = "/nix/store"

// maxStorePaths bounds the store paths of one sandbox. The kernel allows 100000
// mounts in all (fs.mount-max, Documentation/admin-guide/sysctl/fs.rst).
const maxStorePaths = 50_000

// storeNames gives the names of store paths as a StepStore has them: sorted.
func storeNames(paths []string) ([]string, error) {
	if len(paths) > maxStorePaths {
		return nil, fmt.Errorf("cannot show %d store paths: at most %d fit into a sandbox", len(paths), maxStorePaths)
	}
	names := make([]string, 0, len(paths))
	for _, p := range paths {
		name, ok := strings.CutPrefix(p, StoreDir+"/")
		if !ok || !isStoreName(name) {
			return nil, fmt.Errorf("cannot show %q: it is not a path of Nix's store, %s/HASH-NAME", p, StoreDir)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			return nil, fmt.Errorf("cannot show %s/%s twice: give each store path once", StoreDir, names[i])
		}
	}
	return names, nil
}

// isStoreName tells whether a name in the store is that of a store path: a hash
// of 32 characters in Nix's base 32, "-", and a name (StorePath in
// src/libstore/path.cc and base32Chars in src/libutil/hash.cc of Nix). What else
// lies there is Nix's own: .links has every file of the store under another name.
func isStoreName(s string) bool {
	const hashLen, maxName = 32, 211
	if len(s) < hashLen+2 || len(s) > hashLen+1+maxName || s[hashLen] != '-' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
		case i < hashLen:
			if c < 'a' || c > 'z' || c == 'e' || c == 'o' || c == 't' || c == 'u' {
				return false
			}
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte("+-._?=", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// nameList is written as one text: to take thousands of strings out of JSON
// costs each stage a millisecond, and the names have no spaces.
type nameList []string

// MarshalText implements encoding.TextMarshaler.
func (l nameList) MarshalText() ([]byte, error) { return []byte(strings.Join(l, " ")), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *nameList) UnmarshalText(b []byte) error {
	*l = nil
	if len(b) > 0 {
		*l = strings.Split(string(b), " ")
	}
	return nil
}

// checkStore refuses a StepStore that NewPlan would not have made.
func checkStore(s Step) error {
	if s.Type != StepStore {
		if len(s.Names) > 0 {
			return fmt.Errorf("plan has store paths in a step %q", s.Type)
		}
		return nil
	}
	if s.Target != StoreDir || !path.IsAbs(s.Source) {
		return fmt.Errorf("plan has a store at %q of %q", s.Target, s.Source)
	}
	if len(s.Names) > maxStorePaths {
		return fmt.Errorf("plan has %d store paths", len(s.Names))
	}
	for i, name := range s.Names {
		if !isStoreName(name) || i > 0 && name <= s.Names[i-1] {
			return fmt.Errorf("plan has a store path that is not one, or out of order: %q", name)
		}
	}
	return nil
}

// MissingStorePath tells which store path stood in Start's way because it is
// not in the host's store any more, as after a garbage collection.
func MissingStorePath(err error) (string, bool) {
	var se *StepError
	if !errors.As(err, &se) || !errors.Is(se.Err, syscall.ENOENT) {
		return "", false
	}
	p, ok := strings.CutPrefix(se.Step, "show ")
	return p, ok && strings.HasPrefix(p, StoreDir+"/")
}
