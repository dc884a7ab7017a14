package hooks

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var envrcs = []struct {
	text  string
	uses  []string
	plain bool
}{
	{"", nil, true},
	{"# nothing\n\n", nil, true},
	{"use rcc", []string{""}, true},
	{"use rcc\n", []string{""}, true},
	{"  use\trcc  # tools\n", []string{""}, true},
	{"use rcc .#ci\n", []string{"ci"}, true},
	{"use rcc '#ci'\n", []string{"ci"}, true},
	{"use rcc \"#ci-2.x_y+z\"\n", []string{"ci-2.x_y+z"}, true},
	{"use rcc ci\nuse rcc other", []string{"ci", "other"}, true},
	{"use rcc .\n", []string{""}, true},
	{"use rcc #ci\n", []string{""}, true},
	{"use rcc ''\n", []string{""}, true},
	{"use rcc ci # why\n", []string{"ci"}, true},
	{"use rcc ci other\n", nil, false},
	{"use rcc\r\n", nil, false},
	{"use rcc;id\n", nil, false},
	{"use rcc ; id\n", nil, false},
	{"use rcc $(id)\n", nil, false},
	{"use rcc `id`\n", nil, false},
	{"use rcc \"$(id)\"\n", nil, false},
	{"use rcc a\\\nb\n", nil, false},
	{"use rcc &\n", nil, false},
	{"use rcc a&b\n", nil, false},
	{"use rcc >file\n", nil, false},
	{"use rcc ~\n", nil, false},
	{"use rcc *\n", nil, false},
	{"use rcc {a,b}\n", nil, false},
	{"use rcc 'a b'\n", nil, false},
	{"use rcc a'b'\n", nil, false},
	{"use rcc 'a\n", nil, false},
	{"use rcc '\n", nil, false},
	{"use  flake\n", nil, false},
	{"use_rcc\n", nil, false},
	{"use rccx\n", nil, false},
	{"use rcc\nexport A=1\n", []string{""}, false},
	{"use rcc\n\x00", nil, false},
	{"use rcc\x0bid", nil, false},
	{"use rcc\u00a0id", nil, false},
	{"use rcc é", nil, false},
	{"X=1 use rcc", nil, false},
	{"if use rcc; then :; fi", nil, false},
	{"use rcc ..#x", nil, false},
	{"use rcc .##x", nil, false},
}

func TestParseEnvrc(t *testing.T) {
	for _, tt := range envrcs {
		uses, plain := ParseEnvrc([]byte(tt.text))
		if plain != tt.plain || tt.plain && !reflect.DeepEqual(uses, tt.uses) {
			t.Errorf("%q: %q, %v, want %q, %v", tt.text, uses, plain, tt.uses, tt.plain)
		}
	}
	if _, plain := ParseEnvrc([]byte(strings.Repeat("\n", maxEnvrc+1))); plain {
		t.Error("a file that is too large is plain")
	}
	if got := EnvrcHint([]byte("use rcc #ci\n")); !strings.Contains(got, "use rcc ci") {
		t.Errorf("hint: %q", got)
	}
	for _, text := range []string{"use rcc # ci", "use rcc .#ci", "use rcc", "# use rcc #x", ""} {
		if got := EnvrcHint([]byte(text)); got != "" {
			t.Errorf("%q: hint %q", text, got)
		}
	}
}

// What is called plain does in bash what was read from it, and nothing else.
func FuzzParseEnvrc(f *testing.F) {
	for _, tt := range envrcs {
		f.Add([]byte(tt.text))
	}
	bash := need(f, "bash")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		uses, plain := ParseEnvrc(content)
		EnvrcHint(content)
		if !plain {
			return
		}
		file := filepath.Join(dir, ".envrc")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		// Restricted, with no PATH: whatever else is in the file shows.
		cmd := exec.Command(bash, "--norc", "--noprofile", "-c", `use() { printf 'use %s\n' "$*"; }; . "$1"; printf 'end\n'`, "bash", file)
		cmd.Dir, cmd.Env = dir, []string{"PATH=/nonexistent", "LC_ALL=C"}
		out, err := cmd.CombinedOutput()
		lines := strings.Split(string(out), "\n")
		if err != nil || len(lines) != len(uses)+2 {
			t.Fatalf("%q, read as %q, does %q, %v", content, uses, out, err)
		}
		for i, name := range uses {
			word, ok := strings.CutPrefix(lines[i], "use rcc")
			if got, valid := useName(strings.TrimPrefix(word, " ")); !ok || !valid || got != name {
				t.Fatalf("%q, read as %q, does %q", content, uses, out)
			}
		}
	})
}

func FuzzParseState(f *testing.F) {
	good := State{Envrc: "/p/.envrc", Active: true, Key: "k", Stamp: hashA, Told: "t", Undo: []Undo{{"A", "b=c\n", true}, {"D", "", false}}}
	f.Add(good.String())
	f.Add(State{Envrc: "/p/.envrc"}.String())
	f.Add("")
	f.Add("eJw")
	if got, err := ParseState(good.String()); err != nil || !reflect.DeepEqual(got, good) {
		f.Fatalf("%+v, %v", got, err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseState(text)
		if err != nil {
			if !reflect.DeepEqual(s, State{}) {
				t.Errorf("a state beside an error: %+v", s)
			}
			return
		}
		again, err := ParseState(s.String())
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%+v became %+v, %v", s, again, err)
		}
		for _, shell := range allShells {
			if _, err := Leave(shell, []string{StateVariable + "=" + text}); err != nil {
				t.Error(err)
			}
		}
	})
}

// A state that is too large for a variable is refused: with it, no program could be started.
func TestStateTooLarge(t *testing.T) {
	var before []string
	for i := range 3000 {
		before = append(before, fmt.Sprintf("V%d=%x", i, sha256.Sum256([]byte{byte(i), byte(i >> 8)})))
	}
	code, err := Enter("bash", before, nil, State{Envrc: "/p/.envrc"})
	if err == nil || code != "" || !strings.Contains(err.Error(), "/p/.envrc") {
		t.Errorf("%d bytes of code, %v", len(code), err)
	}
	if _, err := Enter("bash", before[:100], nil, State{Envrc: "/p/.envrc"}); err != nil {
		t.Error(err)
	}
}
