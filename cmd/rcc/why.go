package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"rcc/isolate/egress"
)

type whyCmd struct {
	ID    string   `arg:"" help:"Task, or the beginning of its name."`
	Entry []string `arg:"" optional:"" help:"With --apply: which entries, as shown."`
	Apply bool     `help:"Add the entry that would allow it to your configuration."`
	JSON  bool     `name:"json" help:"Print an array of objects."`
}

func (c *whyCmd) Help() string {
	return `rcc why ID [--apply [ENTRY...]]

Tells what the task was denied on the network, to which program, the rule that
decided, and the entry of "allow" that would let it. --apply adds that entry to
your own configuration; where there are several, name those that you mean: the
task chose what to ask for.`
}

func (c *whyCmd) Run(env *surroundings) error {
	_, _, s, err := atRepository(context.Background(), env)
	if err != nil {
		return err
	}
	t, rec, err := s.find(c.ID)
	if err != nil {
		return err
	}
	if c.JSON && c.Apply {
		return usage("cannot use --json and --apply at once")
	}
	if len(c.Entry) > 0 && !c.Apply {
		return usage("cannot use %s without --apply", shownID(c.Entry[0]))
	}
	events, err := readEvents(t.path(ledgerLog))
	if err != nil {
		return fmt.Errorf("cannot read the task's events: %w", underlying(err))
	}
	all := gather(events)
	if c.Apply {
		return c.apply(env, rec, all)
	}
	if c.JSON {
		if all == nil {
			all = []denial{}
		}
		return printJSON(env, all)
	}
	end := slices.IndexFunc(rec.Notes, func(n string) bool { return strings.HasPrefix(n, wayClosed) })
	switch {
	case len(all) == 0 && rec.net() == netNone:
		from := ""
		if rec.Network != nil && rec.Network.NetFrom != "" {
			from = " (" + rec.Network.NetFrom + ")"
		}
		return nothing("%s had no way out, and so nothing was asked for: net is %q%s", rec.ID, netNone, Inert(from))
	case len(all) == 0 && end < 0:
		return nothing("%s was denied nothing on the network", rec.ID)
	case end >= 0:
		env.say("%s: %s", rec.ID, Inert(rec.Notes[end]))
	}
	return showDenials(env, rec, all)
}

func showDenials(env *surroundings, rec *Record, all []denial) error {
	var b strings.Builder
	for _, d := range all {
		if d.Name == "" && d.Addr == "" {
			fmt.Fprintf(&b, "%-7s %d others\n", d.Event, d.Times)
			continue
		}
		times := ""
		if d.Times > 1 {
			times = fmt.Sprintf(", %d times", d.Times)
		}
		fmt.Fprintf(&b, "%-7s %s to %s%s, %s\n", d.Event, Inert(d.target()), Inert(d.who()), times, d.First.Local().Format("15:04:05"))
		fmt.Fprintf(&b, "        %s\n", Inert(d.reason()))
		if d.Event != eventDenied {
			continue
		}
		if d.Allow != "" {
			fmt.Fprintf(&b, "        allow = [%s]\n", quotedTOML(d.Allow))
		} else {
			fmt.Fprintf(&b, "        no entry of allow can let it\n")
		}
	}
	// The task chose what to ask for: one thing is shown as an example, and never
	// one of a private network.
	if entries := slices.DeleteFunc(wouldAllow(all), opensPrivate); len(entries) > 0 {
		fmt.Fprintf(&b, "\nrcc why %s --apply %s adds that to your configuration; it counts from the next start on\n", rec.ID, Inert(shellWord(entries[0])))
	}
	_, err := env.stdout.WriteString(b.String())
	return err
}

func quotedTOML(s string) string { return `"` + s + `"` }

// wouldAllow are the entries that would let what was denied, each once.
func wouldAllow(all []denial) (out []string) {
	for _, d := range all {
		if d.Event == eventDenied && d.Allow != "" && !slices.Contains(out, d.Allow) {
			out = append(out, d.Allow)
		}
	}
	return out
}

// opensPrivate tells whether an entry opens what is refused without it: a private
// address, or what cannot be told.
func opensPrivate(entry string) bool {
	r, err := egress.ParseRule(entry)
	return err != nil || r.Private()
}

// shellWord is an entry as one types it: to a shell, [2001:db8::1]:443 is a pattern.
func shellWord(entry string) string {
	if strings.ContainsAny(entry, "[*") {
		return "'" + entry + "'"
	}
	return entry
}

// apply adds to the user's configuration what the user names, or the one thing
// that there is to add. A task decides what it asks for: several are never taken
// unseen, and a private address is always named.
func (c *whyCmd) apply(env *surroundings, rec *Record, all []denial) error {
	offered := wouldAllow(all)
	chosen := c.Entry
	switch {
	case len(offered) == 0:
		return nothing("there is nothing to allow: no entry would let what %s was denied", rec.ID)
	case len(chosen) == 0 && len(offered) > 1:
		return usage("cannot choose for you: %s was denied %s; name those that you mean, as in: rcc why %[1]s --apply %[3]s", rec.ID, Inert(someOf(offered)), Inert(shellWord(offered[0])))
	case len(chosen) == 0 && opensPrivate(offered[0]):
		return usage("cannot choose for you: %s is not a public address; if you mean it, name it: rcc why %s --apply %s", Inert(offered[0]), rec.ID, Inert(shellWord(offered[0])))
	case len(chosen) == 0:
		chosen = offered
	}
	for _, e := range chosen {
		if !slices.Contains(offered, e) {
			return usage("cannot apply %s: it is not among what %s was denied: %s", shownID(e), rec.ID, Inert(someOf(offered)))
		}
	}
	path, err := UserConfigPath(env.getenv)
	if err != nil {
		return err
	}
	changed, err := addAllow(path, chosen)
	if err != nil {
		return err
	}
	if !changed {
		return nothing("%s has that already; it counts from the next start on", Inert(path))
	}
	env.say("added %s to %s; it counts from the next start on", Inert(strings.Join(chosen, ", ")), Inert(path))
	return nil
}

// someOf lists up to five.
func someOf(entries []string) string {
	if len(entries) > 5 {
		return strings.Join(entries[:5], ", ") + fmt.Sprintf(" and %d more", len(entries)-5)
	}
	return strings.Join(entries, ", ")
}
