package main

import (
	"slices"
	"strings"
	"testing"
)

// What rcc init writes sets nothing as it is, and names every key that there is,
// each with a value that can be read.
func TestInitTexts(t *testing.T) {
	notForRepo := []string{"defaults.dirty", "defaults.carry", "defaults.worktreeinclude", "shell.timeout", "agent.example.env"}
	for _, tt := range []struct {
		name, text string
		repo       bool
	}{{"rcc.toml", initRepo, true}, {"config.toml", initUser, false}} {
		d, err := parseConfig(tt.name, []byte(tt.text))
		if err != nil || len(d.root) > 0 {
			t.Errorf("%s is not empty: %v, %v", tt.name, d, err)
		}
		var lines []string
		for line := range strings.Lines(tt.text) {
			if len(line) > 90 {
				t.Errorf("%s has a long line: %s", tt.name, line)
			}
			if setting, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(line, "# ") {
				line = setting
			}
			lines = append(lines, line)
		}
		text := []byte(strings.Join(lines, ""))
		if _, err := decodeConfig(tt.name, text, tt.repo); err != nil {
			t.Errorf("%s with all that it shows: %v", tt.name, err)
			continue
		}
		d, err = parseConfig(tt.name, text)
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for path := range d.lines {
			got = append(got, strings.TrimRight(strings.Join(path[:], "."), "."))
		}
		add := func(table string, keys []string) {
			for _, k := range keys {
				if k = table + k; k != "defaults.net" && !(tt.repo && slices.Contains(notForRepo, k)) { // the former is the old place
					want = append(want, k)
				}
			}
		}
		add("", topKeys)
		add("agent.", []string{"example"})
		add("agent.example.", agentKeys)
		add("defaults.", defaultKeys)
		add("shell.", shellKeys)
		add("hooks.", hookNames)
		slices.Sort(want)
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s has\n%q, there are\n%q", tt.name, got, want)
		}
	}
}
