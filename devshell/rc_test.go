package devshell

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// inBash sources a text in the real bash and gives what the commands after it
// print. Its environment is empty but for what is given.
func inBash(t testing.TB, rc []byte, environ []string, before, after string) string {
	t.Helper()
	bash, err := exec.LookPath("bash")
	need(t, "bash", err == nil)
	file := filepath.Join(t.TempDir(), rcName)
	if err := os.WriteFile(file, rc, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bash, "--norc", "--noprofile", "-c", before+"\n. "+quote(file)+" || echo failed\n"+after)
	cmd.Env, cmd.Dir = environ, filepath.Dir(file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return string(out)
}

// The environments of each version of Nix, as bash has them afterwards.
func TestSampleEnvironments(t *testing.T) {
	for _, dir := range samples(t) {
		for _, name := range []string{"plain", "structured"} {
			data, err := os.ReadFile(filepath.Join(dir, name+".json"))
			if os.IsNotExist(err) && name == "structured" && filepath.Base(dir) == "2.8.0" {
				continue // 2.8's get-env.sh itself cannot do it
			}
			if err != nil {
				t.Fatal(err)
			}
			env, err := parseEnvironment(data)
			if err != nil {
				t.Fatalf("%s of %s: %v", name, dir, err)
			}
			m := &making{dir: "/entry", source: Source{Kind: KindFlake}}
			places := m.places(env)
			got := inBash(t, rcText(env, places), []string{"PATH=/host", "HOME=/h", "TERM=t", "TMPDIR=/t", "SHELL=/s"}, "rcc_outputs=/o\\ p", `
				echo "$HOME $TERM $TMPDIR $SHELL $GREETING|$plain|${array[*]}|${pairs[a b]}|${#pairs[*]}|$lines|$prefix"
				case $PATH in */host*) echo leak;; esac
				echo "${out-none} ${dev-none}"
				case $(declare -p outputs) in *-A*) echo "${outputs[out]}";; *) echo "$outputs";; esac
				echo "$NIX_ATTRS_SH_FILE $NIX_ATTRS_JSON_FILE ${!rcc_*}"
				greet; declare -f shout >/dev/null && echo shout`)
			var want string
			if name == "plain" {
				want = "hook of /o p/out hello\n/h t /t /s hello|1|one two three q\"q /o p/dev/lib|c d|3|a\nb\tc\\|/o p/out\n" +
					"/o p/out /o p/dev\nout dev\n  \nhello from /o p/out\nshout\n"
			} else {
				want = "/h t /t /s |1|one two three q\"q /lib|c d|3|a\nb\tc\\|\n" +
					"none none\n/o p/out\n/entry/.attrs.sh /entry/.attrs.json \n from \nshout\n"
			}
			if got != want {
				t.Errorf("%s of %s:\n%s\nwant\n%s", name, dir, got, want)
			}
		}
	}
}

// What the caller sets before is followed, and what he does not want is left out.
func TestRCSwitches(t *testing.T) {
	env, err := parseEnvironment([]byte(`{"variables": {
		"PATH": {"type": "exported", "value": "/nix/bin"},
		"out": {"type": "exported", "value": "/nix/store/00000000000000000000000000000000-x"},
		"outputs": {"type": "exported", "value": "out"},
		"shellHook": {"type": "var", "value": "echo 'hook /nix/store/00000000000000000000000000000000-x/y'"}},
		"bashFunctions": {"f": " echo 'f /nix/store/00000000000000000000000000000000-x/y'", "eval": "builtin eval \"$@\"; echo stolen",
			"unset": " echo stolen unset", "g": " echo g"}}`))
	if err != nil {
		t.Fatal(err)
	}
	places := (&making{source: Source{Kind: KindFile}, tree: "/c/tree"}).places(env)
	rc := rcText(env, places)
	const after = `echo "$PATH|${XDG_DATA_DIRS-none}|$out"; f; g`
	for _, tt := range []struct{ before, after, want string }{
		{"rcc_outputs=/o", after, "hook /o/y\nstolen\n/nix/bin|none|/o/x\nf /o/x/y\ng\n"},
		{"rcc_outputs=/o rcc_hook=0 rcc_path=/usr/bin rcc_data_dirs=/usr/share", after, "/nix/bin:/usr/bin|/usr/share|/o/x\nf /o/x/y\ng\n"},
		{"rcc_outputs=/o rcc_functions=0", `echo "$PATH|$out|${!rcc_*}"; declare -F`, "/nix/bin|/o/x|\n"},
		// In code, a path that bash would read as code stays Nix's own.
		{
			"rcc_outputs='/o;$(echo x)'", `echo "$out"; f`,
			"hook /nix/store/00000000000000000000000000000000-x/y\nstolen\n/o;$(echo x)/out\nf /nix/store/00000000000000000000000000000000-x/y\n",
		},
		{"set -eu", "echo $out", ""},
	} {
		got := inBash(t, rc, nil, tt.before, tt.after)
		want := strings.ReplaceAll(tt.want, "/o/x", "/o/out")
		want = strings.ReplaceAll(want, "hook /o/y", "hook /o/out/y")
		if tt.want != "" && got != want {
			t.Errorf("%s: %q, want %q", tt.before, got, want)
		}
	}
}

// A longBash is a bash that evaluates one text after the other, for those who
// try thousands.
type longBash struct {
	file string // what it evaluates next: read at once, a pipe byte by byte
	in   io.WriteCloser
	out  *bufio.Reader
}

func newLongBash(t testing.TB) *longBash {
	t.Helper()
	bash, err := exec.LookPath("bash")
	need(t, "bash", err == nil)
	file := filepath.Join(t.TempDir(), rcName)
	cmd := exec.Command(bash, "--norc", "--noprofile", "-c", `
		while read -r; do
			unset v x a m
			. "$0"
			printf '%s\0' "$v" "$x" "${#a[@]}" "${a[@]}" "${#m[@]}" "${m[k]}"
			for k in "${!m[@]}"; do printf '%s\0' "$k" "${m[$k]}"; done
			printf 'end\0'
		done`, file)
	cmd.Env = []string{"LC_ALL=C"}
	b := &longBash{file: file}
	if b.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	b.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// roundTrip is one value in every position where a flake may put it.
func (b *longBash) roundTrip(t testing.TB, value, outputs string) {
	t.Helper()
	if strings.ContainsRune(value+outputs, 0) || len(value)+len(outputs) > 100_000 {
		return
	}
	env := &environment{
		strings: []variable{{"v", value, false}, {"x", value, true}},
		arrays:  []array{{"a", []string{value, "", value}}},
		all:     map[string]string{},
	}
	out := place{From: "/nix/store/00000000000000000000000000000000-x", Kind: placeOutput, Name: "out"}
	to := strings.ReplaceAll(value, out.From, outputs+"/out")
	want := []string{to, to, "3", to, "", to, "1", to, "k", to, "end"}
	env.maps = []array{{"m", []string{"k", value}}}
	if value != "" && value != "k" {
		env.maps = []array{{"m", []string{value, value}}}
		want = []string{to, to, "3", to, "", to, "1", "", to, to, "end"}
	}
	text := append([]byte("rcc_outputs="+quote(outputs)+"\n"), rcText(env, []place{out})...)
	if err := os.WriteFile(b.file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(b.in, "\n"); err != nil {
		t.Fatal(err)
	}
	var have []string
	for len(have) < len(want) {
		field, err := b.out.ReadString(0)
		if err != nil {
			t.Fatalf("%q: %v after %q", value, err, have)
		}
		have = append(have, strings.TrimSuffix(field, "\x00"))
	}
	if !slices.Equal(have, want) {
		t.Errorf("%q comes back as %q", value, have)
	}
}

func TestRoundTrip(t *testing.T) {
	var all bytes.Buffer
	for b := 1; b < 256; b++ {
		all.WriteByte(byte(b))
	}
	bash := newLongBash(t)
	for _, value := range []string{
		"", "plain", "it's", `'"'"'`, `$(touch x)`, "`touch x`", "a\nb\n", "\n", `\`, `\'`, "!x", "@", "*", "[", "]", "k", "a]b", "=", "~", "\x01", "\x7f", "\x01\x7f'", "\xff",
		"/nix/store/00000000000000000000000000000000-x", "'/nix/store/00000000000000000000000000000000-x'/lib:/nix/store/00000000000000000000000000000000-x", all.String(),
	} {
		for _, outputs := range []string{"/o", "/o'$(x) \\p\n"} {
			bash.roundTrip(t, value, outputs)
		}
	}
}

// FuzzRoundTrip: bash gives back exactly the bytes that a flake chose.
func FuzzRoundTrip(f *testing.F) {
	f.Add("it's $(x)", "/o")
	bash := newLongBash(f)
	f.Fuzz(func(t *testing.T, value, outputs string) { bash.roundTrip(t, value, outputs) })
}
