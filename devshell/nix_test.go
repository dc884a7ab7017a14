package devshell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fails makes a shell that cannot be made, and checks that nothing is left but
// the log, if the error names one.
func (w *world) fails(ctx context.Context, s Source, o Options) error {
	w.t.Helper()
	shell, err := w.cache.Shell(ctx, w.nix, s, o)
	if err == nil {
		shell.Release()
		w.t.Fatal("no error")
	}
	if strings.Contains(err.Error(), "\n") {
		w.t.Errorf("more than one line: %v", err)
	}
	var nixError *Error
	errors.As(err, &nixError)
	left, _ := os.ReadDir(w.cache.dir)
	for _, e := range left {
		file := filepath.Join(w.cache.dir, e.Name())
		named := nixError != nil && nixError.Log == file
		if !named && !strings.HasPrefix(e.Name(), memoPrefix) && !strings.HasSuffix(e.Name(), lockSuffix) {
			w.t.Errorf("%s is left", e.Name())
		}
		_ = os.Remove(file)
	}
	return err
}

// Everything that a flake may do wrong is one clear line.
func TestBrokenFlakes(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	const greeting = `GREETING = "hello"`
	for _, tt := range []struct{ name, file, old, new, attr, want string }{
		{"syntax", "flake.nix", greeting, `GREETING = ;`, "", "syntax error, unexpected ';' at flake.nix:34:22"},
		{"undefined", "flake.nix", greeting, `GREETING = nothing`, "", "undefined variable 'nothing' at flake.nix:34:22"},
		{"attribute", "flake.nix", greeting, greeting, "no.such thing", `no dev shell or package "no.such thing"`},
		{"builder", "flake.nix", "$busybox mkdir -p", "echo broken tool >&2; exit 3; $busybox mkdir -p", "", "tools does not build: its builder failed with exit code 3: broken tool"},
		{"setup", "stdenv/setup", "plain=1", "echo no such compiler >&2; exit 5", "", "demo-shell-env does not build: its builder failed with exit code 5: no such compiler"},
		{"import", "flake.nix", greeting, `GREETING = builtins.readFile "${tools}/bin/own-tool"`, "", "rcc allow --import-from-derivation"},
		{"network", "flake.nix", greeting, `GREETING = builtins.readFile (builtins.fetchurl { url = "https://example.invalid/x"; sha256 = "0000000000000000000000000000000000000000000000000000"; })`, "", "Nix cannot download https://example.invalid/x: "},
		{"lock", "flake.nix", "  outputs = { self }:", "  inputs.other.url = \"path:" + w.dir + "/other\";\n  outputs = { self, other }:", "", "run nix flake lock"},
		{"secret", "flake.nix", greeting, `GREETING = builtins.readFile /etc/passwd`, "", "is forbidden"},
		{"escapes", "flake.nix", greeting, `GREETING = throw "` + "[\x1b[31mred\x1b]0;title\x07\u202e \r\n" + `line"`, "", "[red"},
	} {
		if err := os.RemoveAll(w.tree); err != nil {
			t.Fatal(err)
		}
		w.flake("")
		w.edit(tt.file, tt.old, tt.new)
		if tt.name == "lock" {
			if err := os.MkdirAll(filepath.Join(w.dir, "other"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(w.dir, "other", "flake.nix"), []byte("{ outputs = _: { }; }"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := w.fails(ctx, w.source(KindFlake, "", tt.attr), w.options())
		if text := err.Error(); !strings.HasPrefix(text, "cannot make the dev shell of flake.nix: ") || !strings.Contains(text, tt.want) || strings.ContainsAny(text, "\x1b\x07\r") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if err := os.Remove(filepath.Join(w.tree, "flake.nix")); err != nil {
		t.Fatal(err)
	}
	if err := w.fails(ctx, w.source(KindFlake, "", ""), w.options()); !strings.Contains(err.Error(), "flake.nix") {
		t.Errorf("no flake.nix: %v", err)
	}
	o := w.options()
	o.Export = func(context.Context, string) error { return errors.New("no such commit") }
	if err := w.fails(ctx, w.source(KindFlake, "", ""), o); !strings.Contains(err.Error(), "no such commit") {
		t.Errorf("%v", err)
	}
}

// The log that an error names has all that Nix said.
func TestErrorLog(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	w.edit("flake.nix", "$busybox mkdir -p", "echo broken >&2; exit 3; $busybox mkdir -p")
	_, err := w.cache.Shell(context.Background(), w.nix, w.source(KindFlake, "", ""), w.options())
	var e *Error
	if !errors.As(err, &e) || e.Log == "" || !strings.Contains(err.Error(), e.Log) {
		t.Fatalf("%v", err)
	}
	data, err := os.ReadFile(e.Log)
	if err != nil || !strings.Contains(string(data), "building '") || !strings.Contains(string(data), "> broken") {
		t.Errorf("%s, %v", data, err)
	}
}

// With leave, an evaluation may build something and read it; a flake's
// nixConfig is no leave.
func TestImportFromDerivation(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	w.edit("flake.nix", `GREETING = "hello"`, `GREETING = builtins.substring 0 2 (builtins.readFile "${tools}/bin/own-tool")`)
	w.edit("flake.nix", `description =`, `nixConfig.allow-import-from-derivation = true; description =`)
	s := w.source(KindFlake, "", "")
	if err := w.fails(context.Background(), s, w.options()); !strings.Contains(err.Error(), "rcc allow --import-from-derivation") {
		t.Errorf("%v", err)
	}
	s.ImportFromDerivation = true
	if shell := w.shell(s); !slices.Contains(shell.Environ(""), "GREETING=#!") {
		t.Errorf("%q", shell.Environ(""))
	}
}

// ours lists the processes that know of this test's folder.
func (w *world) ours() (out []string) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		if dir == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		for _, name := range []string{"environ", "cmdline"} {
			if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil && strings.Contains(string(data), w.dir) {
				cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
				out = append(out, fmt.Sprintf("%s %q", dir, cmdline))
				break
			}
		}
	}
	return out
}

// gone waits until no process of this test is left.
func (w *world) gone() {
	w.t.Helper()
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if left = w.ours(); len(left) == 0 {
			return
		}
	}
	w.t.Errorf("still running: %q", left)
}

// ^C and the time limit leave no process and no file, whatever Nix is at.
func TestInterrupted(t *testing.T) {
	const building = "$busybox sleep 1000; $busybox mkdir -p"
	for _, tt := range []struct{ name, running, old, new string }{
		{"a builder that hangs", "sleep", "$busybox mkdir -p", building},
		{"a builder that ignores signals", "sleep", "$busybox mkdir -p", "trap \"\" TERM INT HUP; (trap \"\" TERM INT HUP; $busybox sleep 1000); " + building},
		{"an evaluation that hangs", "print-dev-env", `GREETING = "hello"`, "GREETING = (let l = n: builtins.genList (x: x) n; s = f: builtins.foldl' (a: b: a + f b) 0; in toString (s (x: s (y: y) (l 100000)) (l 1000000)))"},
	} {
		for _, how := range []string{"cancelled", "too long"} {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				w := newWorld(t)
				w.flake("")
				w.edit("flake.nix", tt.old, tt.new)
				o := w.options()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				seen := make(chan bool, 1)
				go func() { // the control: there is something to be ended
					for range 500 {
						if strings.Contains(fmt.Sprint(w.ours()), tt.running) {
							seen <- true
							if how == "cancelled" {
								cancel()
							}
							return
						}
						time.Sleep(10 * time.Millisecond)
					}
					seen <- false
				}()
				if how == "too long" {
					o.Timeout = 2 * time.Second
				}
				start := time.Now()
				err := w.fails(ctx, w.source(KindFlake, "", ""), o)
				if took := time.Since(start); took > 9*time.Second {
					t.Errorf("it took %s", took)
				}
				if !<-seen {
					t.Error("nothing was running")
				}
				w.gone()
				if how == "cancelled" && !errors.Is(err, context.Canceled) {
					t.Errorf("%v", err)
				}
				if how == "too long" && (!errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Nix did not end in 2s")) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

// A nix that heeds no signal is killed, with its group.
func TestDeafNix(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.dir, "deaf")
	script := "#!/bin/sh\ncase $* in --version) echo 'nix (Nix) 9.9.9'; exit;; esac\ntrap '' TERM\necho $$ >" + quote(w.dir+"/pid") + "\n(trap '' TERM; while :; do sleep 1; done) &\nwhile :; do sleep 1; done\n"
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "nix"), []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	w.flake("")
	var err error
	if w.nix, err = Find(append([]string{"PATH=" + dir + ":/usr/bin:/bin"}, w.environ[1:]...)); err != nil {
		t.Fatal(err)
	}
	o := w.options()
	o.Timeout = 500 * time.Millisecond
	if err := w.fails(context.Background(), w.source(KindFlake, "", ""), o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(w.dir + "/pid"); err != nil {
		t.Fatal("it did not run")
	}
	w.gone()
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nix"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, path := range []string{"", ".", "::.", "/none", "relative:" + filepath.Dir(dir)} {
		if n, err := Find([]string{"PATH=" + path}); !errors.Is(err, ErrAbsent) {
			t.Errorf("%q: %+v, %v", path, n, err)
		}
	}
	if n, err := Find([]string{"PATH=/none:" + dir}); err != nil || n.Path() != filepath.Join(dir, "nix") {
		t.Errorf("%+v, %v", n, err)
	}
	n, err := Find([]string{"PATH=" + dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Version(context.Background()); err == nil || !strings.Contains(err.Error(), "cannot use "+dir) {
		t.Errorf("a nix that says nothing: %v", err)
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]string{
		"nix (Nix) 2.8.0\n":                      "2.8.0",
		"nix (Nix) 2.34.8\nfeatures: x\n":        "2.34.8",
		"nix (Lix, like Nix) 2.91.1\n":           "2.91.1 (Lix, like Nix)",
		"nix (Determinate Nix 3.8.5) 2.30.2":     "2.30.2 (Determinate Nix 3.8.5)",
		"nix (Nix) ":                             "",
		"nix":                                    "",
		"":                                       "",
		"zsh 5.9":                                "",
		"nix (Nix) " + strings.Repeat("9", 1000): "",
	} {
		got, ok := parseVersion(text)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", text, got, ok)
		}
	}
}

// The version is remembered for as long as the program is the same.
func TestVersionMemo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "nix")
	write := func(version string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("#!/bin/sh\necho x >>"+quote(dir+"/started")+"\necho 'nix (Lix, like Nix) "+version+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := OpenCache(filepath.Join(dir, "cache"))
	for i, version := range []string{"2.8.0", "2.8.0", "2.91.10"} {
		if i != 1 {
			write(version)
		}
		n, err := Find([]string{"PATH=" + dir + ":/bin"})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Version(context.Background(), n); err != nil || got != version+" (Lix, like Nix)" {
			t.Errorf("%d: %q, %v", i, got, err)
		}
		started, _ := os.ReadFile(dir + "/started")
		if want := []int{1, 1, 2}[i]; len(started) != 2*want {
			t.Errorf("%d: started %d times", i, len(started)/2)
		}
	}
}
