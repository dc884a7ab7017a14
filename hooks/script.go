package hooks

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Script is what eval "$(rcc hook bash)" (zsh the same; fish: rcc hook fish |
// source) runs in the user's shell: a function for each prompt, and in zsh and fish
// each change of folder. rccPath is the absolute path of rcc.
//
// The function first asks without a process whether anything can have changed:
// it looks upwards for the nearest .envrc, and compares the files that the last look
// named with that look's stamp (-nt). Only then it runs "rcc export SHELL" and
// evaluates what that prints. It does nothing where direnv is at work.
func Script(shell, rccPath string) (string, error) {
	quote, err := quoter(shell)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(rccPath) || strings.IndexByte(rccPath, 0) >= 0 {
		return "", fmt.Errorf("cannot make a hook: %q is not the absolute path of rcc", rccPath)
	}
	text := map[string]string{"bash": scriptBash, "zsh": scriptZsh, "fish": scriptFish}[shell]
	return strings.ReplaceAll(text, "RCC_PROGRAM", quote(rccPath)), nil
}

// The order in bash: the status of the user's last command is kept for whatever
// else is in PROMPT_COMMAND, which may be an array (bash 5.1) or a string.
// _rcc_at is set before rcc runs, so that an evaluation that is interrupted by ^C is
// not begun again at each prompt, but when the user comes back to the folder.
const scriptBash = `_rcc_look() {
  local _rcc_dir=${PWD%/} _rcc_file=
  _rcc_now=
  while :; do
    if [[ -f $_rcc_dir/.envrc ]]; then _rcc_now=$_rcc_dir/.envrc; break; fi
    if [[ -z $_rcc_dir ]]; then break; fi
    _rcc_dir=${_rcc_dir%/*}
  done
  if [[ $_rcc_now != "${_rcc_at-}" ]]; then return 0; fi
  if [[ -z $_rcc_now ]]; then [[ -n ${RCC_HOOK-} ]]; return; fi
  if [[ ! -e ${_rcc_stamp-} ]]; then return 0; fi
  for _rcc_file in "${_rcc_watch[@]}"; do
    if [[ $_rcc_file -nt $_rcc_stamp ]]; then return 0; fi
  done
  return 1
}
_rcc_hook() {
  local _rcc_status=$? _rcc_now
  if [[ -z ${DIRENV_DIR-} ]] && _rcc_look; then
    if [[ -z $_rcc_now && -z ${RCC_HOOK-} ]]; then
      _rcc_at=
    elif ! declare -F _direnv_hook >/dev/null && [[ -x RCC_PROGRAM ]]; then
      _rcc_at=$_rcc_now _rcc_stamp=$_rcc_now _rcc_watch=("$_rcc_now")
      eval "$(RCC_PROGRAM export bash)"
    fi
  fi
  return $_rcc_status
}
if (( BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404 )); then
  printf '%s\n' 'rcc: cannot enter dev shells here: this bash is older than 4.4' >&2
elif [[ "$(declare -p PROMPT_COMMAND 2>/dev/null)" == 'declare -a'* ]]; then
  [[ " ${PROMPT_COMMAND[*]} " == *_rcc_hook* ]] || PROMPT_COMMAND=(_rcc_hook "${PROMPT_COMMAND[@]}")
else
  [[ ${PROMPT_COMMAND-} == *_rcc_hook* ]] || PROMPT_COMMAND=_rcc_hook${PROMPT_COMMAND:+;$PROMPT_COMMAND}
fi
`

// In zsh the hooks run in subshells too: $(cd elsewhere; …) is no visit.
const scriptZsh = `_rcc_look() {
  emulate -L zsh
  local dir=${PWD%/} file=
  _rcc_now=
  while :; do
    if [[ -f $dir/.envrc ]]; then _rcc_now=$dir/.envrc; break; fi
    if [[ -z $dir ]]; then break; fi
    dir=${dir%/*}
  done
  if [[ $_rcc_now != "${_rcc_at-}" ]]; then return 0; fi
  if [[ -z $_rcc_now ]]; then [[ -n ${RCC_HOOK-} ]]; return; fi
  if [[ ! -e ${_rcc_stamp-} ]]; then return 0; fi
  for file in "${_rcc_watch[@]}"; do
    if [[ $file -nt $_rcc_stamp ]]; then return 0; fi
  done
  return 1
}
_rcc_hook() {
  if (( ZSH_SUBSHELL )) || [[ -n ${DIRENV_DIR-} ]]; then return 0; fi
  local _rcc_now
  if _rcc_look; then
    if [[ -z $_rcc_now && -z ${RCC_HOOK-} ]]; then
      typeset -g _rcc_at=
    elif (( ! ${+functions[_direnv_hook]} )) && [[ -x RCC_PROGRAM ]]; then
      typeset -g _rcc_at=$_rcc_now _rcc_stamp=$_rcc_now
      typeset -ga _rcc_watch
      _rcc_watch=("$_rcc_now")
      eval "$(RCC_PROGRAM export zsh)"
    fi
  fi
  return 0
}
autoload -Uz add-zsh-hook
add-zsh-hook precmd _rcc_hook
add-zsh-hook chpwd _rcc_hook
`

// fish takes long for a command substitution: the places to look at are kept
// until the folder is another one.
const scriptFish = `function _rcc_look
  if test "$_rcc_pwd" != "$PWD"
    set -g _rcc_pwd "$PWD"
    set -g _rcc_places
    set -l dir (string replace -r '/$' '' -- $PWD | string collect)
    while test -n "$dir"
      set -a _rcc_places "$dir/.envrc"
      set dir (string replace -r '/[^/]*$' '' -- $dir | string collect)
    end
    set -a _rcc_places /.envrc
  end
  set -g _rcc_now ''
  for file in $_rcc_places
    if test -f "$file"
      set -g _rcc_now "$file"
      break
    end
  end
  test "$_rcc_now" = "$_rcc_at"; or return 0
  if test -z "$_rcc_now"
    test -n "$RCC_HOOK"
    return
  end
  test -e "$_rcc_stamp"; or return 0
  for file in $_rcc_watch
    test "$file" -nt "$_rcc_stamp"; and return 0
  end
  return 1
end
function _rcc_hook --on-event fish_prompt --on-variable PWD
  status is-command-substitution; and return
  test -n "$DIRENV_DIR"; and return
  _rcc_look; or return
  if test -z "$_rcc_now" -a -z "$RCC_HOOK"
    set -g _rcc_at ''
  else if not functions -q __direnv_export_eval; and test -x RCC_PROGRAM
    set -g _rcc_at "$_rcc_now"
    set -g _rcc_stamp "$_rcc_now"
    set -g _rcc_watch "$_rcc_now"
    RCC_PROGRAM export fish | source
  end
end
status is-interactive; or functions -e _rcc_hook
`
