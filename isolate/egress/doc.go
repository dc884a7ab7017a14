// Package egress is the way out of a sandbox: it decides which names and
// addresses a task may reach, and carries the flows that it may have.
//
// The sandbox's network namespace has no link to the world. Every flow that a
// program opens ends in rcc, which opens another one on the host, or resets it:
//
//	program ──▶ gate (reads hostile bytes) ──▶ exit (decides, resolves, dials)
//
// # What decides
//
// A Policy is a mode and lists of rules. It is asked four times about a flow to
// a name, and each answer has to be yes:
//
//	MayResolve   the program asks for the name: a Resolver answers with an address of its own (Names)
//	MayConnect   the program connects to that address, which stands for the name
//	CheckHead    the first bytes name the same host: SNI in TLS, Host in HTTP/1
//	MayDial      where the name leads, on the host, at that time
//
// A flow to an address that the program named itself is asked about by
// MayReach, CheckHead and MayDial. The gate may be taken over by what it reads:
// the exit asks again.
//
// # What it never does
//
// Nothing of a query for a name that is not allowed leaves the machine. In mode
// "allow" no query does, for an allowed name either: it is resolved when it is
// connected to. No answer of a name server opens an address; only rules do.
//
// # What it cannot see
//
// Only the head of a flow is read. Rules keep servers apart, not the sites of one
// server: what is inside of TLS is not seen, so a Host there may be another than
// the SNI, and a server that answers for an allowed name can pass on what it is
// sent.
//
// Of a plain HTTP/1 connection that is the first request. A second one on the same
// connection may have another Host, on port 80 too, and reaches the server that the
// name led to, for whichever of its sites that means. To check each, somebody would
// have to tell where every request ends as the server does (length, chunks,
// upgrades), and to copy all bytes instead of splicing them; who gets that wrong by a
// byte checks nothing.
//
// On other ports than 443 and 80 it is the server who may speak first, and any
// protocol may be spoken. There the check is one of what looks like TLS or like an
// HTTP request, by lines that servers are known to take. A program that sends in
// pieces a request with a method that is not in capitals is taken for something
// else, and passes.
//
// A name in Deny, in mode "public", is a name that is not resolved, not connected
// to, and not named by the head of a flow to an address; on ports 443 and 80 such a
// flow has to be TLS or HTTP/1 and to name its host, for as long as some name is
// denied there and no rule of Allow opens the address. That keeps programs from what they would do by mistake or habit. It
// does not keep one from a server that it knows the address of: on other ports
// what is neither TLS nor HTTP passes, as SSH does, and on any port a flow may name
// what the server takes instead: its address as Host, or a name that is not
// denied. To deny a server, deny its addresses, or list what is allowed.
//
// The package has no Linux-only code and starts nothing.
package egress
