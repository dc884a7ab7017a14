package hooks

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// StateVariable is the one exported variable in which the hooks keep what they
// have done to a shell. Subshells and programs inherit it; nothing is decided by it
// but what a shell of the user's gets back.
const StateVariable = "RCC_HOOK"

const (
	// maxState bounds the variable, in bytes: execve(2) refuses strings of 128 KiB
	// or more (MAX_ARG_STRLEN), and then the user could start nothing at all.
	maxState = 64 << 10
	// maxStateText bounds what is unpacked from it.
	maxStateText = 4 << 20
	// stateFormat is the first field; another one is not read.
	stateFormat = "1"
)

// A State is what the hooks have done in a shell.
type State struct {
	Envrc  string // the .envrc that it is about, absolute
	Active bool   // its variables are set
	Key    string // what was loaded, as cmd knows it
	Stamp  string // name of the stamp file, see stamp.go
	Told   string // hash of what the user was told last
	Lead   string // first folder of PATH in the dev shell, "" where PATH is as before
	Undo   []Undo // what Leave gives back
}

// An Undo is a variable as it was before.
type Undo struct {
	Name, Value string
	Set         bool // it was there
}

// ParseState reads the variable's value. What is not one of ours is an error
// and an empty state.
func ParseState(value string) (State, error) {
	if value == "" {
		return State{}, nil
	}
	bad := errors.New("cannot read " + StateVariable + ": it is not as rcc wrote it; it is ignored")
	if len(value) > maxState {
		return State{}, bad
	}
	packed, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return State{}, bad
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return State{}, bad
	}
	text, err := io.ReadAll(io.LimitReader(r, maxStateText+1))
	if err != nil || len(text) > maxStateText {
		return State{}, bad
	}
	fields := strings.Split(string(text), "\x00")
	if len(fields) < 7 || fields[0] != stateFormat || fields[2] != "" && fields[2] != "active" {
		return State{}, bad
	}
	s := State{Envrc: fields[1], Active: fields[2] != "", Key: fields[3], Stamp: fields[4], Told: fields[5], Lead: fields[6]}
	if !strings.HasPrefix(s.Envrc, "/") || s.Stamp != "" && !isHex(s.Stamp, 64) {
		return State{}, bad
	}
	for _, f := range fields[7:] {
		name, value, set := strings.Cut(f, "=")
		if !isName(name) || isOwn(name) {
			return State{}, bad
		}
		s.Undo = append(s.Undo, Undo{name, value, set})
	}
	return s, nil
}

// String is the variable's value; empty for the empty state.
func (s State) String() string {
	if s.Envrc == "" {
		return ""
	}
	fields := []string{stateFormat, s.Envrc, "", s.Key, s.Stamp, s.Told, s.Lead}
	if s.Active {
		fields[2] = "active"
	}
	for _, u := range s.Undo {
		if u.Set {
			fields = append(fields, u.Name+"="+u.Value)
		} else {
			fields = append(fields, u.Name)
		}
	}
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	io.WriteString(w, strings.Join(fields, "\x00")) // a Buffer takes everything
	w.Close()
	return base64.RawURLEncoding.EncodeToString(b.Bytes())
}

// check tells when the state is too large for a variable.
func (s State) check() (string, error) {
	text := s.String()
	if len(text) > maxState {
		return "", fmt.Errorf("cannot enter the dev shell of %s: the variables that it replaces take %d KiB, and %d are the limit; unset the largest", s.Envrc, len(text)>>10, maxState>>10)
	}
	return text, nil
}

// Base is the environment as it was before the hooks changed it.
func (s State) Base(environ []string) []string {
	undo := map[string]Undo{}
	if s.Active {
		for _, u := range s.Undo {
			undo[u.Name] = u
		}
	}
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if _, changed := undo[name]; !changed && name != StateVariable {
			out = append(out, kv)
		}
	}
	for _, u := range s.Undo {
		if s.Active && u.Set {
			out = append(out, u.Name+"="+u.Value)
		}
	}
	return out
}

// settle looks whether the shell has set PATH anew since, as login shells do
// (tmux starts those): what it has now then counts as what was before. intact
// is false when that was so, and environ has the state that follows.
func (s State) settle(environ []string) (next State, now []string, intact bool) {
	path := toMap(environ)["PATH"]
	if !s.Active || s.Lead == "" || slices.Contains(strings.Split(path, ":"), s.Lead) {
		return s, environ, true
	}
	s.Lead = ""
	s.Undo = slices.DeleteFunc(slices.Clone(s.Undo), func(u Undo) bool { return u.Name == "PATH" })
	for _, kv := range environ {
		if !strings.HasPrefix(kv, StateVariable+"=") {
			now = append(now, kv)
		}
	}
	return s, append(now, StateVariable+"="+s.String()), false
}
