package hooks

import (
	"strings"
)

// Enter is code that takes a shell from the environment before, which is what it
// has now, to after, and puts state into StateVariable. before may already be
// that of another dev shell: what counts as "as it was" is then taken over from
// its state. state.Undo and Active are filled in here. An error (unknown shell,
// or too much to remember) leaves the shell as it is.
//
// The code does not touch variables that belong to the shell (isOwn), nor those
// that are something else than a plain variable in it: arrays, read-only ones,
// numbers. A plain variable that was not exported comes back as such on Leave,
// in the same shell.
func Enter(shell string, before, after []string, state State) (string, error) {
	quote, err := quoter(shell)
	if err != nil {
		return "", err
	}
	now, next := toMap(before), toMap(after)
	old, _ := ParseState(now[StateVariable])
	base := toMap(old.Base(before))

	var code strings.Builder
	code.WriteString(helpers(shell))
	state.Active, state.Undo, state.Lead = true, nil, ""
	if next["PATH"] != base["PATH"] {
		state.Lead, _, _ = strings.Cut(next["PATH"], ":")
	}
	for _, name := range sortedNames(now, next, base) {
		was, had := base[name]
		will, has := next[name]
		if had != has || was != will {
			state.Undo = append(state.Undo, Undo{name, was, had})
		}
		is, there := now[name]
		if there == had && is == was && (there != has || is != will) {
			code.WriteString("_rcc_keep " + name + "\n")
		}
		switch {
		case there == has && is == will:
		case has == had && will == was: // the other dev shell's, back to what it was
			code.WriteString(back(quote, Undo{name, was, had}))
		case has:
			code.WriteString("_rcc_set " + name + " " + quote(will) + "\n")
		default:
			code.WriteString("_rcc_drop " + name + "\n")
		}
	}
	text, err := state.check()
	if err != nil {
		return "", err
	}
	code.WriteString(setState(shell, quote, text))
	return code.String(), nil
}

// Leave is code that gives back every variable that Enter changed, as it was,
// unset ones unset again. environ is the shell's environment now. Without a state of ours in it there
// is nothing to do; a state that cannot be read is removed.
func Leave(shell string, environ []string) (string, error) {
	quote, err := quoter(shell)
	if err != nil {
		return "", err
	}
	now := toMap(environ)
	if _, ok := now[StateVariable]; !ok {
		return "", nil
	}
	state, _ := ParseState(now[StateVariable])
	var code strings.Builder
	if state.Active {
		code.WriteString(helpers(shell))
		for _, u := range state.Undo {
			code.WriteString(back(quote, u))
		}
	}
	code.WriteString(setState(shell, quote, ""))
	return code.String(), nil
}

func back(quote func(string) string, u Undo) string {
	if u.Set {
		return "_rcc_back " + u.Name + " " + quote(u.Value) + "\n"
	}
	return "_rcc_back " + u.Name + "\n"
}

// setState sets or, with an empty text, unsets StateVariable.
func setState(shell string, quote func(string) string, text string) string {
	switch {
	case shell == "fish" && text == "":
		return "set -e " + StateVariable + "\n"
	case shell == "fish":
		return "set -gx " + StateVariable + " " + quote(text) + "\n"
	case text == "":
		return "unset " + StateVariable + "\n"
	}
	return "export " + StateVariable + "=" + quote(text) + "\n"
}

// helpers are the functions that the code uses:
//
//	_rcc_keep NAME          it will change for the first time: keep what no environment tells
//	_rcc_set NAME VALUE     export it
//	_rcc_drop NAME          unset it
//	_rcc_back NAME [VALUE]  as it was
//
// What is kept is in the variable _rcc_was_NAME, for this shell alone.
func helpers(shell string) string {
	switch shell {
	case "fish":
		return helpersFish
	case "zsh":
		return helpersZsh
	}
	return helpersBash
}

// ${name@a} are the attributes of a set variable (bash(1), Parameter
// transformation): arrays, read-only, integers, changed case and name references
// are none of our business.
const helpersBash = `_rcc_odd() {
local _rcc_name=$1[@]
[[ -n ${!_rcc_name+x} && ${!_rcc_name@a} == *[aAirnlu]* ]]
}
_rcc_keep() {
_rcc_odd "$1" && return
if [[ -n ${!1+x} && ${!1@a} != *x* ]]; then printf -v "_rcc_was_$1" %s "${!1}"; fi
}
_rcc_set() { _rcc_odd "$1" || export "$1=$2"; }
_rcc_drop() { _rcc_odd "$1" || unset -v "$1"; }
_rcc_back() {
_rcc_odd "$1" && return
if [[ $# -gt 1 ]]; then export "$1=$2"; return; fi
unset -v "$1"
set -- "$1" "_rcc_was_$1"
if [[ -n ${!2+x} ]]; then printf -v "$1" %s "${!2}"; unset -v "$2"; fi
}
`

// ${(Pt)1} is the type of the parameter that is named (zshexpn(1), Parameter
// Expansion Flags): "scalar-export", "array-special", "integer-readonly"…
const helpersZsh = `_rcc_odd() {
emulate -L zsh
[[ -n ${(Pt)1} && ( ${(Pt)1} != scalar* || ${(Pt)1} == *readonly* ) ]]
}
_rcc_keep() {
emulate -L zsh
if ! _rcc_odd "$1" && (( ${(P)+1} )) && [[ ${(Pt)1} != *(export|special)* ]]; then typeset -g "_rcc_was_$1=${(P)1}"; fi
}
_rcc_set() { _rcc_odd "$1" || typeset -gx "$1=$2"; }
_rcc_drop() { _rcc_odd "$1" || unset "$1"; }
_rcc_back() {
emulate -L zsh
_rcc_odd "$1" && return
if (( $# > 1 )); then typeset -gx "$1=$2"; return; fi
unset "$1"
set -- "$1" "_rcc_was_$1"
if (( ${(P)+2} )); then typeset -g "$1=${(P)2}"; unset "$2"; fi
}
`

// fish has lists, which the environment shows joined, and universal variables,
// which a global one hides: both are kept. The names are those that fish does
// not let anybody set ("Special variables" in fish-language(1)).
const helpersFish = `function _rcc_odd
contains -- $argv[1] _ argv history hostname pipestatus status status_generation umask version fish_pid fish_killring FISH_VERSION last_pid PWD SHLVL
end
function _rcc_keep
_rcc_odd $argv[1]; and return
if set -q -g $argv[1]
set -l how -g
set -q -x $argv[1]; and set how -gx
set -g _rcc_was_$argv[1] $how $$argv[1]
else if set -q -U $argv[1]
set -g _rcc_was_$argv[1] -U
end
end
function _rcc_set
_rcc_odd $argv[1]; or set -gx $argv[1] $argv[2]
end
function _rcc_drop
_rcc_odd $argv[1]; or set -e -g $argv[1]
end
function _rcc_back
_rcc_odd $argv[1]; and return
set -l kept _rcc_was_$argv[1]
set -e -g $argv[1]
if set -q $kept
set -l was $$kept
set -e -g $kept
test "$was[1]" = -U; or set $was[1] $argv[1] $was[2..]
else if set -q argv[2]
set -gx $argv[1] $argv[2]
end
end
`
