// Package hooks lets the user's shells enter a dev shell by themselves, and
// remembers what the user has allowed.
//
// It has four parts, none of which starts a program or evaluates anything:
//
//   - [Trust] is the list of contents (a flake's, say) that the user allowed in
//     a repository. [Good] remembers which shell was the last good one of a folder.
//   - direnv: [InstallDirenv] writes the function "use rcc" into direnv's lib
//     folder, [Direnv] makes the text that it evaluates.
//   - Shells without direnv: [Script] is what eval "$(rcc hook bash)" runs,
//     [Prompt] decides what "rcc export bash" has to do, [Enter] and [Leave] make the code.
//   - [AllowOpened] decides whether direnv may run the .envrc of a worktree made by rcc open.
//
// It never runs nix, git, direnv or a shell, never decides anything from a file
// that an agent can write (an .envrc is parsed, not run; what it may do is
// decided by the user's own folders), and never widens what direnv allows to
// more than one content at one path.
//
// # rcc export direnv [NAME]
//
// Called by use_rcc, in the folder of the .envrc, as a child of direnv's bash:
// its environment is direnv's, standard error is the terminal, standard output
// is text for bash. It always ends with 0 once it has printed that text, also
// when the evaluation failed: direnv 2.32 forgets all watched files of an
// .envrc that ends otherwise (Load in internal/cmd/rc.go keeps the environment
// from before), and would not follow when the flake is mended.
//
//	found, allowed    Direnv{Watch, Vars or RC}.Text()
//	failed, refused   the last good shell of the folder as above, with Errors;
//	                  or Direnv{Watch, Errors}.Text() where there is none
//
// # rcc export bash|zsh|fish
//
// Called by the function of Script when the shell itself cannot tell that
// nothing has changed. cmd calls Prompt.Look and, where that asks for it,
// evaluates and calls Look.Entered or Look.Refused; it prints the code that
// comes back to standard output, what is to be told to standard error, and ends with 0.
package hooks
