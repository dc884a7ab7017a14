// Package isolate runs a program in a sandbox of Linux namespaces.
//
// It has two halves. NewPlan is pure: it turns a policy, a job and what the
// machine offers into a Plan, which is data and can be printed, compared and
// tested anywhere. Start carries a plan out. What a plan promises is either
// enforced or an error that names the step; nothing is skipped.
//
// # The processes
//
//	supervisor   the caller of Start, in the host's namespaces
//	 └─ keeper   user namespace A, network namespace N (owned by A)
//	     ├─ gate reads what programs send into N; no files, no programs
//	     └─ init user namespace B inside A; mount, pid, ipc, uts, cgroup, time;
//	         │   a root of its own; PID 1; reaps
//	         └─ the program: no capabilities, no_new_privs
//
// Two user namespaces, because a network namespace belongs to the user
// namespace it was made in: nothing in B, not even its root, can change the
// links or rules of N, which A owns (user_namespaces(7), "Interaction of user
// namespaces and other types of namespaces").
//
// All of them are the same executable, told apart by argv[0]; Main must be the
// first call of the program's main function. The plan reaches keeper and init
// in a sealed memfd, everything after that over a socket pair:
//
//	supervisor                          keeper            init
//	    │── memfd: Plan ──────────────────▶│── the same ─────▶│
//	    │                                  │ lo up            │
//	    │◀──── network + sock_diag of N ── │ way out, gate    │
//	    │                                  │ clone            │
//	    │── mounts (root only): descriptors ────────────────▶ │ set-up steps
//	    │◀─────────────────────────────── ready | error(step) │ drops all
//	    │── spawn(id, argv, env, dir) + descriptors ────────▶ │ fork, exec
//	    │◀──────────── started(id, pid) + terminal | error ── │
//	    │── signal(id, n) ──────────────────────────────────▶ │
//	    │◀──────────────────────────────────── exit(id, code) │
//
// When the socket closes, the supervisor is gone: init ends, and the kernel
// kills whatever is left in its pid namespace (pid_namespaces(7)).
//
// # The way out
//
// N has no link. With Net other than NetNone every address is made N's own, so
// that whatever programs send stays there; rules (package firewall) lead TCP to
// the gate's listeners and refuse the rest, and DNS arrives at the gate since
// every address does. The keeper opens all of the gate's sockets and keeps none:
//
//	keeper                      gate                                supervisor
//	  │── sockets, link ─────────▶│ gives up all else                     │
//	  │ loads the rules           │── ready | error(step) ──────────────▶ │
//	  │ starts init               │◀═ egress: messages and connections ═▶ │ Sandbox.Link
//	  │── error: what the gate died of, over the same link ─────────────▶ │
//
// The gate is the one process that reads hostile bytes for us, so that it has
// nothing to lose: it is without capabilities, Landlock and a list of system
// calls (gatecalls_linux.go) hold it, its memory is bounded. When it ends, its
// listeners end, and every connection is refused. What it passes to the
// supervisor is believed only as far as the kernel says so: a descriptor has to
// be a TCP connection, and where it was meant to go its socket knows.
//
// # The store
//
// A job can name paths of Nix's store: a StepStore shows those and nothing else
// of it. Each is a mount of its own, since nothing smaller hides the others: an
// overlay shows its layers' names or lists those to hide, which a store that grows
// outruns; Landlock hides no name. The store is cloned and restricted once, each path
// is cloned out of that, and no descriptor is held for it.
//
// # What it never does
//
// It never binds a socket of the host, never follows a link that the program
// could have left, never gives the program a descriptor beyond those asked
// for, and never runs set-up code after the program has started.
package isolate
