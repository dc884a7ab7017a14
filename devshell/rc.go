package devshell

import (
	"bytes"
	"fmt"
	"strings"
)

// rcText is the text for bash (rc.bash). Whoever sources it may set before
//
//	rcc_outputs    folder for outputs of the derivation; default $PWD/outputs, as nix develop has it
//	rcc_path       appended to PATH, which else has the dev shell's folders only
//	rcc_data_dirs  appended to XDG_DATA_DIRS
//	rcc_tree       the tree, for a shell.nix that names its own folder
//	rcc_attrs      folder with .attrs.json and .attrs.sh (__structuredAttrs)
//	rcc_functions  "0": variables only; nothing of the flake's is executed or even read as code
//	rcc_hook       "0": shellHook is not run
//
// All of these but rcc_hook are unset again. It does what the text of nix
// print-dev-env does (makeRcScript in develop.cc), without its temporary
// folder: HOME, TERM, TMPDIR and SHELL are the caller's.
//
// Values are quoted here. Functions and shellHook are code that the flake
// chose; they come last, so that no function of theirs can stand in for a
// builtin that our own lines use.
func rcText(env *environment, places []place) []byte {
	w := &rcWriter{places: places, data: placeReplacer(places, "rcc_d"), code: placeReplacer(places, "rcc_c")}
	w.head()
	for _, v := range env.strings {
		switch v.name {
		case "PATH", "XDG_DATA_DIRS":
			continue
		case "shellHook":
			w.line(v.name, "=", w.quoteCode(v.value))
		default:
			w.line(v.name, "=", w.quote(v.value))
		}
		if v.exported {
			w.line("export ", v.name)
		}
	}
	for _, a := range env.arrays {
		w.list("declare -ga ", a.name, a.values)
	}
	for _, m := range env.maps {
		w.pairs(m)
	}
	w.searchPath("PATH", "rcc_path", env)
	w.searchPath("XDG_DATA_DIRS", "rcc_data_dirs", env)
	w.line(`if [[ ${rcc_functions-} == 0 ]]; then `, w.forget(), `; return 0; fi`)
	var plain []variable
	for _, f := range env.functions {
		if !w.touches(f.value) {
			plain = append(plain, f)
			continue
		}
		w.line("eval ", w.quoteCode(functionText(f)))
	}
	w.line(w.forget())
	for _, f := range plain {
		w.WriteString(functionText(f))
	}
	w.line(`[[ ${rcc_hook-} == 0 ]] || eval "${shellHook-}"`)
	return w.Bytes()
}

// A place is a path in values that stands for another one where the shell is
// entered. Of a list of them none is the beginning of a later one.
type place struct {
	From string `json:"from"` // as Nix printed it
	Kind string `json:"kind"`
	Name string `json:"name"` // of the output or the file
	Else string `json:"else"` // what it is if the caller names nothing
}

// The kinds of places.
const (
	placeOutput = "output"
	placeTree   = "tree"
	placeAttrs  = "attrs"
)

type rcWriter struct {
	bytes.Buffer
	places     []place
	data, code *strings.Replacer
}

func (w *rcWriter) line(parts ...string) {
	for _, p := range parts {
		w.WriteString(p)
	}
	w.WriteByte('\n')
}

// head defines, for each place, what stands for it in data (rcc_dN) and in code
// (rcc_cN). In code a path with characters that bash gives a meaning would be
// read as code too: there the path stays as it was.
func (w *rcWriter) head() {
	w.line("# For bash, to be sourced.")
	w.line("unset shellHook")
	w.line(`rcc_outputs=${rcc_outputs-$PWD/outputs}`)
	for i, p := range w.places {
		switch p.Kind {
		case placeOutput:
			w.line(fmt.Sprintf("rcc_d%d=$rcc_outputs/%s", i, p.Name)) // an identifier
		case placeTree:
			w.line(fmt.Sprintf("rcc_d%d=${rcc_tree-%s}", i, quote(p.Else)))
		case placeAttrs:
			w.line(fmt.Sprintf("rcc_d%d=${rcc_attrs-%s}/%s", i, quote(p.Else), p.Name))
		}
		w.line(fmt.Sprintf("rcc_c%d=$rcc_d%[1]d; if [[ $rcc_c%[1]d == *[!A-Za-z0-9_./+@%%,:=-]* ]]; then rcc_c%[1]d=%[2]s; fi", i, quote(p.From)))
	}
}

// forget is the command that unsets what only this text needs.
func (w *rcWriter) forget() string {
	text := "unset rcc_outputs rcc_path rcc_data_dirs rcc_tree rcc_attrs rcc_functions"
	for i := range w.places {
		text += fmt.Sprintf(" rcc_d%d rcc_c%[1]d", i)
	}
	return text
}

// searchPath sets a list of folders, and what the caller appends to it.
func (w *rcWriter) searchPath(name, more string, env *environment) {
	value, ok := "", false
	for _, v := range env.strings {
		if v.name == name {
			value, ok = v.value, true
		}
	}
	if !ok && name != "PATH" {
		w.line(fmt.Sprintf("if [[ -n ${%s-} ]]; then export %s=$%[1]s; fi", more, name))
		return
	}
	w.line(name, "=", w.quote(value))
	w.line(fmt.Sprintf("%s=$%[1]s${%s:+${%[1]s:+:}$%[2]s}", name, more))
	w.line("export ", name)
}

func (w *rcWriter) list(declare, name string, values []string) {
	w.WriteString(declare + name + "=(")
	for i, v := range values {
		if i > 0 {
			w.WriteByte(' ')
		}
		w.WriteString(w.quote(v))
	}
	w.line(")")
}

func (w *rcWriter) pairs(m array) {
	w.WriteString("declare -gA " + m.name + "=(")
	for i := 0; i+1 < len(m.values); i += 2 {
		if i > 0 {
			w.WriteByte(' ')
		}
		w.WriteString("[" + w.quote(m.values[i]) + "]=" + w.quote(m.values[i+1]))
	}
	w.line(")")
}

func functionText(f variable) string {
	return f.name + " ()\n{\n" + f.value + "\n}\n"
}

// touches says whether a text names a place.
func (w *rcWriter) touches(text string) bool {
	for _, p := range w.places {
		if strings.Contains(text, p.From) {
			return true
		}
	}
	return false
}

// quote is a value for bash, with its places replaced.
func (w *rcWriter) quote(text string) string { return w.data.Replace(quote(text)) }

// quoteCode is quote for a value that will be read as code.
func (w *rcWriter) quoteCode(text string) string { return w.code.Replace(quote(text)) }

// placeReplacer puts variables of bash into quoted text: prefix0 for the first
// place, and so on. It goes through the text once, whatever is in it.
func placeReplacer(places []place, prefix string) *strings.Replacer {
	var pairs []string
	for i, p := range places {
		inner := quote(p.From)
		pairs = append(pairs, inner[1:len(inner)-1], fmt.Sprintf(`'"$%s%d"'`, prefix, i))
	}
	return strings.NewReplacer(pairs...)
}

// quote is text as one word for bash that stands for the same bytes. Inside of
// single quotes nothing has a meaning but the quote itself ("Quoting" in bash(1)).
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
