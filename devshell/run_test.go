package devshell

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fakeNix is a nix that is a script, with its path; PATH has what a script needs.
func fakeNix(t *testing.T, script string) (*Nix, *Cache) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.WriteFile(filepath.Join(bin, "nix"), []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	n, err := Find([]string{"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + dir})
	if err != nil {
		t.Fatal(err)
	}
	return n, OpenCache(filepath.Join(dir, "cache"))
}

// What a real process prints is bounded in memory, on both streams.
func TestFlood(t *testing.T) {
	n, _ := fakeNix(t, "#!/bin/sh\nhead -c 3000000 /dev/zero\nhead -c 3000000 /dev/zero >&2\n")
	out, stderr := &capped{max: 2 << 10}, &capped{max: 1 << 10}
	err := n.run(t.Context(), call{dir: "/", out: out, stderr: stderr})
	if err == nil || !strings.HasSuffix(err.Error(), "prints more than 2 KiB") {
		t.Errorf("%v", err)
	}
	if out.buf.Len() != out.max || stderr.buf.Len() != stderr.max || !out.over || !stderr.over {
		t.Errorf("%d and %d bytes", out.buf.Len(), stderr.buf.Len())
	}
}

// fakeSource is a source for a nix that does not look at it.
func fakeSource() (Source, Options) {
	s := Source{Kind: KindFlake, Files: []File{{"flake.nix", "100644", "id"}}}
	return s, Options{Export: func(context.Context, string) error { return nil }}
}

const answersVersion = "#!/bin/sh\ncase $* in --version) echo 'nix (Nix) 9.9.9'; exit;; esac\n"

// A time limit is told in one line, as it was set and with what helps.
func TestTimeLimit(t *testing.T) {
	n, c := fakeNix(t, answersVersion+"trap 'sleep 0.3; exit 1' TERM\necho \"building 'x'...\" >&2\nsleep 30 & wait\n")
	s, o := fakeSource()
	o.Timeout = 500 * time.Millisecond
	_, err := c.Shell(t.Context(), n, s, o)
	want := "cannot make the dev shell of flake.nix: Nix did not end in 500ms, it was building x; set a longer timeout below [shell] in config.toml (all that Nix said: "
	if err == nil || !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	n, _ = fakeNix(t, "#!/bin/sh\nsleep 30\n")
	_, err = n.versionIn(t.Context(), 300*time.Millisecond)
	if err == nil || err.Error() != "cannot use "+n.path+": it did not answer in 300ms; mend it, or use --shell host" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err = n.versionIn(ctx, 10*time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's own limit: %v", err)
	}
}

// Two errors make one line, and both can be asked for.
func TestAlso(t *testing.T) {
	err := also(&Error{Message: "x", cause: context.DeadlineExceeded}, also(nil, os.ErrPermission))
	if err.Error() != "x; also: permission denied" || !errors.Is(err, os.ErrPermission) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if also(nil, nil) != nil || also(os.ErrExist, nil) != os.ErrExist {
		t.Error("an error of nothing")
	}
}

// However a nix fails, the words are one line that names the program once.
func TestBrokenNix(t *testing.T) {
	s, o := fakeSource()
	for name, tt := range map[string]struct {
		script, want string
		log          string // what the log must have that the error names
	}{
		"killed":               {answersVersion + "echo half >&2; kill -9 $$", "cannot make the dev shell of flake.nix: nix was killed (signal 9; is there enough memory?)", "half\n"},
		"crashed":              {answersVersion + "echo 'error: not this' >&2; kill -11 $$", "cannot make the dev shell of flake.nix: nix was killed (signal 11: segmentation fault)", "not this"},
		"only status":          {answersVersion + "exit 7", "cannot make the dev shell of flake.nix: nix ended with status 7", ""},
		"own words":            {answersVersion + "echo warning; echo one >&2; echo 'nix: x: not \033[1mfound' >&2; exit 127", "cannot make the dev shell of flake.nix: nix ended with status 127: nix: x: not found", `\x1b[1m`},
		"empty":                {answersVersion, "cannot use the dev shell of flake.nix: nix print-dev-env printed nothing", ""},
		"empty, words":         {answersVersion + "echo a warning >&2", "cannot use the dev shell of flake.nix: nix print-dev-env printed nothing", "a warning"},
		"half":                 {answersVersion + "echo '{\"variables\": {\"a'", "cannot use the dev shell of flake.nix: what nix print-dev-env printed is no environment, or only a part of one", `{"variables": {"a`},
		"no profile":           {answersVersion + "echo '{\"variables\": {}}'", "cannot use the dev shell of flake.nix: nix made no profile", ""},
		"version, killed":      {"#!/bin/sh\nkill -9 $$", "cannot use NIX: it was killed (signal 9; is there enough memory?); mend it, or use --shell host", ""},
		"version, 127":         {"#!/bin/sh\necho 'nix: error while loading shared libraries: libx.so' >&2; exit 127", "cannot use NIX: it ended with status 127: nix: error while loading shared libraries: libx.so; mend it, or use --shell host", ""},
		"version, garbage":     {"#!/bin/sh\nhead -c 4000 /bin/sh", "cannot use NIX: it says ", ""},
		"version, flood":       {"#!/bin/sh\nhead -c 100000 /dev/zero", "cannot use NIX: it prints more than 4 KiB; mend it", ""},
		"version, interpreter": {"#!/no/such/interpreter\n", "cannot use NIX: it does not start: its interpreter or loader does not exist; mend it, or use --shell host", ""},
		"version, format":      {"\x00\x01\x02", "cannot use NIX: it does not start: exec format error; mend it, or use --shell host", ""},
	} {
		n, c := fakeNix(t, tt.script)
		_, err := c.Shell(t.Context(), n, s, o)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		text, want := err.Error(), strings.ReplaceAll(tt.want, "NIX", n.path)
		if !strings.HasPrefix(text, want) || len(text) > 400 || visible(text) != text || strings.Count(text, n.path) > 1 {
			t.Errorf("%s: %s\nwant %s", name, text, want)
		}
		var e *Error
		if tt.log == "" {
			if errors.As(err, &e) && e.Log != "" {
				t.Errorf("%s names the log %s", name, e.Log)
			}
			continue
		}
		if !errors.As(err, &e) {
			t.Errorf("%s: %T", name, err)
			continue
		}
		if data, err := os.ReadFile(e.Log); err != nil || !strings.Contains(string(data), tt.log) {
			t.Errorf("%s: the log has %q, %v", name, data, err)
		}
	}
}

// Names that hold a newline, or worse, leave a message in one line.
func TestOneLine(t *testing.T) {
	const odd = "a\nb\x1b[31m\u202e"
	s, o := fakeSource()
	s.Dir = odd
	var told []string
	o.Progress = func(text string) { told = append(told, text) }
	for name, script := range map[string]string{
		"nix fails":        answersVersion + "echo said >&2; exit 3",
		"nix is killed":    answersVersion + "echo said >&2; kill -9 $$",
		"nothing":          answersVersion + "echo said >&2",
		"missing":          answersVersion + "echo \"error: path '$PWD/../tree/x' does not exist\" >&2; exit 1",
		"nix hangs":        answersVersion + "echo said >&2; sleep 30",
		"no version":       "#!/bin/sh\nprintf 'a\\033[1m\\n\\nb' >&2; exit 3",
		"no interpreter":   "#!/a\nb",
		"cannot be opened": "#!/bin/sh\nprintf 'nix (Nix) \\033[1m'",
	} {
		n, c := fakeNix(t, script)
		bin := filepath.Join(filepath.Dir(c.dir), odd)
		if err := os.Rename(filepath.Dir(n.path), bin); err != nil {
			t.Fatal(err)
		}
		n.path = filepath.Join(bin, "nix")
		c = OpenCache(filepath.Join(filepath.Dir(c.dir), odd+"cache"))
		o.Timeout = 300 * time.Millisecond
		_, err := c.Shell(t.Context(), n, s, o)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if text := err.Error(); visible(text) != text {
			t.Errorf("%s: %q", name, text)
		}
		var e *Error
		if errors.As(err, &e) && !strings.HasSuffix(err.Error(), " (all that Nix said: "+strconv.Quote(e.Log)+")") {
			t.Errorf("%s: %s", name, err)
		}
	}
	for _, text := range told {
		if visible(text) != text {
			t.Errorf("progress: %q", text)
		}
	}
	if len(told) == 0 {
		t.Error("no progress")
	}
}
