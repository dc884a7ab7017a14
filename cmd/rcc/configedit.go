package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/pelletier/go-toml/v2/unstable"

	"rcc/isolate/egress"
)

// addAllow adds entries to the list of what is allowed in the user's
// configuration, and tells whether that changed anything. Comments and layout stay
// as they are; the file is replaced as a whole, with its mode, or not at all. A
// file without a list gets one that keeps what held without it (projectMark); one
// that does not exist is made, readable for its owner alone.
//
// A file that cannot be parsed or written is an error that names the line to add
// by hand: it may be a link to what another program makes.
func addAllow(path string, entries []string) (changed bool, err error) {
	rules := make([]egress.Rule, len(entries))
	for i, text := range entries {
		if rules[i], err = parseAllowed(text); err != nil {
			return false, fmt.Errorf("cannot allow %s: %w", shownText(text), err)
		}
	}
	byHand := func(err error) error {
		return fmt.Errorf("cannot change %s: %s; add the entry by hand: %s", Inert(path), oneLine(underlying(err)), strings.TrimSpace(allowLine(withProject(rules))))
	}
	target, old, err := editable(path)
	if err != nil {
		return false, byHand(err)
	}
	data, err := withAllowed(path, old.data, rules)
	if err != nil {
		return false, byHand(err)
	}
	if old.info != nil && bytes.Equal(data, old.data) {
		return false, nil
	}
	if err := old.replace(target, data); err != nil {
		return false, byHand(err)
	}
	return true, nil
}

// An editedFile is a file as it was before it is replaced; info is nil where
// there was none.
type editedFile struct {
	data []byte
	info fs.FileInfo
}

// editable reads the file that path leads to. One that its owner may not write is
// refused, for root too: it is another program's, such as a link into a store.
func editable(path string) (target string, old editedFile, err error) {
	if target, err = filepath.EvalSymlinks(path); errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(path); lerr == nil {
			return "", old, errors.New("it is a link to nowhere")
		}
		return path, old, nil
	}
	if err != nil {
		return "", old, err
	}
	if old.info, err = os.Stat(target); err != nil {
		return "", old, err
	}
	if old.info.Mode().IsRegular() && old.info.Mode().Perm()&0o200 == 0 {
		if target != path {
			return "", old, fmt.Errorf("it leads to %s, which is read-only", Inert(target))
		}
		return "", old, errors.New("it is read-only")
	}
	old.data, err = ReadUserConfig(target)
	return target, old, err
}

// replace puts data in its place, with the mode and the owner that it had.
func (old editedFile) replace(target string, data []byte) error {
	if old.info == nil {
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = f.Write(data)
	if st, ok := old.stat(); err == nil && ok {
		if int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
			err = f.Chown(int(st.Uid), int(st.Gid))
		}
		err = errors.Join(err, f.Chmod(old.info.Mode().Perm()))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), target)
}

func (old editedFile) stat() (*syscall.Stat_t, bool) {
	if old.info == nil {
		return nil, false
	}
	st, ok := old.info.Sys().(*syscall.Stat_t)
	return st, ok
}

// withProject is a list that allows rules beside what held without a list.
func withProject(rules []egress.Rule) []egress.Rule {
	if slices.ContainsFunc(rules, func(r egress.Rule) bool { return r.Name == projectMark }) {
		return rules
	}
	return append([]egress.Rule{{Name: projectMark}}, rules...)
}

func allowLine(rules []egress.Rule) string { return "allow = [" + quotedRules(rules, ", ") + "]\n" }

func quotedRules(rules []egress.Rule, between string) string {
	texts := make([]string, len(rules))
	for i, r := range rules {
		texts[i] = `"` + r.String() + `"` // nothing in a rule needs to be escaped
	}
	return strings.Join(texts, between)
}

// withAllowed is the file with rules in its list.
func withAllowed(name string, data []byte, rules []egress.Rule) ([]byte, error) {
	before, err := decodeConfig(Inert(name), data, false)
	if err != nil {
		return nil, err
	}
	has := before.User.Allow
	var missing []egress.Rule
	for _, r := range rules {
		same := func(h egress.Rule) bool { return h.String() == r.String() }
		if !slices.ContainsFunc(has.Value, same) && !slices.ContainsFunc(missing, same) {
			missing = append(missing, r)
		}
	}
	if len(missing) == 0 {
		return data, nil
	}
	e := lookForAllow(data)
	eol := "\n"
	if bytes.Contains(data, []byte("\r\n")) {
		eol = "\r\n"
	}
	var out []byte
	if has.From == "" {
		out = e.newList(data, withProject(missing), eol)
	} else {
		out = e.longerList(data, missing, eol)
	}
	return out, onlyAllowChanged(name, data, out, len(has.Value)+len(missing))
}

// onlyAllowChanged holds the edited file against the old one: what was meant to
// change did, and nothing else.
func onlyAllowChanged(name string, old, edited []byte, atLeast int) error {
	unusual := errors.New("its layout is too unusual to be edited")
	c, err := decodeConfig(Inert(name), edited, false)
	if err != nil {
		return unusual
	}
	was, err := parseConfig(name, old)
	if err != nil {
		return unusual
	}
	is, err := parseConfig(name, edited)
	if err != nil {
		return unusual
	}
	delete(was.root, "allow")
	delete(is.root, "allow")
	if len(c.User.Allow.Value) < atLeast || len(was.root)+len(is.root) > 0 && !reflect.DeepEqual(was.root, is.root) {
		return unusual
	}
	return nil
}

// allowPlace is where a file has its list, or could have one.
type allowPlace struct {
	open, shut int // offsets of the list's brackets
	last       int // end of its last element; 0: it is empty
	topEnd     int // end of the last key outside of every table; 0: there is none
	table      int // start of the first table; -1: there is none
}

func lookForAllow(data []byte) allowPlace {
	e := allowPlace{table: -1}
	var p unstable.Parser
	data = slices.Clip(slices.Clone(data)) // the library finds positions by the slice's capacity
	p.Reset(data)
	for p.NextExpression() {
		n := p.Expression()
		if n.Kind == unstable.Table || n.Kind == unstable.ArrayTable {
			it := n.Key()
			it.Next()
			e.table = bytes.LastIndexByte(data[:it.Node().Raw.Offset], '\n') + 1
			return e
		}
		if n.Kind != unstable.KeyValue {
			continue
		}
		e.topEnd = int(n.Raw.Offset + n.Raw.Length)
		it := n.Key()
		it.Next()
		if string(it.Node().Data) != "allow" || n.Value().Kind != unstable.Array {
			continue
		}
		key := it.Node().Raw
		from := int(key.Offset + key.Length)
		e.open, e.shut = from+bytes.IndexByte(data[from:], '['), e.topEnd-1
		for items := n.Value().Children(); items.Next(); {
			if item := items.Node(); item.Kind == unstable.String {
				e.last = int(item.Raw.Offset + item.Raw.Length)
			}
		}
	}
	return e
}

// newList puts a list of its own after the last key that is in no table, or else
// before the first table and the comment above that.
func (e allowPlace) newList(data []byte, rules []egress.Rule, eol string) []byte {
	text := strings.TrimSuffix(allowLine(rules), "\n") + eol
	switch {
	case e.topEnd > 0:
		return insert(data, lineEnd(data, e.topEnd), text, eol)
	case e.table >= 0:
		return insert(data, commentAbove(data, e.table), text+eol, eol)
	}
	return insert(data, len(data), text, eol)
}

// longerList adds to the list in its own style: on the same line, or on lines of
// their own.
func (e allowPlace) longerList(data []byte, rules []egress.Rule, eol string) []byte {
	if e.last == 0 {
		return insert(data, e.open+1, quotedRules(rules, ", "), eol)
	}
	rest := data[e.last:e.shut]
	if !bytes.Contains(rest, []byte("\n")) {
		return insert(data, e.last, ", "+quotedRules(rules, ", "), eol)
	}
	start := bytes.LastIndexByte(data[:e.last], '\n') + 1
	indent := data[start : start+len(data[start:])-len(bytes.TrimLeft(data[start:], " \t"))]
	if start <= e.open {
		indent = []byte("  ")
	}
	text := string(indent) + quotedRules(rules, ","+eol+string(indent))
	next := lineEnd(data, e.last)
	if endsWithComma(rest) {
		return insert(data, next, text+","+eol, eol)
	}
	return insert(insert(data, next, text+eol, eol), e.last, ",", eol)
}

// endsWithComma tells whether a comma follows the last element of a list.
func endsWithComma(rest []byte) bool {
	for line := range bytes.Lines(rest) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		if bytes.Contains(line, []byte(",")) {
			return true
		}
	}
	return false
}

// insert puts text, which may begin a line, at an offset.
func insert(data []byte, at int, text, eol string) []byte {
	if at == len(data) && at > 0 && data[at-1] != '\n' {
		text = eol + text
	}
	return slices.Concat(data[:at], []byte(text), data[at:])
}

// lineEnd is the start of the line after an offset.
func lineEnd(data []byte, at int) int {
	if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(data)
}

// commentAbove is the start of the comment that stands directly above a line.
func commentAbove(data []byte, at int) int {
	for at > 0 {
		start := bytes.LastIndexByte(data[:at-1], '\n') + 1
		if !bytes.HasPrefix(bytes.TrimSpace(data[start:at]), []byte("#")) {
			break
		}
		at = start
	}
	return at
}
