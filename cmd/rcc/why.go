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
	if len(all) == 0 {
		return nothing("%s was denied nothing on the network", rec.ID)
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
	if entries := wouldAllow(all); len(entries) > 0 {
		fmt.Fprintf(&b, "\nrcc why %s --apply %s adds that to your configuration; it counts from the next start on\n", rec.ID, Inert(strings.Join(entries[:min(len(entries), 3)], " ")))
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

// apply adds to the user's configuration what the user names, or the one thing
// that there is to add. A task decides what it asks for: several are never taken
// unseen.
func (c *whyCmd) apply(env *surroundings, rec *Record, all []denial) error {
	offered := wouldAllow(all)
	chosen := c.Entry
	switch {
	case len(offered) == 0:
		return nothing("there is nothing to allow: no entry would let what %s was denied", rec.ID)
	case len(chosen) == 0 && len(offered) > 1:
		return usage("cannot choose for you: %s was denied %s; name those that you mean, as in: rcc why %[1]s --apply %s", rec.ID, Inert(someOf(offered)), Inert(offered[0]))
	case len(chosen) == 0:
		chosen = offered
	}
	for _, e := range chosen {
		if r, err := egress.ParseRule(e); len(c.Entry) == 0 && err == nil && r.Private() {
			return usage("cannot choose for you: %s is not a public address; if you mean it, name it: rcc why %s --apply %[1]s", Inert(e), rec.ID)
		}
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
