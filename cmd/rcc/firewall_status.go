package main

import (
	"fmt"
	"strings"

	"rcc/isolate/firewall"
)

type firewallStatusCmd struct {
	JSON bool `name:"json" help:"Print an object."`
}

func (c *firewallStatusCmd) Help() string {
	return `The exit status is 0 when the second wall stands as it should, 1 when its rules
were changed or cannot be read, and 3 when it does not stand.`
}

// wallStatus is the second wall as rcc shows it in JSON. Its field names are
// stable.
type wallStatus struct {
	Installed bool               `json:"installed"`
	UIDs      [2]uint32          `json:"uids"`
	Cgroups   []string           `json:"cgroups"`
	Accept    []string           `json:"accept"`
	Differs   []string           `json:"differs"` // what is not as install would load it
	Counters  []firewall.Counter `json:"counters"`
	Boot      firewall.Boot      `json:"boot"`
	Notes     []string           `json:"notes"`

	install string // the command that puts it right
}

func (c *firewallStatusCmd) Run(env *surroundings) error {
	st, err := readWall()
	if err != nil {
		return asRoot(err, "status")
	}
	if c.JSON {
		err = printJSON(env, st)
	} else {
		err = st.print(env)
	}
	switch {
	case err != nil:
		return err
	case !st.Installed:
		return &statusError{status: exitNothing}
	case len(st.Differs) > 0:
		return &statusError{status: exitFailed}
	}
	return nil
}

// readWall compares what stands with what install would load, with the
// exceptions that it was given.
func readWall() (*wallStatus, error) {
	live, err := firewall.Read()
	if err != nil {
		return nil, err
	}
	w, err := (&wallFlags{}).wall()
	if err != nil {
		return nil, err
	}
	st := &wallStatus{
		Installed: live != nil, UIDs: w.UIDs, Cgroups: append([]string{}, w.Cgroups...),
		Accept: []string{}, Differs: []string{}, Counters: []firewall.Counter{}, Notes: []string{},
	}
	if st.Boot, err = firewall.LookBoot("/"); err != nil || live == nil {
		return st, err
	}
	w.Accept = live.Accept
	for _, e := range w.Accept {
		st.Accept = append(st.Accept, e.String())
	}
	st.install = "sudo rcc " + strings.Join(installWords(w), " ")
	table, err := w.Table()
	if err != nil {
		return nil, err
	}
	differs, err := live.Differs(table)
	st.Differs = append(st.Differs, differs...)
	st.Counters = append(st.Counters, live.Counters...)
	st.Notes = append(st.Notes, wallNotes(w, st.Boot)...)
	return st, err
}

func (st *wallStatus) print(env *surroundings) error {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(Inert(fmt.Sprintf(format, args...)) + "\n") }
	if !st.Installed {
		line("the second wall does not stand; install it with: sudo rcc firewall install")
		if st.Boot.Keeper != "" {
			line("note      %s should load it when the machine starts", st.Boot.Keeper)
		}
	} else {
		st.printStanding(line)
	}
	_, err := env.stdout.WriteString(b.String())
	return err
}

func (st *wallStatus) printStanding(line func(string, ...any)) {
	line("the second wall stands")
	line("holds     user ids %d to %d", st.UIDs[0], st.UIDs[1])
	for _, c := range st.Cgroups {
		line("holds     cgroup %s", c)
	}
	for _, e := range st.Accept {
		line("accepts   %s", e)
	}
	for _, c := range st.Counters {
		line("%-9s %d packets, %d bytes", c.Name, c.Packets, c.Bytes)
	}
	for _, d := range st.Differs {
		line("differs   %s; put it right with: %s", d, st.install)
	}
	if st.Boot.Keeper != "" {
		line("start     %s loads it", st.Boot.Keeper)
	}
	for _, n := range st.Notes {
		line("note      %s", n)
	}
}
