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

// listCap bounds shell.json and each list: variables and paths, no functions.
const listCap = 64 << 20

// info is what shell.json holds. The long lists are files of their own, with NUL
// between the items, as JSON takes ten times as long to read.
type info struct {
	Version     int     `json:"version"`
	Key         string  `json:"key"`
	Name        string  `json:"name"`
	Store       string  `json:"store"` // folder of all paths
	Places      []place `json:"places"`
	Bash        string  `json:"bash"`
	Interactive string  `json:"interactive"`
	Hook        bool    `json:"hook"`
	Attrs       bool    `json:"attrs"`
	// Bytes of the files beside: a file that is cut off is noticed.
	Sizes map[string]int64 `json:"sizes"`
}

const (
	pathsName    = "paths"   // the closure: names in the store
	exportedName = "environ" // NAME=VALUE
)

var errDamaged = errors.New("the entry is damaged")

// readEntry reads a shell from its folder.
func readEntry(dir, key string) (*Shell, error) {
	data, err := readBounded(filepath.Join(dir, infoName), listCap)
	if err != nil {
		return nil, err
	}
	var in info
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	unnamed := slices.ContainsFunc(in.Places, func(p place) bool { return p.From == "" })
	if in.Version != infoVersion || in.Key != key || unnamed || !filepath.IsAbs(in.Store) || in.Store == "/" || filepath.Clean(in.Store) != in.Store {
		return nil, errDamaged
	}
	s := &Shell{
		Key: key, Name: in.Name, Bash: in.Bash, Interactive: in.Interactive, HasHook: in.Hook,
		RC: filepath.Join(dir, rcName), places: in.Places,
	}
	if in.Attrs {
		s.Attrs = dir
	}
	if log := filepath.Join(dir, logName); isFile(log) {
		s.Log = log
	}
	if fi, err := os.Lstat(s.RC); err != nil || !fi.Mode().IsRegular() || fi.Size() != in.Sizes[rcName] {
		return nil, errDamaged
	}
	names, err := readList(dir, pathsName, in.Sizes)
	if err != nil || len(names) == 0 {
		return nil, also(errDamaged, err)
	}
	s.Paths = make([]string, len(names))
	for i, name := range names {
		if !isStoreName(name) || i > 0 && name <= names[i-1] {
			return nil, errDamaged
		}
		s.Paths[i] = in.Store + "/" + name
	}
	exported, err := readList(dir, exportedName, in.Sizes)
	if err != nil {
		return nil, also(errDamaged, err)
	}
	for _, kv := range exported {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || !isIdentifier(name) {
			return nil, errDamaged
		}
		s.exported = append(s.exported, variable{name, value, true})
	}
	return s, nil
}

// writeEntry writes the lists, and then shell.json, which makes the folder an entry.
func (s *Shell) writeEntry(dir string) error {
	fi, err := os.Lstat(s.RC)
	if err != nil {
		return err
	}
	in := info{
		Version: infoVersion, Key: s.Key, Name: s.Name, Store: filepath.Dir(s.Paths[0]), Places: s.places,
		Bash: s.Bash, Interactive: s.Interactive, Hook: s.HasHook, Attrs: s.Attrs != "",
		Sizes: map[string]int64{rcName: fi.Size()},
	}
	var names, exported []string
	for _, p := range s.Paths {
		names = append(names, filepath.Base(p))
	}
	for _, v := range s.exported {
		exported = append(exported, v.name+"="+v.value)
	}
	for name, list := range map[string][]string{pathsName: names, exportedName: exported} {
		text := strings.Join(list, "\x00")
		in.Sizes[name] = int64(len(text))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(dir, infoName), append(data, '\n'))
}

// readList reads a list that is as long as it should be.
func readList(dir, name string, sizes map[string]int64) ([]string, error) {
	data, err := readBounded(filepath.Join(dir, name), listCap)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != sizes[name] {
		return nil, errDamaged
	}
	if len(data) == 0 {
		return nil, nil
	}
	return strings.Split(string(data), "\x00"), nil
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
