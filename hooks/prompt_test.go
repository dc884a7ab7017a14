package hooks

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A home is a scratch home with projects, and the stub on PATH.
type home struct {
	t                *testing.T
	dir, state, path string
	environ          []string
}

func newHome(t *testing.T) *home {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h := &home{t: t, dir: dir, state: filepath.Join(dir, "state"), path: filepath.Join(dir, "bin", "rcc")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h.mkdir("state")
	h.mkdir("bin")
	h.mkdir("config")
	h.mkdir("run")                             // fish
	h.mkdir("data/fish/generated_completions") // without it, fish makes them in the background
	if err := os.Symlink(self, h.path); err != nil {
		t.Fatal(err)
	}
	h.environ = []string{
		"HOME=" + dir, "XDG_CONFIG_HOME=" + filepath.Join(dir, "config"), "XDG_DATA_HOME=" + filepath.Join(dir, "data"),
		"PATH=" + filepath.Dir(h.path) + ":/usr/bin:/bin", "STUB_STATE=" + h.state, "XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"), "TERM=dumb", "LC_ALL=C.UTF-8", "GORACE=atexit_sleep_ms=0",
	}
	return h
}

func (h *home) at(names ...string) string { return filepath.Join(append([]string{h.dir}, names...)...) }

func (h *home) mkdir(name string) {
	h.t.Helper()
	if err := os.MkdirAll(h.at(name), 0o700); err != nil {
		h.t.Fatal(err)
	}
}

// write replaces a file at once: a prompt that comes between sees no half of it.
func (h *home) write(name, text string) {
	h.t.Helper()
	if err := replaceFile(h.at(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// age makes a file look as if it had been there for long: the shells look again
// at files of the last seconds.
func (h *home) age(names ...string) {
	h.t.Helper()
	old := time.Now().Add(-time.Hour)
	for _, name := range names {
		if err := os.Chtimes(h.at(name), old, old); err != nil {
			h.t.Fatal(err)
		}
	}
}

// starts counts how often the stub was started.
func (h *home) starts() int {
	data, _ := os.ReadFile(filepath.Join(h.state, "log"))
	return strings.Count(string(data), "\n")
}

// shell starts a shell with the hook in its own configuration.
func (h *home) shell(shell, before string) *terminal {
	h.t.Helper()
	line := `eval "$(rcc hook ` + shell + `)"` + "\n"
	var cmd *exec.Cmd
	switch shell {
	case "bash":
		h.write("rc.bash", "PS1='> '\n"+before+line)
		cmd = exec.Command("bash", "--noprofile", "--rcfile", h.at("rc.bash"), "-i")
	case "zsh":
		h.write(".zshrc", "PS1='> '; unsetopt zle prompt_sp\n"+before+line)
		cmd = exec.Command("zsh", "-d", "-i")
	case "fish":
		h.write("config/fish/config.fish", "set -g fish_greeting\nfunction fish_prompt; echo '> '; end\n"+before+"rcc hook fish | source\n")
		cmd = exec.Command("fish", "-i")
	}
	cmd.Dir, cmd.Env = h.dir, append(h.environ, "PWD="+h.dir)
	return openTerminal(h.t, cmd)
}

// again is the command that starts the same shell within itself.
func (h *home) again(shell string) string {
	return map[string]string{"bash": "bash --noprofile --rcfile " + h.at("rc.bash") + " -i", "zsh": "zsh -d -i", "fish": "fish -i"}[shell]
}

// A day in a shell: in, about, out, with everything as it was at the end.
func TestHook(t *testing.T) {
	forShells(t, func(t *testing.T, shell string) {
		h := newHome(t)
		h.write("p/.envrc", "# tools\nuse rcc\n")
		h.write("p/shell.env", "PATH=/dev/bin FOO=one OLD=new")
		h.write("p/sub/deep/file", "")
		h.write("q/.envrc", "use rcc .#other\n")
		h.write("q/shell.env", "BAR=two")
		h.age("p/.envrc", "p/shell.env", "p", "p/sub", "q/.envrc", "q/shell.env", "q", ".")
		h.environ = append(h.environ, "OLD=o 'l' d")
		before := h.at("before")
		after := h.at("after")
		term := h.shell(shell, "")
		term.want("env -0 > "+before, `"$FOO"`, "")
		n := h.starts()
		if term.want("true", `"$FOO"`, ""); h.starts() != n {
			t.Error("rcc is started where there is no .envrc")
		}

		term.want("cd p", `"$FOO:$OLD:$NAMED:$PATH"`, "one:new::/dev/bin:"+filepath.Dir(h.path)+":/usr/bin:/bin")
		term.want("true", `"$FOO"`, "one")
		n = h.starts()
		term.want("cd sub/deep", `"$FOO"`, "one")
		term.want("cd ../..", `"$FOO"`, "one")
		for range 3 {
			term.want("true", `"$FOO"`, "one")
		}
		if got := h.starts(); got != n {
			t.Errorf("rcc is started %d times while nothing changes", got-n)
		}

		h.write("p/shell.env", "PATH=/dev/bin FOO=three")
		term.want("true", `"$FOO:$OLD"`, "three:o 'l' d")

		// An older file in its place, which no time of the file tells.
		h.write("other.env", "FOO=older")
		h.age("other.env", "p/.envrc", "p/shell.env", "p")
		if err := os.Rename(h.at("other.env"), h.at("p/shell.env")); err != nil {
			t.Fatal(err)
		}
		term.want("true", `"$FOO"`, "older")

		// What fails is told once, and the last good environment stays.
		h.write("p/broken", "")
		term.want("true", `"$FOO"`, "older")
		for _, name := range []string{"x", "y"} {
			h.write("p/"+name, "")
			term.want("true", `"$FOO"`, "older")
		}
		if got := strings.Count(term.text(0), "rcc: cannot evaluate p"); got != 1 {
			t.Errorf("the failure is told %d times", got)
		}
		term.want(h.again(shell), `"$FOO"`, "older")
		if got := strings.Count(term.text(0), "rcc: cannot evaluate p"); got != 1 {
			t.Errorf("the failure is told %d times, once more in a subshell", got)
		}
		term.want("cd /", `"$FOO:$OLD"`, ":o 'l' d") // a subshell leaves by itself
		term.want("exit", `"$FOO"`, "older")
		h.write("p/broken", "still") // another try of the user's is answered
		term.want("true", `"$FOO"`, "older")
		if got := strings.Count(term.text(0), "rcc: cannot evaluate p"); got != 2 {
			t.Errorf("two failures are told %d times", got)
		}
		os.Remove(h.at("p/broken"))
		h.write("p/shell.env", "FOO=mended")
		term.want("true", `"$FOO"`, "mended")

		term.want("cd ../q", `"$FOO:$BAR:$NAMED"`, ":two:other")
		term.want("cd ..", `"$FOO:$BAR:$NAMED:$RCC_HOOK"`, ":::")
		term.want("env -0 > "+after, `"$FOO"`, "")
		same(t, "after all", readEnviron(t, after), readEnviron(t, before))

		// The .envrc itself comes, goes, and has too much in it.
		h.mkdir("r")
		h.write("r/shell.env", "FOO=four")
		term.want("cd r", `"$FOO"`, "")
		h.write("r/.envrc", "use rcc\n")
		term.want("true", `"$FOO"`, "four")
		h.write("r/.envrc", "use rcc\nexport EVIL=1\n")
		term.want("true", `"$FOO:$EVIL"`, ":")
		for _, name := range []string{"x", "y"} {
			h.write("r/"+name, "")
			term.want("true", `"$FOO:$EVIL"`, ":")
		}
		if got := strings.Count(term.text(0), "direnv can run it"); got != 1 {
			t.Errorf("that direnv can run it is told %d times", got)
		}
		h.write("r/.envrc", "use rcc\n")
		term.want("true", `"$FOO"`, "four")
		os.Remove(h.at("r/.envrc"))
		term.want("true", `"$FOO"`, "")
	})
}

// A login shell sets PATH anew, tmux starts such: it enters again, and what it
// has by itself is what it gets back.
func TestHookLoginShell(t *testing.T) {
	forShells(t, func(t *testing.T, shell string) {
		h := newHome(t)
		h.write("p/.envrc", "use rcc\n")
		h.write("p/shell.env", "PATH=/dev/bin FOO=one")
		h.age("p/.envrc", "p/shell.env", "p")
		own := filepath.Dir(h.path) + ":/usr/bin:/bin"
		term := h.shell(shell, "")
		term.want("cd p", `"$PATH"`, "/dev/bin:"+own)
		term.want("env PATH=/login/bin:"+own+" "+h.again(shell), `"$PATH:$FOO"`, "/dev/bin:/login/bin:"+own+":one")
		n := h.starts()
		if term.want("true", `"$PATH"`, "/dev/bin:/login/bin:"+own); h.starts() != n {
			t.Error("it enters again and again")
		}
		term.want("cd ..", `"$PATH:$FOO"`, "/login/bin:"+own+":")
		term.want("exit", `"$PATH"`, "/dev/bin:"+own)
		// The same, straight out of the folder.
		term.want("env PATH=/login/bin:"+own+" "+h.again(shell)+"; true", `"$PATH"`, "/dev/bin:/login/bin:"+own)
		term.want("exit", `"$PATH"`, "/dev/bin:"+own)
		term.want("cd ..", `"$PATH"`, own)
	})
}

// Any name of a folder, and options that people set in their shells.
func TestHookOddFolders(t *testing.T) {
	odd := map[string][]string{
		"bash": {"set -u", "shopt -s nullglob extglob failglob", "set -o noglob", "set -o posix"},
		"zsh":  {"setopt ksh_arrays", "setopt sh_word_split glob_subst", "setopt no_unset", "setopt no_nomatch no_extended_glob", "setopt warn_create_global"},
		"fish": {"set -g fish_features all"},
	}
	forShells(t, func(t *testing.T, shell string) {
		for _, option := range odd[shell] {
			h := newHome(t)
			term := h.shell(shell, option+"\n")
			for _, name := range []string{"a b", "it's", "[x]*?", "-n", "$HOME", "back\\slash", "é", "two\nlines", "end "} {
				h.write(name+"/.envrc", "use rcc\n")
				h.write(name+"/shell.env", "FOO=one")
				h.write(name+"/sub/x", "")
				if err := os.Symlink(h.at(name, "sub"), h.at("here")); err != nil {
					t.Fatal(err)
				}
				enter, unset := "cd here; cd -P .", `"${FOO-unset}"`
				if shell == "fish" { // cd takes links as they are, but for pwd -P
					enter, unset = "cd here; cd (pwd -P | string collect)", `(set -q FOO; and echo set; or echo unset)`
				}
				term.want(enter, `"$FOO"`, "one")
				h.write(name+"/shell.env", "FOO=two")
				term.want("true", `"$FOO"`, "two")
				term.want("cd "+h.dir, unset, "unset")
				if err := os.Remove(h.at("here")); err != nil {
					t.Fatal(err)
				}
			}
			if text := term.text(0); strings.Contains(text, "created globally") || strings.Contains(text, "unbound") {
				t.Errorf("%s: the shell complains:\n%s", option, text)
			}
		}
	})
}

// The hook does nothing where direnv's own is there, or at work.
func TestHookBesideDirenv(t *testing.T) {
	forShells(t, func(t *testing.T, shell string) {
		for name, before := range map[string]map[string]string{
			"at work": {"bash": "export DIRENV_DIR=-/p\n", "zsh": "export DIRENV_DIR=-/p\n", "fish": "set -gx DIRENV_DIR -/p\n"},
			"hook":    {"bash": "_direnv_hook() { :; }\n", "zsh": "_direnv_hook() { :; }\n", "fish": "function __direnv_export_eval; end\n"},
			"control": {},
		} {
			t.Run(name, func(t *testing.T) {
				h := newHome(t)
				h.write("p/.envrc", "use rcc\n")
				h.write("p/shell.env", "FOO=one")
				want := ""
				if name == "control" {
					want = "one"
				}
				h.shell(shell, before[shell]).want("cd p", `"$FOO"`, want)
				if n := h.starts(); name != "control" && n != 1 {
					t.Errorf("rcc was started %d times, once for the hook", n)
				}
			})
		}
	})
}

// ^C ends an evaluation; it begins again when the user comes back, not at each prompt.
func TestHookInterrupted(t *testing.T) {
	forShells(t, func(t *testing.T, shell string) {
		h := newHome(t)
		h.write("p/.envrc", "use rcc\n")
		h.write("p/shell.env", "FOO=one")
		h.write("p/slow", "")
		term := h.shell(shell, "")
		term.want("true", `"$FOO"`, "")
		term.master.WriteString("cd p\r")
		for end := time.Now().Add(patience); !strings.Contains(term.text(0), "evaluating"); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no evaluation:\n%s", term.text(0))
			}
		}
		term.master.WriteString("\x03")
		time.Sleep(200 * time.Millisecond) // what is typed before the shell is back goes with the ^C
		n := h.starts()
		term.want("true", `"$FOO"`, "")
		if got := h.starts(); got != n {
			t.Errorf("rcc was started %d times after ^C", got-n)
		}
		os.Remove(h.at("p/slow"))
		term.want("cd ..", `"$FOO"`, "")
		term.want("cd p", `"$FOO"`, "one")
	})
}

func TestLookBesideDirenv(t *testing.T) {
	h := newHome(t)
	h.write("p/.envrc", "use rcc\n")
	for _, env := range []string{"", "DIRENV_DIR=-" + h.at("p")} {
		l, err := Prompt{"bash", h.at("p"), []string{env}, h.at("stamps")}.Look()
		if err != nil || l.Load != (env == "") || l.Code != "" {
			t.Errorf("with %q: %+v, %v", env, l, err)
		}
	}
}

// Where no stamp can be written, it works without, and still tells things once.
func TestHookWithoutStamps(t *testing.T) {
	forShells(t, func(t *testing.T, shell string) {
		h := newHome(t)
		h.write("state/stamps", "in the way")
		h.write("p/.envrc", "use rcc\n")
		h.write("p/shell.env", "FOO=one")
		term := h.shell(shell, "")
		term.want("cd p", `"$FOO"`, "one")
		h.write("p/broken", "")
		time.Sleep(20 * time.Millisecond) // older than the look at it, for the kernel's coarse clock too
		for range 4 {
			term.want("true", `"$FOO"`, "one")
		}
		if got := strings.Count(term.text(0), "rcc: cannot evaluate p"); got != 1 {
			t.Errorf("the failure is told %d times", got)
		}
		term.want("cd ..", `"$FOO"`, "")
	})
}

func TestMerge(t *testing.T) {
	got := Merge([]string{"HOME=/h", "PATH=/bin:/x", "A=1", "B=2"}, []string{"PATH=/dev/bin:/x", "HOME=/homeless-shelter", "TMPDIR=/build", "XDG_DATA_DIRS=/d", "A=3", "C="})
	slices.Sort(got)
	if want := []string{"A=3", "B=2", "C=", "HOME=/h", "PATH=/dev/bin:/x:/bin", "XDG_DATA_DIRS=/d"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What is in PROMPT_COMMAND stays, an array too, and sees the status of the last command.
func TestHookPromptCommand(t *testing.T) {
	need(t, "bash")
	for name, before := range map[string]string{
		"none":   "",
		"string": "PROMPT_COMMAND='seen=$?; again=x'\n",
		"array":  "PROMPT_COMMAND=('seen=$?' 'again=x')\n",
		"twice":  "eval \"$(rcc hook bash)\"\nPROMPT_COMMAND+=';seen=$?; again=x'\n",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.write("p/.envrc", "use rcc\n")
			h.write("p/shell.env", "FOO=one")
			term := h.shell("bash", before)
			term.want("cd p", `"$FOO"`, "one")
			term.want("(exit 7)", `"$?"`, "7")
			if name != "none" {
				term.want("(exit 7)", `"$seen"`, "7")
				term.want("true", `"$again"`, "x")
			}
			term.want("cd ..; set -u", `"${FOO-unset}"`, "unset")
			term.want("cd p", `"$FOO"`, "one")
		})
	}
}

func readEnviron(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil || len(data) == 0 {
		t.Fatalf("no environment in %s: %v", file, err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}
