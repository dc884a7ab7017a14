package main

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A probe is one attack on the network, as the file of probes describes it.
type probe struct {
	id     string
	modes  map[string]string // mode: "held", "works" or "open", what is expected there
	net    string            // where it leaves something behind; "result": it is enough that it works
	hit    *regexp.Regexp
	by     string   // "", "-root" or "-own": who runs the control
	attack []string // for probe.py
}

// isOpen tells whether it is held in no mode.
func (p probe) isOpen() bool {
	for _, want := range p.modes {
		if want != "open" {
			return false
		}
	}
	return true
}

// probeFile is the whole of it.
type probeFile struct {
	modes  []probeMode
	probes []probe
}

type probeMode struct {
	name       string
	env, flags []string
	permit     []struct {
		net string
		re  *regexp.Regexp
	}
}

func (f *probeFile) mode(name string) *probeMode {
	i := slices.IndexFunc(f.modes, func(m probeMode) bool { return m.name == name })
	if i < 0 {
		return nil
	}
	return &f.modes[i]
}

// readProbes reads the file; see its head. Each probe gets a port and a nonce.
func readProbes(text, work string) (*probeFile, error) {
	f := &probeFile{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		words := strings.Fields(line)
		var err error
		switch {
		case line == "" || line[0] == '#':
		case words[0] == "mode" && len(words) > 1:
			m := probeMode{name: words[1]}
			for _, word := range words[2:] {
				word = strings.ReplaceAll(word, "$WORK", work)
				if strings.HasPrefix(word, "-") || len(m.flags) > 0 {
					m.flags = append(m.flags, word)
				} else {
					m.env = append(m.env, word)
				}
			}
			f.modes = append(f.modes, m)
		case words[0] == "permit" && len(words) > 3:
			m := f.mode(words[1])
			if m == nil {
				return nil, fmt.Errorf("unknown mode in %q", line)
			}
			var re *regexp.Regexp
			re, err = regexp.Compile("^(?:" + strings.Join(words[3:], " ") + ")$")
			m.permit = append(m.permit, struct {
				net string
				re  *regexp.Regexp
			}{words[2], re})
		default:
			err = f.add(line)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	if len(f.probes) > countedPorts {
		return nil, fmt.Errorf("%d probes need as many ports", len(f.probes))
	}
	return f, nil
}

// add reads a line of a probe.
func (f *probeFile) add(line string) error {
	nonce := strings.ToLower(rand.Text()[:12])
	line = strings.ReplaceAll(line, "PORT", strconv.Itoa(countedFirst+len(f.probes)))
	line = strings.ReplaceAll(line, "NONCE", nonce)
	var part []string
	for p := range strings.SplitSeq(line, " | ") {
		part = append(part, strings.TrimSpace(p))
	}
	if len(part) != 4 {
		return fmt.Errorf("want ID | MODES | HIT | ATTACK")
	}
	p := probe{id: part[0], modes: map[string]string{}, attack: strings.Fields(part[3])}
	if slices.ContainsFunc(f.probes, func(q probe) bool { return q.id == p.id }) {
		return fmt.Errorf("there are two %s", p.id)
	}
	for name := range strings.SplitSeq(part[1], ",") {
		want := "held"
		if rest, ok := strings.CutPrefix(name, "+"); ok {
			name, want = rest, "works"
		} else if rest, ok := strings.CutPrefix(name, "open:"); ok {
			name, want = rest, "open"
		}
		for _, m := range f.modes {
			if name == m.name || name == "all" {
				p.modes[m.name] = want
			}
		}
		if name != "all" && f.mode(name) == nil {
			return fmt.Errorf("unknown mode %s", name)
		}
	}
	if p.by = p.attack[0]; strings.HasPrefix(p.by, "-") {
		p.attack = p.attack[1:]
	} else {
		p.by = ""
	}
	net, key, _ := strings.Cut(part[2], " ")
	p.net = net
	if p.net == "result" {
		f.probes = append(f.probes, p)
		return nil
	}
	pattern, ok := strings.CutPrefix(key, "~")
	if !ok {
		pattern = regexp.QuoteMeta(key)
	}
	var err error
	p.hit, err = regexp.Compile("^(?:" + pattern + ")$")
	f.probes = append(f.probes, p)
	return err
}
