package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Completion: each shell has a short script that hands the words before the
// cursor to the hidden command "rcc __complete -- WORD..." and takes every line
// of its output as a candidate. What to offer is decided here, once for all
// shells, from kong's model of the command line.
//
// A candidate is never code: Complete gives only names that CheckID allows, flags
// and commands, and the scripts quote what they get and never evaluate it.

// completionScripts are by shell. Where there is no candidate (a prompt, what
// follows --), the shell's own completion of file names stands in.
var completionScripts = map[string]string{
	"bash": `# rcc completion for bash; in ~/.bashrc: source <(rcc completion bash)
_rcc() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        printf -v line %q "$line"
        COMPREPLY+=("$line")
    done < <(command rcc __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _rcc rcc
`,
	"zsh": `#compdef rcc
# rcc completion for zsh; in ~/.zshrc, after compinit: source <(rcc completion zsh)
_rcc() {
    local -a before candidates
    before=("${(@)words[2,CURRENT-1]}")
    candidates=("${(@f)$(command rcc __complete -- "${before[@]}" "$PREFIX" 2>/dev/null)}")
    candidates=("${(@)candidates:#}")
    if (( $#candidates )); then
        compadd -- "${candidates[@]}"
    else
        _files
    fi
}
if [[ $funcstack[1] == _rcc ]]; then
    _rcc "$@"
else
    compdef _rcc rcc
fi
`,
	"fish": `# rcc completion for fish; in ~/.config/fish/config.fish: rcc completion fish | source
function __rcc_complete
    set -l before (commandline -opc)
    set -e before[1]
    command rcc __complete -- $before (commandline -ct) 2>/dev/null
end
function __rcc_after_dashes
    contains -- -- (commandline -opc)
end
complete -c rcc -f -a '(__rcc_complete)'
complete -c rcc -n __rcc_after_dashes -F
`,
}

// CompletionScript is the completion script for a shell: bash, zsh or fish.
func CompletionScript(shell string) (string, error) {
	script, ok := completionScripts[shell]
	if !ok {
		return "", fmt.Errorf("cannot make completion for %s: bash, zsh and fish are known", shownID(shell))
	}
	return script, nil
}

// Complete gives the candidates for the last of words, which are what stands
// after "rcc" on the command line. Positional arguments with the name id are
// completed from ids, which is asked only when needed.
func Complete(app *kong.Application, words []string, ids func() []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	before, current := words[:len(words)-1], words[len(words)-1]

	node := app.Node
	var given []string     // positional arguments so far
	var wanting *kong.Flag // a flag whose value comes next
	for _, word := range before {
		switch {
		case wanting != nil:
			if word != "=" { // bash splits --flag=value into three words
				wanting = nil
			}
		case word == "--":
			return nil // a command of the user's follows
		case len(word) > 1 && word[0] == '-':
			wanting = flagWanting(node, word)
		case childNamed(node, word) != nil && len(given) == 0:
			node = childNamed(node, word)
		default:
			given = append(given, word)
		}
	}

	switch name, value, assigned := strings.Cut(current, "="); {
	case wanting != nil:
		return beginning(strings.TrimPrefix(current, "="), enumOf(wanting.Value))
	case assigned && strings.HasPrefix(name, "--"):
		var out []string
		if flag := flagWanting(node, name); flag != nil {
			for _, v := range beginning(value, enumOf(flag.Value)) {
				out = append(out, name+"="+v)
			}
		}
		return out
	case strings.HasPrefix(current, "-"):
		return beginning(current, flagsOf(node))
	}

	var out []string
	for _, child := range node.Children {
		if !child.Hidden && len(given) == 0 {
			out = append(out, child.Name)
		}
	}
	if arg := positionalAt(node, len(given)); arg != nil {
		out = append(out, enumOf(arg)...)
		if arg.Name == "id" {
			for _, id := range ids() {
				if CheckID(id) == nil && !slices.Contains(given, id) {
					out = append(out, id)
				}
			}
		}
	}
	return beginning(current, out)
}

func beginning(prefix string, candidates []string) []string {
	return slices.DeleteFunc(candidates, func(c string) bool { return !strings.HasPrefix(c, prefix) })
}

func childNamed(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Type == kong.CommandNode && (child.Name == name || slices.Contains(child.Aliases, name)) {
			return child
		}
	}
	return nil
}

// positionalAt is the argument at index i; the last may take any number.
func positionalAt(node *kong.Node, i int) *kong.Positional {
	n := len(node.Positional)
	switch {
	case i < n:
		return node.Positional[i]
	case n > 0 && node.Positional[n-1].IsCumulative():
		return node.Positional[n-1]
	}
	return nil
}

// flagWanting is the flag that word names, when its value is the next word.
func flagWanting(node *kong.Node, word string) *kong.Flag {
	for _, group := range node.AllFlags(false) {
		for _, flag := range group {
			if flag.IsBool() || flag.IsCounter() {
				continue
			}
			if word == "--"+flag.Name || flag.Short != 0 && word == "-"+string(flag.Short) {
				return flag
			}
		}
	}
	return nil
}

func flagsOf(node *kong.Node) (out []string) {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			out = append(out, "--"+flag.Name)
		}
	}
	return out
}

// enumOf is what a value may be, when that is a list. An empty item stands for
// the absence of the value.
func enumOf(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return slices.DeleteFunc(v.EnumSlice(), func(s string) bool { return s == "" })
}
