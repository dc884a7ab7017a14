package hooks

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkDirenv is direnv export bash from nothing, with an .envrc that is
// empty (what direnv takes by itself), one that watches a file as plain use flake
// does, and use rcc with a stand-in for rcc that prints what was printed before.
func BenchmarkDirenv(b *testing.B) {
	direnv := need(b, "direnv")
	dir := b.TempDir()
	environ := []string{"HOME=" + dir, "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	program, text := filepath.Join(dir, "rcc"), filepath.Join(dir, "text")
	if _, _, err := InstallDirenv(filepath.Join(dir, ".config", "direnv"), program); err != nil {
		b.Fatal(err)
	}
	// With direnv's own list, which is what rcc is given.
	var vars []string
	for i := range 60 {
		vars = append(vars, "VARIABLE_"+strings.Repeat("X", i)+"=/nix/store/"+strings.Repeat("v", 40))
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec cat "+text+"\n"), 0o755); err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct{ name, envrc string }{
		{"empty", ""},
		{"watch_file", "watch_file flake.nix\n"},
		{"flake", "watch_file flake.nix\nwatch_file flake.lock\n"},
		{"rcc", "use rcc\n"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			folder := filepath.Join(dir, "in-"+bench.name)
			os.Mkdir(folder, 0o700)
			if err := os.WriteFile(filepath.Join(folder, ".envrc"), []byte(bench.envrc), 0o600); err != nil {
				b.Fatal(err)
			}
			run := func(args ...string) string {
				cmd := exec.Command(direnv, args...)
				cmd.Dir, cmd.Env = folder, environ
				out, err := cmd.Output()
				if err != nil {
					b.Fatalf("%q: %v", args, err)
				}
				return string(out)
			}
			run("allow")
			os.WriteFile(text, nil, 0o600)
			_, watches, _ := strings.Cut(run("export", "bash"), direnvWatches+"=$'")
			watches, _, _ = strings.Cut(watches, "'")
			files := []string{filepath.Join(folder, "flake.nix"), filepath.Join(folder, "flake.lock"), filepath.Join(folder, "shell.nix")}
			if err := os.WriteFile(text, []byte(Direnv{Environ: []string{direnvWatches + "=" + watches}, Watch: files, Vars: vars}.Text()), 0o600); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				run("export", "bash")
			}
		})
	}
}

// BenchmarkPrompt is what the hook costs at a prompt where nothing has changed:
// no process, in a folder with ten watched files.
func BenchmarkPrompt(b *testing.B) {
	for _, shell := range allShells {
		b.Run(shell, func(b *testing.B) {
			need(b, shell)
			dir := b.TempDir()
			environ := []string{"HOME=" + dir, "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
			script, err := Script(shell, "/bin/false")
			if err != nil {
				b.Fatal(err)
			}
			if shell == "fish" {
				script = strings.ReplaceAll(script, "status is-interactive; or", "")
				script = strings.ReplaceAll(script, "functions -e _rcc_hook\n", "\n")
			}
			files := []string{filepath.Join(dir, ".envrc")}
			for _, name := range strings.Fields("a b c d e f g h flake.nix flake.lock") {
				files = append(files, filepath.Join(dir, name))
			}
			for _, file := range files {
				os.WriteFile(file, nil, 0o600)
			}
			deep := filepath.Join(dir, "x", "y", "z")
			os.MkdirAll(deep, 0o700)
			stamp := filepath.Join(dir, "x", "stamp")
			os.WriteFile(stamp, nil, 0o600)
			local := "_rcc_at=" + files[0] + "; _rcc_stamp=" + stamp + "; _rcc_watch=(" + strings.Join(files, " ") + ")"
			loop := "for i in {1..1000}; do _rcc_hook; done"
			if shell == "fish" {
				local = "set -g _rcc_at " + files[0] + "; set -g _rcc_stamp " + stamp + "; set -g _rcc_watch " + strings.Join(files, " ")
				loop = "for i in (seq 1000); _rcc_hook; end"
			}
			sh := startLive(b, shell, environ)
			file := filepath.Join(dir, "x", "script")
			os.WriteFile(file, []byte(script+"\ncd "+deep+"\n"+local+"\n"), 0o600)
			in := func(line string) {
				sh.in.Write([]byte(line + "\n"))
				sh.print(b, "done")
			}
			in(". " + file)
			for b.Loop() {
				in(loop)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/prompt")
		})
	}
}
