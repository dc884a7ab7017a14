package hooks

import (
	"bytes"
	"strings"
	"testing"
)

var oddValues = []string{
	"", " ", "plain", "two words", "'", `"`, `\`, `\\'`, "$HOME", "`id`", "$(id)", "!!", "a!b", "#", "~", "~root", "*", "?", "[a]", "{a,b}", ";", "&", "|",
	"-n", "--", "=", "a=b", "\n", "a\nb\n", "\t", "\r", "\x01", "\x01\x02", "\x1b[31m", "\x7f", "\x80", "\xff\xfe", "\x83\x5c", "é", "e\u0301", "漢字", "🙂", "\u202e", "\u0085", "\ufeff",
	"\ue000", "\uf600", "\uf6ff", "\xf4\x90\x80\x80", "\xed\xa0\x80", "%s%n", `\n`, `\x41`, "^", "(", ")", "<", ">", "/a b:/c'd", "1", "a\\", "\\\n",
	strings.Repeat("x'\\\n\xff", 3000),
}

func TestQuote(t *testing.T) {
	for _, locale := range []string{"C", "C.UTF-8"} {
		forShells(t, func(t *testing.T, shell string) {
			quote, err := quoter(shell)
			if err != nil {
				t.Fatal(err)
			}
			sh := startLive(t, shell, []string{"LC_ALL=" + locale, "PATH=/usr/bin:/bin", "HOME=" + t.TempDir()})
			for c := 1; c < 256; c++ {
				for _, s := range []string{string([]byte{byte(c)}), "a" + string([]byte{byte(c), byte(c)}) + "b"} {
					if got := sh.print(t, quote(s))[0]; got != s {
						t.Errorf("%s: %q became %q", locale, s, got)
					}
				}
			}
			for _, s := range oddValues {
				if strings.Contains(quote(s), "\n") {
					t.Errorf("%q is quoted with a line end", s)
				}
				if got := sh.print(t, quote(s))[0]; got != s {
					t.Errorf("%s: %q became %q by %s", locale, s, got, quote(s))
				}
			}
		})
	}
	if _, err := quoter("ksh"); err == nil {
		t.Error("a shell that is not known is quoted for")
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range oddValues {
		f.Add([]byte(s))
	}
	var shells []*live
	var quotes []func(string) string
	for _, shell := range allShells {
		shells = append(shells, startLive(f, shell, []string{"LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin", "HOME=" + f.TempDir()}))
		quote, _ := quoter(shell)
		quotes = append(quotes, quote)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		s := string(bytes.ReplaceAll(value, []byte{0}, nil))
		for i, sh := range shells {
			if got := sh.print(t, quotes[i](s))[0]; got != s {
				t.Errorf("%s: %q became %q by %s", allShells[i], s, got, quotes[i](s))
			}
		}
	})
}

// Into one dev shell, from there into another, and out: each time a program sees
// exactly what it should, and at the end what there was at the start.
func TestEnterLeave(t *testing.T) {
	forShells(t, func(t *testing.T, shell string) {
		before := []string{"LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "KEPT=a b", "EMPTY=", "GONE=x'y", "CDPATH=.:/x", "TERM=dumb"}
		first := []string{"LC_ALL=C.UTF-8", "PATH=/nix/store/a/bin:/usr/bin:/bin", "HOME=/homeless-shelter", "KEPT=a b", "EMPTY=not", "out=/o", "FIRST=1", "CDPATH=.:/x", "TERM=other"}
		second := []string{"LC_ALL=C.UTF-8", "PATH=/nix/store/b/bin:/usr/bin:/bin", "KEPT=a b", "EMPTY=", "GONE=x'y", "CDPATH=.:/x", "SECOND="}
		for i, v := range oddValues[:len(oddValues)-1] {
			name := "ODD_" + string(rune('a'+i%26)) + strings.Repeat("_", i/26)
			before = append(before, name+"="+v)
			first = append(first, name+"="+oddValues[(i+7)%(len(oddValues)-1)])
		}
		enter := func(after []string, envrc string) func([]string) string {
			return func(now []string) string {
				code, err := Enter(shell, now, after, State{Envrc: envrc, Key: "k"})
				if err != nil {
					t.Error(err)
				}
				return code
			}
		}
		leave := func(now []string) string {
			code, err := Leave(shell, now)
			if err != nil {
				t.Error(err)
			}
			return code
		}
		envs := runCode(t, shell, before, enter(first, "/p/.envrc"), enter(second, "/q/.envrc"), leave, enter(first, "/p/.envrc"), leave, leave)
		state := []string{StateVariable + "=x"}
		same(t, "in the first", envs[0], append(state, first...))
		same(t, "in the second", envs[1], append(state, second...))
		same(t, "after the second", envs[2], before)
		same(t, "in the first again", envs[3], append(state, first...))
		same(t, "after the first", envs[4], before)
		same(t, "after nothing", envs[5], before)
		got, err := ParseState(toMap(envs[1])[StateVariable])
		if err != nil || got.Envrc != "/q/.envrc" || !got.Active || got.Key != "k" {
			t.Errorf("the state is %+v, %v", got, err)
		}
		same(t, "the base", got.Base(envs[1]), before)

		// In a subshell, which has only the environment.
		out := runCode(t, shell, envs[0], leave)
		same(t, "left in a new shell", out[0], before)
	})
}

// What belongs to the shell itself survives: arrays, read-only variables,
// numbers, variables that are not exported, lists.
func TestEnterKeeps(t *testing.T) {
	before := []string{"LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin", "HOME=" + t.TempDir()}
	after := append([]string{"arr=flat", "map=flat", "ro=x", "num=7", "mine=theirs", "version=2", "status=3", "path=x", "list=one", "EXPORTED=e"}, before...)
	for shell, code := range map[string][3]string{
		"bash": {
			`arr=(a 'b c'); declare -A map=([k]=v); declare -r ro=1; declare -i num=5; mine='of the shell'`,
			`[[ ${arr[1]} == 'b c' && ${map[k]} == v && $ro == 1 && $num == 5 && $mine == 'of the shell' && ! -v EXPORTED && $PATH == /usr/bin:/bin ]] || echo "bad: $(declare -p arr map ro num mine)" >&2; env | grep -E '^(mine|arr|map)=' >&2`,
			`[[ $mine == theirs && $EXPORTED == e ]] || echo "not entered: $mine $EXPORTED" >&2`,
		},
		"zsh": {
			`arr=(a 'b c'); typeset -A map=(k v); typeset -r ro=1; integer num=5; mine='of the shell'`,
			`[[ ${arr[2]} == 'b c' && ${map[k]} == v && $ro == 1 && $num == 5 && $mine == 'of the shell' && -z ${+EXPORTED:#1} && $path[1] == /usr/bin ]] || echo "bad: $(typeset -p arr map ro num mine path)" >&2; env | grep -E '^(mine|arr|map)=' >&2`,
			`[[ $mine == theirs && $EXPORTED == e ]] || echo "not entered: $mine $EXPORTED" >&2`,
		},
		"fish": {
			`set -gx list a 'b c'; set -g mine of the shell; set -g arr 1 2`,
			`set -q -x list; and test (count $list) = 2 -a "$list[2]" = 'b c' -a (count $mine) = 3 -a (count $arr) = 2; or echo "bad: $list, $mine, $arr" >&2; set -q EXPORTED; and echo EXPORTED >&2; env | string match -r '^(mine|arr)=.*' >&2; true`,
			`test "$mine" = theirs -a "$EXPORTED" = e; or echo "not entered: $mine $EXPORTED" >&2`,
		},
	} {
		t.Run(shell, func(t *testing.T) {
			need(t, shell)
			text := func(s string) func([]string) string { return func([]string) string { return s } }
			runCode(t, shell, before, text(code[0]), func(now []string) string {
				// version and kin are fish's own and must not stop the rest
				out, err := Enter(shell, now, append(after, now...), State{Envrc: "/p/.envrc"})
				if err != nil {
					t.Error(err)
				}
				return out
			}, text(code[2]), func(now []string) string { // another dev shell, without most of them
				state, _ := ParseState(toMap(now)[StateVariable])
				out, err := Enter(shell, now, append(state.Base(now), "EXPORTED=e"), State{Envrc: "/q/.envrc"})
				if err != nil {
					t.Error(err)
				}
				return out
			}, text(strings.ReplaceAll(code[1], "EXPORTED", "NOTSET")), func(now []string) string {
				out, err := Leave(shell, now)
				if err != nil {
					t.Error(err)
				}
				return out
			}, text(code[1]))
		})
	}
}
