// Package worktree is the git half of a task: it finds the repository, gives
// the agent a tree and a git directory of its own, takes the result back, and
// merges or drops it.
//
// The rule that everything here follows: nothing that an agent could write is
// ever opened by git on the host. Not the tree, not its git directory, not its
// index; flags do not make that safe (a nested repository's filter ran under
// git 2.39 with hooks and fsmonitor off). The way of a result is
//
//	the agent's tree ── Harvest ──> a confined process makes the last commit and
//	                                serves a pack over git's own wire
//	                 ── receive ──> a quarantine repository of ours: fsck, caps
//	                 ── check ────> every new tree is read by our own parser
//	                 ── Accept ───> objects move into the repository and
//	                                refs/heads/rcc/<id> is set
//
// and until Accept the real repository is byte for byte what it was. After it,
// PlanMerge computes the new commit from objects alone, ApplyMerge moves a
// branch and its checkout together or not at all, and RecoverMerge brings a
// merge that was killed to exactly its old or exactly its new state.
//
// What the package never does: it runs no hook, no fsmonitor and no external
// diff, writes no configuration, moves no ref outside refs/heads/rcc/ except
// the one that a merge names, and knows nothing of how the confinement works:
// that is a function it is given (Confine).
//
// All host-side git goes through one runner, Git.
package worktree
