package hooks

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestInstallDirenv(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	path, changed, err := InstallDirenv(config, "/usr/bin/rcc")
	if err != nil || !changed || path != filepath.Join(config, "lib", "rcc.sh") {
		t.Fatal(path, changed, err)
	}
	if _, changed, err := InstallDirenv(config, "/usr/bin/rcc"); err != nil || changed {
		t.Error("a second time:", changed, err)
	}
	if _, changed, err := InstallDirenv(config, "/opt/it's/rcc"); err != nil || !changed {
		t.Error("another rcc:", changed, err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != DirenvLib("/opt/it's/rcc") {
		t.Errorf("%s, %v", text, err)
	}
	for name, harm := range map[string]func() error{
		"another's": func() error { return os.WriteFile(path, []byte("use_rcc() { :; }\n"), 0o644) },
		"folder":    func() error { os.Remove(path); return os.Mkdir(path, 0o755) },
		"link": func() error {
			os.Remove(path)
			elsewhere := filepath.Join(dir, "elsewhere")
			os.WriteFile(elsewhere, []byte(DirenvLib("/other/rcc")), 0o644)
			return os.Symlink(elsewhere, path)
		},
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		if _, changed, err := InstallDirenv(config, "/usr/bin/rcc"); err == nil || changed || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", name, changed, err)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: it was replaced", name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(config, "lib", ".rcc-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, _, err := InstallDirenv("config", "/usr/bin/rcc"); err == nil {
		t.Error("a relative folder is taken")
	}
	for _, tt := range []struct{ env, want string }{
		{"DIRENV_CONFIG=/d XDG_CONFIG_HOME=/x HOME=/h", "/d"},
		{"XDG_CONFIG_HOME=/x HOME=/h", "/x/direnv"},
		{"HOME=/h", "/h/.config/direnv"},
		{"", ""},
	} {
		if got, err := DirenvConfigDir(strings.Fields(tt.env)); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %q, %v", tt.env, got, err)
		}
	}
}

// direnvHome is a scratch home with the lib installed and direnv's hook in the shell.
func direnvHome(t *testing.T, shell string) (*home, *terminal) {
	t.Helper()
	need(t, "direnv")
	h := newHome(t)
	if _, _, err := InstallDirenv(h.at("config", "direnv"), h.path); err != nil {
		t.Fatal(err)
	}
	line := `eval "$(direnv hook ` + shell + `)"` + "\n"
	if shell == "fish" {
		line = "direnv hook fish | source\n"
	}
	return h, h.shell(shell, line) // both hooks are there: ours keeps out of the way
}

// direnv for real: blocked before allow, enters after, follows a change, keeps
// the last good one, leaves on cd.
func TestDirenv(t *testing.T) {
	forShells(t, func(t *testing.T, shell string) {
		need(t, "direnv")
		h, term := direnvHome(t, shell)
		h.write("p/.envrc", "use rcc .#ci\n")
		h.write("p/shell.env", "PATH=/dev/bin FOO=one XDG_DATA_DIRS=/dev/share HOME=/homeless TMPDIR=/build")
		h.age("p/shell.env", "p")
		term.want("cd p", `"$FOO"`, "")
		if n := strings.Count(term.text(0), "is blocked"); n != 1 {
			t.Fatalf("blocked is told %d times:\n%s", n, term.text(0))
		}
		n := h.starts()
		term.want("direnv allow", `"$FOO:$NAMED:$PATH:$XDG_DATA_DIRS:$HOME:$TMPDIR"`, "one:.#ci:/dev/bin:"+filepath.Dir(h.path)+":/usr/bin:/bin:/dev/share:"+h.dir+":")
		if got := h.starts(); got != n+1 {
			t.Errorf("rcc was started %d times", got-n)
		}
		term.want("true", `"$FOO"`, "one")
		if got := h.starts(); got != n+1 {
			t.Errorf("rcc was started %d times, once more for nothing", got-n)
		}
		h.write("p/shell.env", "FOO=two")
		term.want("true", `"$FOO"`, "two")
		h.age("p/shell.env")
		term.want("true", `"$FOO"`, "two")
		h.write("p/broken", "")
		term.want("true", `"$FOO"`, "two")
		if !strings.Contains(term.text(0), "rcc: cannot evaluate p") {
			t.Errorf("the failure is not told:\n%s", term.text(0))
		}
		h.write("p/shell.env", "FOO=three")
		os.Remove(h.at("p/broken"))
		term.want("true", `"$FOO"`, "three")
		term.want("cd ..", `"$FOO:$NAMED:$XDG_DATA_DIRS"`, "::")

		// Without a last good one: an error, and it follows when it is mended.
		h.write("q/.envrc", "use rcc\n")
		h.write("q/broken", "")
		h.age("q/broken", "q")
		if err := os.Remove(filepath.Join(h.state, "good")); err != nil {
			t.Fatal(err)
		}
		term.want("cd q; direnv allow", `"$FOO"`, "")
		if !strings.Contains(term.text(0), "rcc: cannot evaluate q") {
			t.Errorf("the failure is not told:\n%s", term.text(0))
		}
		h.write("q/shell.env", "FOO=mended")
		os.Remove(h.at("q/broken"))
		term.want("true", `"$FOO"`, "mended")
	})
}

// A shell with a shellHook: rc.bash is sourced, its outputs, options and traps
// do not spoil direnv's work.
func TestDirenvRC(t *testing.T) {
	h, term := direnvHome(t, "bash")
	h.write("p/.envrc", "use rcc\nexport LATER=$(false; echo yes) UNSET=$nothing\n")
	h.write("p/shell.env", "")
	h.write("p/rc", `export FOO="from $rcc_outputs" PATH=/dev/bin:$rcc_path XDG_DATA_DIRS=/d${rcc_data_dirs:+:$rcc_data_dirs}
set -euo pipefail
trap 'echo trapped' EXIT
echo to the terminal
`)
	term.want("cd p; direnv allow", `"$FOO:$LATER:$PATH:$XDG_DATA_DIRS:${rcc_path-}"`, "from "+h.at("p", "out puts")+":yes:/dev/bin:"+filepath.Dir(h.path)+":/usr/bin:/bin:/d:")
}

// The list of watched files is what direnv itself makes of them.
func TestAddWatches(t *testing.T) {
	direnv := need(t, "direnv")
	dir := t.TempDir()
	file, gone, link := filepath.Join(dir, "fi le"), filepath.Join(dir, "gone"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	os.Chtimes(file, old, old)
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	watch := func(value string, files ...string) string {
		cmd := exec.Command(direnv, append([]string{"watch", "bash"}, files...)...)
		if cmd.Env = []string{"HOME=" + dir, "PATH=/usr/bin:/bin"}; value != "" {
			cmd.Env = append(cmd.Env, direnvWatches+"="+value)
		}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		sh := startLive(t, "bash", cmd.Env)
		// direnv ends the line with a semicolon
		return sh.print(t, `"$(`+strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", " ")+` printf %s "$`+direnvWatches+`")"`)[0]
	}
	first := watch("", "/etc/passwd")
	ours, ok := addWatches(first, []string{file, gone, link, file, "/etc/passwd"}, time.Time{})
	if !ok {
		t.Fatalf("cannot read %q", first)
	}
	if theirs := watch(first, file, gone, link); unpack(t, ours) != unpack(t, theirs) {
		t.Errorf("%s, want %s", unpack(t, ours), unpack(t, theirs))
	}
	if ours, _ := addWatches(first, []string{file}, old.Add(-time.Second)); unpack(t, ours) == unpack(t, watch(first, file)) {
		t.Error("a file that changed while it was read is taken as read")
	}
	for _, bad := range []string{"", "x", "!!", first[:len(first)/2]} {
		if _, ok := addWatches(bad, []string{file}, time.Time{}); ok {
			t.Errorf("%q is read", bad)
		}
		text := Direnv{Environ: []string{direnvWatches + "=" + bad}, Watch: []string{file}}.Text()
		if text != "watch_file "+quotePosix(file)+"\n" {
			t.Errorf("%q", text)
		}
	}
}

func unpack(t *testing.T, value string) string {
	t.Helper()
	text, ok := unpackWatches(value)
	if !ok {
		t.Fatalf("cannot read %q", value)
	}
	return string(text)
}

func FuzzAddWatches(f *testing.F) {
	f.Add("eJyMzkFOxSAQANC7zLr50z-UMu3epYl742KAITTSohSrifHuHsCNB3jJe_6GJ-kZVsC-v2F-xXe86XG1AAM81ti3XWG9u8WacR6NGeDhazv7CWtvH_oz_OG57oq3UoMUPLM0xbg1PS6UUuon2qDe-zmmu5Ba9kQxGeeFKHDiKRCrEx8NT-Sssi46OkmOVQMvdqZ_rV5-AwAA__9liUKk", "/x")
	f.Fuzz(func(t *testing.T, value, file string) {
		out, ok := addWatches(value, []string{file}, time.Time{})
		if !ok {
			return
		}
		if again, ok := addWatches(out, []string{file}, time.Time{}); !ok || again != out {
			t.Errorf("%q, then %q, %v", out, again, ok)
		}
	})
}

// Inside a task a richer .envrc works with direnv, and enters nothing.
func TestInsideLib(t *testing.T) {
	direnv := need(t, "direnv")
	h := newHome(t)
	h.write("config/direnv/lib/rcc.sh", InsideLib())
	h.write("p/.envrc", "use flake\nuse rcc\nuse nix\nexport FOO=rich\n")
	for _, program := range []string{"nix", "nix-shell"} {
		h.write("bin/"+program, "#!/bin/sh\necho ran >>"+h.at("ran")+"\n")
		os.Chmod(h.at("bin", program), 0o755)
	}
	for _, args := range [][]string{{"allow", h.at("p")}, {"exec", h.at("p"), "sh", "-c", "echo $FOO"}} {
		cmd := exec.Command(direnv, args...)
		cmd.Env, cmd.Dir = h.environ, h.dir
		out, err := cmd.Output()
		if err != nil || args[0] == "exec" && string(out) != "rich\n" {
			t.Errorf("%q: %q, %v", args, out, err)
		}
	}
	if _, err := os.Stat(h.at("ran")); err == nil || h.starts() != 0 {
		t.Error("rcc or nix was started")
	}
}
