package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/rogpeppe/go-internal/testscript"
)

// came is what probe.py says of one attack.
type came struct {
	millis int
	what   string
}

// slowRefusal is how long a refusal may take, in milliseconds: it is made, not
// waited for.
const slowRefusal = 1500

// scriptProbes runs probes: each outside, where it must fire, and then in a
// sandbox of each mode that it names. "probes FILE" writes the table of verdicts
// to $WORK/verdicts and fails unless all of them hold.
func scriptProbes(ts *testscript.TestScript, args []string) error {
	w, _ := ts.Value(worldKey{}).(**world)
	if len(args) != 1 || *w == nil {
		return errScriptUsage("probes FILE, after world start")
	}
	work := ts.Getenv("WORK")
	f, err := readProbes(ts.ReadFile(args[0]), work)
	if err != nil {
		return errScriptUsage(err.Error())
	}
	r := &probeRun{ts: ts, w: *w, f: f, dir: filepath.Join(work, "probes"), verdicts: map[string]map[string]string{}}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	if err := r.controls(); err != nil {
		return err
	}
	for _, m := range f.modes {
		if err := r.inside(m); err != nil {
			return err
		}
	}
	table := r.table()
	if err := os.WriteFile(filepath.Join(work, "verdicts"), []byte(table), 0o644); err != nil {
		return err
	}
	ts.Logf("%s", table)
	if len(r.bad) > 0 {
		return fmt.Errorf("%d of the verdicts are bad:\n%s", len(r.bad), strings.Join(r.bad, "\n"))
	}
	return nil
}

// probeRun is a run of all of them.
type probeRun struct {
	ts       *testscript.TestScript
	w        *world
	f        *probeFile
	dir      string
	verdicts map[string]map[string]string // id, mode
	bad      []string
}

func (r *probeRun) set(id, mode, verdict, why string) {
	if r.verdicts[id] == nil {
		r.verdicts[id] = map[string]string{}
	}
	r.verdicts[id][mode] = verdict
	if verdict != "held" && verdict != "works" && verdict != "open" {
		r.bad = append(r.bad, fmt.Sprintf("%s in %s: %s: %s", id, mode, verdict, why))
	}
}

// attacks carries out the probes by a command line of the shell's that reads them
// from its standard input.
func (r *probeRun) attacks(name, command string, probes []probe) (map[string]came, error) {
	var list strings.Builder
	for _, p := range probes {
		fmt.Fprintf(&list, "%s %s\n", p.id, strings.Join(p.attack, " "))
	}
	in, out := filepath.Join(r.dir, name), filepath.Join(r.dir, name+".out")
	if err := os.WriteFile(in, []byte(list.String()), 0o644); err != nil {
		return nil, err
	}
	if err := r.ts.Exec("sh", "-c", command+` <"$0" >"$1"`, in, out); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	results := map[string]came{}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if len(f) == 3 {
			millis, _ := strconv.Atoi(f[1])
			results[f[0]] = came{millis, f[2]}
		}
	}
	return results, nil
}

// fired tells whether a probe left behind what it is known by.
func (r *probeRun) fired(p probe, result came) (bool, error) {
	if p.net == "result" {
		return result.what == "worked", nil
	}
	lines, err := r.w.read(p.net)
	return slices.ContainsFunc(lines, p.hit.MatchString), err
}

// controls runs every attack where nothing holds it.
func (r *probeRun) controls() error {
	if err := r.w.reset(); err != nil {
		return err
	}
	const program = `"$ESCAPE"/network/probe.py`
	results := map[string]came{}
	for by, command := range map[string]string{
		"":      "inworld /usr/bin/python3 " + program,
		"-root": "inworld -root /usr/bin/python3 " + program,
		"-own":  `inworld -root unshare --net --mount sh -c 'ip link set lo up && exec /usr/bin/python3 ` + program + `'`,
	} {
		probes := slices.DeleteFunc(slices.Clone(r.f.probes), func(p probe) bool { return p.by != by })
		got, err := r.attacks("control"+by, command, probes)
		if err != nil {
			return err
		}
		for id, result := range got {
			results[id] = result
		}
	}
	if err := r.w.sync(); err != nil {
		return err
	}
	for _, p := range r.f.probes {
		ok, err := r.fired(p, results[p.id])
		if err != nil {
			return err
		}
		switch {
		case ok:
			r.set(p.id, "control", "works", "")
		case p.isOpen(): // nothing is claimed
			r.set(p.id, "control", "held", "")
		default:
			r.set(p.id, "control", "no control", results[p.id].what)
		}
	}
	return nil
}

// inside runs, in a sandbox of a mode, the attacks that speak of it.
func (r *probeRun) inside(m probeMode) error {
	if err := r.w.reset(); err != nil {
		return err
	}
	var probes []probe
	for _, p := range r.f.probes {
		if p.modes[m.name] != "" {
			probes = append(probes, p)
		}
	}
	quoted := ""
	for _, flag := range m.flags {
		quoted += " '" + flag + "'"
	}
	command := strings.Join(append([]string{"env"}, m.env...), " ") + " inworld rcc run" + quoted + " -- /usr/bin/python3 probe.py"
	results, err := r.attacks(m.name, command, probes)
	if err != nil {
		return err
	}
	if err := r.w.sync(); err != nil {
		return err
	}
	for _, p := range probes {
		fired, err := r.fired(p, results[p.id])
		if err != nil {
			return err
		}
		verdict, why := judge(p.modes[m.name], fired, results[p.id])
		r.set(p.id, m.name, verdict, why)
	}
	return r.rest(m, probes)
}

// judge is the verdict on one attack in a sandbox.
func judge(want string, fired bool, result came) (verdict, why string) {
	switch {
	case result.what == "" || strings.HasPrefix(result.what, "missing "):
		return "no result", result.what
	case want == "works" && fired && result.what == "worked":
		return "works", ""
	case want == "works":
		return "does not work", result.what
	case want == "open":
		return "open", ""
	case fired:
		return "broken", result.what
	case result.millis > slowRefusal:
		return "slow", fmt.Sprintf("%s after %d ms", result.what, result.millis)
	}
	return "held", ""
}

// rest looks at what else arrived: nothing may that no probe stands for.
func (r *probeRun) rest(m probeMode, probes []probe) error {
	for _, net := range worldNets {
		lines, err := r.w.read(net)
		if err != nil {
			return err
		}
	line:
		for _, line := range lines {
			if line == "" || strings.HasPrefix(line, "sentinel ") {
				continue
			}
			for _, permit := range m.permit {
				if permit.net == net && permit.re.MatchString(line) {
					continue line
				}
			}
			for _, p := range probes {
				if p.net == net && p.hit.MatchString(line) {
					continue line // which has its verdict
				}
			}
			r.set("99-anything-else", m.name, "broken", net+" "+line[:min(len(line), 200)])
		}
	}
	if r.verdicts["99-anything-else"][m.name] == "" {
		r.set("99-anything-else", m.name, "held", "")
	}
	return nil
}

// table is for people: a line for each probe.
func (r *probeRun) table() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "probe\tcontrol")
	for _, m := range r.f.modes {
		fmt.Fprintf(t, "\t%s", m.name)
	}
	fmt.Fprintln(t)
	ids := []string{}
	for _, p := range r.f.probes {
		ids = append(ids, p.id)
	}
	for _, id := range append(ids, "99-anything-else") {
		control := r.verdicts[id]["control"]
		if control == "works" {
			control = "fires"
		}
		fmt.Fprintf(t, "%s\t%s", id, control)
		for _, m := range r.f.modes {
			fmt.Fprintf(t, "\t%s", r.verdicts[id][m.name])
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	return b.String()
}
