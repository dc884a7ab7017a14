package devshell

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// infoVersion is that of shell.json. Another one is no entry.
const infoVersion = 1

// infoCap bounds shell.json: variables and paths, no functions.
const infoCap = 64 << 20

// info is what shell.json holds. Lists are one string each, with NUL between
// (no path and no variable has one): that is read ten times as fast.
type info struct {
	Version     int     `json:"version"`
	Key         string  `json:"key"`
	Name        string  `json:"name"`
	Store       string  `json:"store"`    // folder of all paths
	Paths       string  `json:"paths"`    // names in it
	Exported    string  `json:"exported"` // NAME=VALUE
	Places      []place `json:"places"`
	Bash        string  `json:"bash"`
	Interactive string  `json:"interactive"`
	Hook        bool    `json:"hook"`
	Attrs       bool    `json:"attrs"`
	RCSize      int64   `json:"rc_size"`
}

var errDamaged = errors.New("the entry is damaged")

// readEntry reads a shell from its folder.
func readEntry(dir, key string) (*Shell, error) {
	data, err := readBounded(filepath.Join(dir, infoName), infoCap)
	if err != nil {
		return nil, err
	}
	var in info
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	rc := filepath.Join(dir, rcName)
	fi, err := os.Lstat(rc)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != in.RCSize || in.Version != infoVersion || in.Key != key {
		return nil, errDamaged
	}
	s := &Shell{
		Key: key, Name: in.Name, Bash: in.Bash, Interactive: in.Interactive, HasHook: in.Hook,
		RC: rc, places: in.Places,
	}
	if in.Attrs {
		s.Attrs = dir
	}
	if log := filepath.Join(dir, logName); isFile(log) {
		s.Log = log
	}
	for name := range strings.SplitSeq(in.Paths, "\x00") {
		if !isStoreName(name) {
			return nil, errDamaged
		}
		s.Paths = append(s.Paths, in.Store+"/"+name)
	}
	unnamed := slices.ContainsFunc(in.Places, func(p place) bool { return p.From == "" })
	if !filepath.IsAbs(in.Store) || filepath.Clean(in.Store) != in.Store || !slices.IsSorted(s.Paths) || unnamed {
		return nil, errDamaged
	}
	if in.Exported != "" {
		for kv := range strings.SplitSeq(in.Exported, "\x00") {
			name, value, ok := strings.Cut(kv, "=")
			if !ok || !isIdentifier(name) {
				return nil, errDamaged
			}
			s.exported = append(s.exported, variable{name, value, true})
		}
	}
	return s, nil
}

// writeEntry writes shell.json, which makes the folder an entry.
func (s *Shell) writeEntry(dir string) error {
	fi, err := os.Lstat(s.RC)
	if err != nil {
		return err
	}
	in := info{
		Version: infoVersion, Key: s.Key, Name: s.Name, Store: filepath.Dir(s.Paths[0]), Places: s.places,
		Bash: s.Bash, Interactive: s.Interactive, Hook: s.HasHook, Attrs: s.Attrs != "", RCSize: fi.Size(),
	}
	var names, exported []string
	for _, p := range s.Paths {
		names = append(names, filepath.Base(p))
	}
	for _, v := range s.exported {
		exported = append(exported, v.name+"="+v.value)
	}
	in.Paths, in.Exported = strings.Join(names, "\x00"), strings.Join(exported, "\x00")
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(dir, infoName), append(data, '\n'))
}

func isFile(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.Mode().IsRegular()
}

// numbers lists the shells of a key that are there, whole or not, in order.
func (c *Cache) numbers(key string) (out []int) {
	entries, _ := os.ReadDir(c.path(key))
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 && strconv.Itoa(n) == e.Name() && e.IsDir() {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}
