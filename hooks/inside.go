package hooks

// InsideLib is direnv's lib/rcc.sh inside the sandbox, in the private HOME. The
// dev shell is there already, so what would make one does nothing; the rest of
// a repository's .envrc does its work, for example by: direnv exec . COMMAND.
func InsideLib() string {
	return `# rcc: inside a task the dev shell is there already.
use_rcc() { :; }
use_flake() { :; }
use_nix() { :; }
`
}
