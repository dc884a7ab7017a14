package devshell

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// environment is what nix print-dev-env --json prints, as far as it can be used.
//
//	{"variables": {NAME: {"type": "exported"|"var"|"array"|"associative", "value": …}},
//	 "bashFunctions": {NAME: BODY},
//	 "structuredAttrs": {".attrs.json": TEXT, ".attrs.sh": TEXT}}   since Nix 2.20
//
// (src/nix/print-dev-env.md and develop.cc in NixOS/nix). A type that is not
// known, such as the "unknown" of declare -i, has no value and is left out, as
// Nix does; so is a name that bash would not take.
type environment struct {
	strings   []variable // by name
	arrays    []array
	maps      []array // keys and values, in turn
	functions []variable

	attrsJSON, attrsSH string // the two files of __structuredAttrs
	structured         bool

	// What must stay known of variables that are not passed on.
	all map[string]string
	// outputs of the derivation: name and path.
	outputs []variable
}

type variable struct {
	name, value string
	exported    bool
}

type array struct {
	name   string
	values []string
}

// jsonCap bounds what Nix may print; stdenv's functions are 200 KB.
const jsonCap = 64 << 20

// What encoding/json says of it would tell nobody anything.
var (
	errNothing       = errors.New("nix print-dev-env printed nothing")
	errNoEnvironment = errors.New("what nix print-dev-env printed is no environment, or only a part of one")
)

// parseEnvironment reads the JSON. A flake's builder wrote it: everything in it
// is checked, nothing is believed.
func parseEnvironment(text []byte) (*environment, error) {
	var doc struct {
		Variables map[string]struct {
			Type  string          `json:"type"`
			Value json.RawMessage `json:"value"`
		} `json:"variables"`
		Functions  map[string]json.RawMessage `json:"bashFunctions"`
		Structured map[string]json.RawMessage `json:"structuredAttrs"`
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, errNothing
	}
	if err := json.Unmarshal(text, &doc); err != nil || doc.Variables == nil {
		return nil, errNoEnvironment
	}
	env := &environment{all: map[string]string{}}
	names := map[string][]string{} // of associative arrays: keys and values
	for _, name := range slices.Sorted(maps.Keys(doc.Variables)) {
		v := doc.Variables[name]
		if !isIdentifier(name) {
			continue
		}
		switch v.Type {
		case "exported", "var":
			if value, ok := text1(v.Value); ok {
				env.all[name] = value
				if !dropped(name) {
					env.strings = append(env.strings, variable{name, value, v.Type == "exported"})
				}
			}
		case "array":
			if values, ok := textList(v.Value); ok && !dropped(name) {
				env.arrays = append(env.arrays, array{name, values})
			}
		case "associative":
			if pairs, ok := textPairs(v.Value); ok && !dropped(name) {
				names[name] = pairs
				env.maps = append(env.maps, array{name, pairs})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Functions)) {
		if body, ok := text1(doc.Functions[name]); ok && isFunctionName(name) {
			env.functions = append(env.functions, variable{name: name, value: body})
		}
	}
	if doc.Structured != nil {
		sh, ok1 := text1(doc.Structured[".attrs.sh"])
		js, ok2 := text1(doc.Structured[".attrs.json"])
		env.structured = ok1 && ok2
		env.attrsSH, env.attrsJSON = sh, js
	}
	env.findOutputs(names["outputs"], env.arrays)
	return env, nil
}

// findOutputs lists the outputs of the derivation: the names in $outputs, each
// of which is a variable that has the path; with __structuredAttrs an
// associative array of both.
func (env *environment) findOutputs(pairs []string, arrays []array) {
	add := func(name, path string) {
		if len(env.outputs) < 100 && isIdentifier(name) && isStorePath(path) {
			env.outputs = append(env.outputs, variable{name: name, value: path})
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		add(pairs[i], pairs[i+1])
	}
	names := strings.Fields(env.all["outputs"])
	for _, a := range arrays {
		if a.name == "outputs" {
			names = append(names, a.values...)
		}
	}
	for _, name := range names {
		add(name, env.all[name])
	}
}

// isStorePath says whether text can be a store object's path: something that
// may be looked for in texts, wherever the store is.
func isStorePath(text string) bool {
	i := strings.LastIndexByte(text, '/')
	return strings.HasPrefix(text, "/") && i > 0 && len(text)-i > 33 && isStoreName(text[i+1:])
}

// isStoreName says whether a name is one that Nix gives: 32 characters of a
// hash, a dash, and at most 211 of "a-zA-Z0-9+-._?=" (store paths in the Nix manual).
func isStoreName(name string) bool {
	if len(name) < 34 || len(name) > 32+1+211 || name[32] != '-' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !isAlnum(c) && !(i > 32 && strings.IndexByte("+-._?=", c) >= 0) && i != 32 {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isIdentifier says whether bash takes it as the name of a variable.
func isIdentifier(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isAlnum(c) && c != '_' || i == 0 && '0' <= c && c <= '9' {
			return false
		}
	}
	return name != "" && len(name) <= 1000
}

// isFunctionName says whether bash takes it as the name of a function wherever
// it stands: identifiers, and those with the marks that scripts use, but none of
// the reserved words ("Reserved Words" in bash(1)).
func isFunctionName(name string) bool {
	rest := strings.Map(func(r rune) rune {
		if strings.ContainsRune("-.:+@", r) {
			return '_'
		}
		return r
	}, name)
	return isIdentifier(rest) && (isAlnum(name[0]) || name[0] == '_') && !slices.Contains([]string{
		"if", "then", "elif", "else", "fi", "time", "for", "in", "until", "while", "do", "done",
		"case", "esac", "coproc", "select", "function",
	}, name)
}

// droppedNames are not passed on. First what Nix's own text mode leaves out
// (ignoreVars in develop.cc): they are the builder's, not the shell's. Then what
// get-env.sh of some versions lets through although each bash sets it anew. All
// else that nix develop keeps is kept, LD_PRELOAD, ENV, PROMPT_COMMAND, PS4 and
// IFS too: they are what a dev shell may want to be, in the shell that is entered.
var droppedNames = []string{
	"BASHOPTS", "HOME", "NIX_BUILD_TOP", "NIX_ENFORCE_PURITY", "NIX_LOG_FD", "NIX_REMOTE", "PPID", "SHELLOPTS",
	"SSL_CERT_FILE", "TEMP", "TEMPDIR", "TERM", "TMP", "TMPDIR", "TZ", "UID",

	"_", "BASH", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FUNCNAME", "GROUPS", "HISTCMD", "HOSTNAME",
	"LINENO", "OLDPWD", "OPTARG", "OPTERR", "OPTIND", "PIPESTATUS", "PWD", "RANDOM", "REPLY", "SECONDS", "SHELL", "SHLVL", "SRANDOM",
}

// dropped says whether a variable is not passed on. rcc_ is the prefix of those
// that the caller of rc.bash sets. With RCC_ and DIRENV_ begin those by which rcc
// and direnv tell themselves where they are: a dev shell that set them would be
// taken for their own state.
func dropped(name string) bool {
	for _, prefix := range []string{"BASH_", "COMP_", "DIRENV_", "RCC_", "rcc_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains(droppedNames, name)
}

// text1 is a JSON string that bash can hold: no NUL.
func text1(raw json.RawMessage) (string, bool) {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	if json.Unmarshal(raw, &s) != nil || strings.IndexByte(s, 0) >= 0 {
		return "", false
	}
	return s, true
}

func textList(raw json.RawMessage) ([]string, bool) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || list == nil {
		return nil, false
	}
	out := make([]string, 0, len(list))
	for _, item := range list {
		s, ok := text1(item)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

func textPairs(raw json.RawMessage) ([]string, bool) {
	var pairs map[string]json.RawMessage
	if json.Unmarshal(raw, &pairs) != nil || pairs == nil {
		return nil, false
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		value, ok := text1(pairs[key])
		if !ok || strings.IndexByte(key, 0) >= 0 {
			return nil, false
		}
		if key != "" { // bash has no such key
			out = append(out, key, value)
		}
	}
	return out, true
}
