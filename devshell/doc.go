// Package devshell turns a flake's dev shell, or a shell.nix, into plain
// values: variables, store paths, a text for bash. It is the only package of
// rcc that starts Nix.
//
//	Source  what decides the result: the blobs of flake.nix, flake.lock, *.nix, …
//	  │     its Content is what a user allows, and the main part of the key
//	Cache ── hit ──▶ Shell           no process is started
//	  └───── miss ─▶ the tree is written to a folder, Nix evaluates that folder,
//	                 the environment and its closure become an entry
//
// Nix evaluates what somebody committed, with the rights of the user: whoever
// calls asks the user first. What comes back, names and values alike, is data
// that the flake chose. It is bounded, checked and quoted here, and nothing of
// it runs: shellHook and functions are text that a caller may give to a bash.
//
// What the package never does: it evaluates no tree by itself (the caller
// writes the files), accepts no nixConfig of a flake, writes no lock file,
// speaks to no Nix daemon but through the nix program, and removes nothing from
// a store.
package devshell
