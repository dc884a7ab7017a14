package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"rcc/isolate/egress"
)

// What a project needs to reach is worked out from what it and its user's tools
// name, so that no registry's host stands in this program: the remotes of the
// repository, the configuration of the tools that its files are for, and the lock
// files in the top folder of the base commit. Everything is read as data, and each
// place keeps what named it. Whoever commits decides what a lock file names, and
// would decide what a task reaches: what the user's own side does not name as well
// counts once the user has allowed it (see trustedHosts).

// A place is a host and a port that something names.
type place struct {
	Host string `json:"host"` // without brackets
	Port uint16 `json:"port"`
	From string `json:"from"` // what names it, for a person
}

// maxPlaces bounds the worked-out list; more than that is no list that anybody
// reads.
const maxPlaces = 256

// maxLeftOut bounds what is told of places that are not in it.
const maxLeftOut = 16

// placeSet gathers places, each once, in the order in which they are named first.
type placeSet struct {
	list []place
	seen map[place]bool // without From
}

// add takes a place from a URL; what names no host, such as a file, is passed over.
func (s *placeSet) add(url, from string) {
	if host, port, ok := hostOf(url); ok {
		s.addPlace(place{host, port, from})
	}
}

func (s *placeSet) addPlace(p place) {
	key := place{Host: p.Host, Port: p.Port}
	if s.seen[key] || len(s.list) > maxPlaces { // one more tells that there are more
		return
	}
	if s.seen == nil {
		s.seen = map[place]bool{}
	}
	s.seen[key] = true
	s.list = append(s.list, p)
}

// rules are the places as rules, sorted, and what was left out.
func (s *placeSet) rules() (rules []egress.Rule, leftOut []netLine) {
	out := func(from, format string, args ...any) {
		if len(leftOut) < maxLeftOut {
			leftOut = append(leftOut, netLine{"ignored", fmt.Sprintf(format, args...), from})
		}
	}
	for i, p := range s.list {
		if i == maxPlaces {
			out(p.From, "more than %d hosts; the rest is left out", maxPlaces)
			break
		}
		r, why := p.rule()
		if why != "" {
			out(projectMark+": "+p.From, "%s: %s", p, why)
			continue
		}
		rules = append(rules, r)
	}
	slices.SortStableFunc(rules, byText)
	// One host may have been named in several spellings.
	return slices.CompactFunc(rules, func(a, b egress.Rule) bool { return a.String() == b.String() }), leftOut
}

func (p place) String() string {
	if strings.Contains(p.Host, ":") {
		return fmt.Sprintf("[%s]:%d", p.Host, p.Port)
	}
	return fmt.Sprintf("%s:%d", p.Host, p.Port)
}

// rule is the place as a rule, or why it cannot be one: it is of the machine
// itself or of a private network, which only the user opens.
func (p place) rule() (egress.Rule, string) {
	name := strings.ToLower(strings.TrimSuffix(p.Host, "."))
	addr, err := netip.ParseAddr(p.Host)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && addr.Unmap().IsLoopback() {
		return egress.Rule{}, fmt.Sprintf("it is this machine itself; --forward %d reaches it", p.Port)
	}
	r, err := egress.ParseRule(p.String())
	switch {
	case err != nil:
		return egress.Rule{}, oneLine(err)
	case r.Wild:
		return egress.Rule{}, "it is no host"
	case r.Private():
		return egress.Rule{}, "it is a private address; your own allow list may have it"
	}
	r.From = p.From
	return r, ""
}

// schemePorts are the ports of the schemes by which tools fetch.
var schemePorts = map[string]uint16{"https": 443, "http": 80, "ssh": 22, "git": 9418}

// hostOf is the host and the port of a URL, as lock files and configurations
// have them: "git+https:", "registry+https:" and the like are what follows the
// "+", and "ssh://HOST:PATH" has no port.
func hostOf(url string) (host string, port uint16, ok bool) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(url), "://")
	if !ok {
		return "", 0, false
	}
	scheme = strings.ToLower(scheme)
	if before, after, two := strings.Cut(scheme, "+"); two {
		if scheme = after; before == "ssh" { // ssh+git is ssh, as git+ssh is (git, connect.c, get_protocol)
			scheme = before
		}
	}
	port, ok = schemePorts[scheme]
	if !ok {
		return "", 0, false
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	host, number := splitHost(rest)
	if number != "" {
		n, isPort := parsePort(number)
		switch {
		case isPort && n > 0:
			port = n
		case scheme != "ssh":
			return "", 0, false
		}
	}
	return host, port, host != ""
}

// splitHost parts HOST:PORT and [HOST]:PORT.
func splitHost(s string) (host, port string) {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, port, _ = strings.Cut(rest, "]")
		return host, strings.TrimPrefix(port, ":")
	}
	host, port, _ = strings.Cut(s, ":")
	return host, port
}

// hostOfRemote is hostOf for git's URLs, which may also be like scp's:
// [USER@]HOST:PATH, with no slash before the colon (git-fetch(1), "GIT URLS").
// "HELPER::ADDRESS" is a program's, and everything else a path.
func hostOfRemote(url string) (host string, port uint16, ok bool) {
	if strings.Contains(url, "://") {
		return hostOf(url)
	}
	authority := url
	at := strings.IndexByte(url, '@')
	if open := at + 1; strings.HasPrefix(url[open:], "[") { // [HOST]:PATH or [HOST:PORT]:PATH
		end := strings.Index(url[open:], "]:")
		if end < 0 {
			return "", 0, false
		}
		inside := url[open+1 : open+end]
		if _, err := netip.ParseAddr(inside); err == nil {
			return inside, schemePorts["ssh"], true
		}
		return hostOf("ssh://" + inside)
	}
	authority, path, colon := strings.Cut(url, ":")
	if !colon || strings.Contains(authority, "/") || strings.HasPrefix(path, ":") {
		return "", 0, false
	}
	return authority[strings.LastIndexByte(authority, '@')+1:], schemePorts["ssh"], true
}

// worked is what projectMark stands for.
type worked struct {
	Rules   []egress.Rule // each with its source in From
	Named   []egress.Rule // that the repository's content alone names, and the user has not allowed
	LeftOut []netLine
	Notes   []string // what a user should know of it
}

// project works it out. What cannot be read is left out and told, and never keeps
// a task from starting.
func (n netSource) project(ctx context.Context) (worked, error) {
	w := n.named(ctx)
	var err error
	if w, err = n.trustedHosts(w); err != nil {
		return w, err
	}
	return w, ctx.Err()
}

// named is what the user's own side names, and what the repository's content
// names beyond that.
func (n netSource) named(ctx context.Context) (w worked) {
	var own, content placeSet
	for _, r := range n.repo.Remotes() {
		if host, port, ok := hostOfRemote(r.URL); ok {
			own.addPlace(place{host, port, "remote " + r.Name})
		}
	}
	tools := toolPlaces{env: n.env, has: n.sight.Has, top: n.repo.Top}
	tools.find(ctx)
	for _, p := range tools.found.list {
		own.addPlace(p)
	}
	locked := n.locked(ctx)
	if locked.Late {
		w.Notes = append(w.Notes, fmt.Sprintf("the repository's lock files were not read to their end: that takes more than %v", lockTime))
	}
	for _, p := range append(locked.Places, tools.committed.list...) {
		content.addPlace(p)
	}
	var more []netLine
	w.Rules, w.LeftOut = own.rules()
	w.Named, more = content.rules()
	w.LeftOut = slices.Concat(w.LeftOut, more, locked.Failed, tools.failed)
	w.Named = slices.DeleteFunc(w.Named, func(r egress.Rule) bool { return hasRule(w.Rules, r) })
	return w
}

// hasRule tells whether a rule for the same is in the list, wherever it is from.
func hasRule(list []egress.Rule, r egress.Rule) bool {
	text := r.String()
	return slices.ContainsFunc(list, func(o egress.Rule) bool { return o.String() == text })
}

func byText(a, b egress.Rule) int { return strings.Compare(a.String(), b.String()) }
