package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"rcc/isolate/firewall"
)

type firewallCmd struct {
	Install firewallInstallCmd `cmd:"" help:"Load the second wall, in place of one that stands."`
	Status  firewallStatusCmd  `cmd:"" help:"Tell whether it stands, what it refused, and what would take it away."`
	Show    firewallShowCmd    `cmd:"" help:"Print its rules, or those of a task's network."`
	Remove  firewallRemoveCmd  `cmd:"" help:"Take it away."`
}

func (c *firewallCmd) Help() string {
	return `The first wall is rcc itself: a task's network has no link to the world, and rcc
opens what the policy allows. The second wall is a table of the host's nftables,
"inet rcc", that refuses what goes from tasks to private, loopback, link-local and
metadata addresses once more, whatever rcc does.

It tells root's tasks by their user ids. It tells those of other users by the cgroup
user.slice/user-UID.slice/user@UID.service/rcc.slice where that is there, and not
at all where it is not.`
}

// wallFlags say what the second wall is made of, and how it is printed.
type wallFlags struct {
	Allow []string `placeholder:"ADDRESS[:PORT]" help:"Let tasks reach a private address or range, such as 10.1.2.0/24:5432; may be repeated. The task's own policy has to allow it, too."`
	Emit  string   `placeholder:"FORMAT" help:"Print it for who manages the firewall elsewhere: nft, nixos, systemd (a unit that loads it), or pf (macOS)."`
}

var emitFormats = []string{"nft", "nixos", "pf", "systemd"}

// wall is what install loads.
func (f *wallFlags) wall() (firewall.Wall, error) {
	w := firewall.Wall{UIDs: [2]uint32{firstTaskUID, lastTaskUID}}
	for _, text := range f.Allow {
		e, err := firewall.ParseException(text)
		if err != nil {
			return w, usage("%w", err)
		}
		w.Accept = append(w.Accept, e)
	}
	if f.Emit != "" && !slices.Contains(emitFormats, f.Emit) {
		return w, usage("cannot print the rules as %s: known are %s", f.Emit, strings.Join(emitFormats, ", "))
	}
	var err error
	w.Cgroups, err = firewall.UserCgroups()
	return w, err
}

// emit prints the wall as another program reads it.
func (f *wallFlags) emit(env *surroundings, w firewall.Wall) error {
	text := ""
	switch f.Emit {
	case "pf":
		text = w.PF()
	case "systemd":
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("cannot find the path of rcc: %w", err)
		}
		text = firewall.Unit(append([]string{self}, installWords(w)...), []string{self, "firewall", "remove"})
	default:
		table, err := w.Table()
		if err != nil {
			return err
		}
		if text = table.Nft(); f.Emit == "nixos" {
			text = table.NixOS()
		}
	}
	_, err := env.stdout.WriteString(text)
	return err
}

// installWords are the arguments that make this wall.
func installWords(w firewall.Wall) []string {
	words := []string{"firewall", "install"}
	for _, e := range w.Accept {
		words = append(words, "--allow", e.String())
	}
	return words
}

type firewallInstallCmd struct {
	wallFlags `embed:""`
}

func (c *firewallInstallCmd) Run(env *surroundings) error {
	w, err := c.wall()
	if err != nil {
		return err
	}
	if c.Emit != "" {
		return c.emit(env, w)
	}
	stood, err := installWall(w)
	if err != nil {
		return asRoot(err, "install")
	}
	what := "stands"
	if stood {
		what = "stands already"
	}
	env.say("the second wall %s for user ids %d to %d%s", what, w.UIDs[0], w.UIDs[1], alsoCgroups(w))
	boot, err := firewall.LookBoot("/")
	if err != nil {
		return err
	}
	for _, note := range wallNotes(w, boot) {
		env.say("%s", Inert(note))
	}
	return nil
}

// installWall loads the wall. One that stands as it should keeps its counters.
func installWall(w firewall.Wall) (stood bool, err error) {
	table, err := w.Table()
	if err != nil {
		return false, err
	}
	live, err := firewall.Read()
	if err != nil {
		return false, err
	}
	if live != nil {
		differs, err := live.Differs(table)
		if err != nil {
			return false, err
		}
		if len(differs) == 0 {
			return true, nil
		}
	}
	return false, table.Load()
}

func alsoCgroups(w firewall.Wall) string {
	if len(w.Cgroups) == 0 {
		return ""
	}
	return Inert(" and the cgroups " + strings.Join(w.Cgroups, ", "))
}

// wallNotes are what to know about a wall: whom it does not hold, and what takes
// it away.
func wallNotes(w firewall.Wall, boot firewall.Boot) []string {
	var notes []string
	if len(w.Cgroups) == 0 {
		notes = append(notes, "tasks of users other than root are not told by it: none has the cgroup rcc.slice")
	}
	install := "rcc " + strings.Join(installWords(w), " ")
	mend := "; write a service for it with: " + install + " --emit systemd >" + firewall.UnitPath + " && systemctl enable rcc-firewall"
	switch {
	case boot.Keeper != "":
	case isNixOS():
		notes = append(notes, "it is gone after the next start of the machine; put what "+install+" --emit nixos prints into the configuration")
	case boot.Flusher != "":
		notes = append(notes, "it is gone when the machine's firewall is loaded again, as "+boot.Flusher+" flushes all rules"+mend)
	default:
		notes = append(notes, "it is gone after the next start of the machine"+mend)
	}
	return notes
}

func isNixOS() bool {
	_, err := os.Stat("/etc/NIXOS")
	return err == nil
}

// asRoot says how to do what the kernel did not allow.
func asRoot(err error, command string) error {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return fmt.Errorf("cannot reach the host's firewall: that takes root; run: sudo rcc firewall %s", command)
	}
	return err
}

type firewallRemoveCmd struct{}

func (c *firewallRemoveCmd) Run(env *surroundings) error {
	stood, err := firewall.Remove()
	if err != nil {
		return asRoot(err, "remove")
	}
	if !stood {
		return nothing("there is no second wall to remove")
	}
	env.say("the second wall is gone")
	if boot, err := firewall.LookBoot("/"); err == nil && boot.Keeper != "" {
		env.say("it comes back when the machine starts: %s loads it", Inert(boot.Keeper))
	}
	return nil
}

type firewallShowCmd struct {
	ID        string `arg:"" optional:"" help:"Task, or the beginning of its name: the rules of its network."`
	JSON      bool   `name:"json" help:"Print an object."`
	wallFlags `embed:""`
}

func (c *firewallShowCmd) Run(env *surroundings) error {
	if c.JSON && c.Emit != "" {
		return usage("cannot use --json and --emit at once")
	}
	if c.ID != "" {
		return c.task(env)
	}
	w, err := c.wall()
	if err != nil {
		return err
	}
	if c.Emit != "" {
		return c.emit(env, w)
	}
	table, err := w.Table()
	if err != nil {
		return err
	}
	return c.print(env, table)
}

func (c *firewallShowCmd) print(env *surroundings, table firewall.Table) error {
	if c.JSON {
		return printJSON(env, table.View())
	}
	_, err := env.stdout.WriteString(table.String())
	return err
}

// task prints what stands in a task's network, which follows from its mode.
func (c *firewallShowCmd) task(env *surroundings) error {
	if c.Emit != "" && c.Emit != "nft" || len(c.Allow) > 0 {
		return usage("cannot print the rules of a task that way: leave out --emit and --allow")
	}
	_, _, s, err := atRepository(context.Background(), env)
	if err != nil {
		return err
	}
	_, rec, err := s.find(c.ID)
	if err != nil {
		return err
	}
	if rec.net() == netNone {
		return nothing("%s has no way out, and so no rules: its network is loopback alone", rec.ID)
	}
	return c.print(env, firewall.Task(firewall.TaskRules{Listener: firewall.TaskListener, LogGroup: firewall.TaskLogGroup}))
}
