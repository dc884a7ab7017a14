package main

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A configDoc is a decoded file that knows the line of each key. Problems are
// gathered, and the one that stands first in the file is told: a map has no order.
type configDoc struct {
	name      string
	root      map[string]any
	lines     map[keyPath]int
	items     map[keyPath][]int // of the elements of a list
	wrong     string
	wrongLine int
}

// A configSection is one table of the file.
type configSection struct {
	doc    *configDoc
	path   []string
	values map[string]any
}

// A keyPath is where a key stands: the tables it is in and its own name. What is
// nested deeper than that is of no use here.
type keyPath [3]string

func (s configSection) at(key string) (path keyPath) {
	copy(path[:], append(slices.Clip(s.path), key))
	return path
}

func (s configSection) line(key string) int { return s.doc.lines[s.at(key)] }

func (s configSection) place(key string) string {
	return fmt.Sprintf("%s:%d", s.doc.name, s.line(key))
}

// itemLine is the line of an element of the list under key.
func (s configSection) itemLine(key string, i int) int {
	if lines := s.doc.items[s.at(key)]; i < len(lines) {
		return lines[i]
	}
	return s.line(key)
}

func (s configSection) itemPlace(key string, i int) string {
	return fmt.Sprintf("%s:%d", s.doc.name, s.itemLine(key, i))
}

func (s configSection) problem(key, format string, args ...any) {
	s.doc.problem(s.line(key), fmt.Sprintf(format, args...))
}

func (s configSection) itemProblem(key string, i int, format string, args ...any) {
	s.doc.problem(s.itemLine(key, i), fmt.Sprintf(format, args...))
}

func (d *configDoc) problem(line int, message string) {
	if d.wrong == "" || line < d.wrongLine || line == d.wrongLine && message < d.wrong {
		d.wrong, d.wrongLine = message, line
	}
}

// known makes every key that is not listed a problem.
func (s configSection) known(keys ...string) {
	where := ""
	if len(s.path) > 0 {
		where = " in [" + strings.Join(s.path, ".") + "]"
	}
	for key := range s.values {
		if !slices.Contains(keys, key) {
			s.problem(key, "unknown key %s%s; known here: %s", shownID(key), where, strings.Join(keys, ", "))
		}
	}
}

// table is the table under key, if there is one. The example is for the error.
func (s configSection) table(key, example string) (configSection, bool) {
	v, ok := s.values[key]
	if !ok {
		return configSection{}, false
	}
	values, ok := v.(map[string]any)
	if !ok {
		s.problem(key, "%s must be a table: %s", key, example)
		return configSection{}, false
	}
	return configSection{s.doc, append(slices.Clone(s.path), key), values}, true
}

// configText reads a string, one of choices unless that is nil.
func configText(s configSection, key, want string, choices []string) (out Setting[string]) {
	v, ok := s.values[key]
	if !ok {
		return out
	}
	value, ok := v.(string)
	if !ok || value == "" || choices != nil && !slices.Contains(choices, value) {
		s.problem(key, "%s must be %s%s", key, want, butIs(v))
		return out
	}
	return Setting[string]{value, s.place(key)}
}

func configTruth(s configSection, key string) (out Setting[bool]) {
	v, ok := s.values[key]
	if !ok {
		return out
	}
	value, ok := v.(bool)
	if !ok {
		s.problem(key, "%s must be true or false%s", key, butIs(v))
		return out
	}
	return Setting[bool]{value, s.place(key)}
}

func configList(s configSection, key, want string) (out Setting[[]string]) {
	v, ok := s.values[key]
	if !ok {
		return out
	}
	list, ok := v.([]any)
	texts := []string{}
	for _, e := range list {
		text, isText := e.(string)
		ok = ok && isText && text != ""
		texts = append(texts, text)
	}
	if !ok {
		s.problem(key, "%s must be %s", key, want)
		return out
	}
	return Setting[[]string]{texts, s.place(key)}
}

// configPaths reads a list of paths or patterns (path.Match), relative to the
// top of the tree. What would match nothing is a problem.
func configPaths(s configSection, key string) Setting[[]string] {
	list := configList(s, key, `a list of paths or patterns, such as ["rust-toolchain.toml", "nix/*.json"]`)
	for _, p := range list.Value {
		switch _, err := path.Match(p, ""); {
		case err != nil:
			s.problem(key, "%s has a pattern that cannot be read: %s", key, shownID(p))
		case path.IsAbs(p), strings.HasPrefix(path.Clean(p), ".."):
			s.problem(key, "%s has %s, which is not a path in the repository; it starts at its top, as in nix/x.json", key, shownID(p))
		case strings.Contains(p, "**"):
			s.problem(key, "%s has %s; a folder stands for all that is in it, and * for one name", key, shownID(p))
		}
	}
	return list
}

// configEnv reads names of variables. What they hold is the caller's, which is
// not for a repository to ask for.
func configEnv(s configSection, isRepo bool) []string {
	list := configList(s, "env", `a list of names of variables, such as ["API_KEY"]`)
	if isRepo && list.From != "" {
		s.problem("env", "env cannot be set by a repository, because it gives an agent variables of yours; set it in your own config.toml")
	}
	for i, name := range list.Value {
		switch {
		case strings.ContainsFunc(name, func(r rune) bool { return r != '_' && (r >= 0x80 || !isASCIIAlnum(byte(r))) }), name[0] <= '9':
			s.itemProblem("env", i, "env has %s, which is not the name of a variable", shownID(name))
		case name == "HOME", name == "PATH", strings.HasPrefix(name, "RCC_"):
			s.itemProblem("env", i, "env has %s, which the sandbox sets by itself", shownID(name))
		}
	}
	return list.Value
}

func configDuration(s configSection, key string) (out Setting[time.Duration]) {
	v, ok := s.values[key]
	if !ok {
		return out
	}
	value, _ := v.(string)
	dur, err := time.ParseDuration(value)
	if err != nil || dur <= 0 {
		s.problem(key, `%s must be a duration such as "30m" or "1h30m"%s`, key, butIs(v))
		return out
	}
	return Setting[time.Duration]{dur, s.place(key)}
}

// butIs ends a sentence about a value of the wrong kind with that value, where
// it is short enough to be of help.
func butIs(v any) string {
	switch v := v.(type) {
	case string:
		return ", not " + shownID(v)
	case bool, int64, float64:
		return fmt.Sprintf(", not %v", v)
	}
	return ""
}

// parseConfig decodes the file and notes the line of each key.
func parseConfig(name string, data []byte) (*configDoc, error) {
	if len(data) > maxConfigSize {
		return nil, fmt.Errorf("%s:1: the file is over %d KiB; a configuration is a page or two", name, maxConfigSize>>10)
	}
	data = slices.Clip(slices.Clone(data)) // the library finds positions by the slice's capacity
	d := &configDoc{name: name, lines: map[keyPath]int{}, items: map[keyPath][]int{}}
	if err := toml.Unmarshal(data, &d.root); err != nil {
		line := 1
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, _ = at.Position()
		}
		return nil, fmt.Errorf("%s:%d: %s", name, line, Inert(strings.TrimPrefix(err.Error(), "toml: ")))
	}
	d.findLines(data)
	return d, nil
}

// findLines notes the line of each key and of each element of a list, in the
// order of the file.
func (d *configDoc) findLines(data []byte) {
	var p unstable.Parser
	p.Reset(data)
	line, seen := 1, 0
	lineOf := func(n *unstable.Node) int {
		if at := int(n.Raw.Offset); at > seen {
			line += bytes.Count(data[seen:at], []byte("\n"))
			seen = at
		}
		return line
	}
	note := func(path keyPath, key *unstable.Node) {
		if at := lineOf(key); d.lines[path] == 0 {
			d.lines[path] = at
		}
	}
	// walk takes the keys of one expression, and those in its inline tables.
	var walk func(path keyPath, depth int, n *unstable.Node) (keyPath, int)
	walk = func(path keyPath, depth int, n *unstable.Node) (keyPath, int) {
		for it := n.Key(); it.Next(); depth++ {
			if depth < len(path) {
				path[depth] = string(it.Node().Data)
				note(path, it.Node())
			}
		}
		if n.Kind != unstable.KeyValue {
			return path, depth
		}
		if depth <= len(path) && n.Value().Kind == unstable.Array {
			for it := n.Value().Children(); it.Next(); {
				if child := it.Node(); child.Kind != unstable.Comment {
					d.items[path] = append(d.items[path], lineOf(child))
				}
			}
		}
		if depth < len(path) && n.Value().Kind == unstable.InlineTable {
			for it := n.Value().Children(); it.Next(); {
				if child := it.Node(); child.Kind == unstable.KeyValue {
					walk(path, depth, child)
				}
			}
		}
		return path, depth
	}
	var table keyPath
	depth := 0
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, depth = walk(keyPath{}, 0, n)
		case unstable.KeyValue:
			walk(table, depth, n)
		}
	}
}
