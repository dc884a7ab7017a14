package devshell

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// samples are the folders of recorded output, one for each version of Nix (see
// testdata/record).
func samples(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("testdata/samples/*")
	if err != nil || len(dirs) < 3 {
		t.Fatalf("samples: %q, %v", dirs, err)
	}
	return dirs
}

// What each version says of a mistake becomes one line that names it.
func TestExplainSamples(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind string
		attr string
		want []string // each of these
	}{
		{"syntax", KindFlake, "", []string{"syntax error, unexpected ';' at flake.nix:34:22"}},
		{"undefined", KindFlake, "", []string{"undefined variable 'nothing' at flake.nix:34:22"}},
		{"throw", KindFlake, "", []string{"two lines"}},
		{"attribute", KindFlake, "nope", []string{`it has no dev shell or package "nope" for x86_64-linux; nix flake show tells what there is`}},
		{"none", KindFlake, "", []string{"it has no dev shell for x86_64-linux (devShells.x86_64-linux.default or packages.x86_64-linux.default)"}},
		{"builder", KindFlake, "", []string{"tools does not build: its builder failed with exit code 3: line 3 / line 4 / line 5"}},
		{"derivation", KindFlake, "", []string{"import from derivation", "rcc allow --import-from-derivation"}},
		{"network", KindFlake, "", []string{"Nix cannot download https://example.invalid/x: Could", "; is there a network?"}},
		{"unreachable", KindFlake, "", []string{"Nix cannot download https://example.invalid/x.tar.gz: Could", "; is there a network?"}},
		{"unlocked", KindFlake, "", []string{"its flake.lock does not have all inputs of flake.nix: run nix flake lock"}},
		{"absent", KindFlake, "", []string{"flake.nix"}},
		{"restricted", KindFile, "", []string{"access to absolute path '/etc", "is forbidden"}},
		{"selection", KindFile, "no.such", []string{`it has no attribute "no.such"`}},
		{"file", KindFile, "", []string{"none.nix"}},
	} {
		for _, dir := range samples(t) {
			text, err := os.ReadFile(filepath.Join(dir, tt.name+".err"))
			if err != nil {
				t.Fatal(err)
			}
			got := explain(strings.ReplaceAll(string(text), "x86_64-linux", system()), "/tree", Source{Kind: tt.kind, Attr: tt.attr})
			for _, want := range tt.want {
				if !strings.Contains(got, strings.ReplaceAll(want, "x86_64-linux", system())) {
					t.Errorf("%s of %s: %q, want %q", tt.name, dir, got, want)
				}
			}
			if strings.ContainsAny(got, "\n\x1b") || strings.Contains(got, "/store/") || len(got) > 200 || got == "" {
				t.Errorf("%s of %s is no short line: %q", tt.name, dir, got)
			}
		}
	}
}

// Nothing of a message is obeyed by a terminal, and the error that counts is found.
func TestExplain(t *testing.T) {
	for text, want := range map[string]string{
		"error: \x1b[31;1mred\x1b[0m \x1b]0;title\x07 a\u202eb \x9b1m\xff\r\n":                                                                                         "red a b 1m",
		"warning: error: unable to download 'https://example.org/nix-cache-info': Couldn't resolve host name (6); retrying in 255 ms\nerror: undefined variable 'x'\n": "undefined variable 'x'",
		"error: cannot connect to socket at '/nix/var/nix/daemon-socket/socket': Connection refused":                                                                   "the Nix daemon does not answer: cannot connect to socket at '/nix/var/nix/daemon-socket/socket': Connection refused",
		"error: creating directory '/nix/store/.links': Permission denied":                                                                                             "the Nix store is not writable for you: creating directory '/nix/store/.links': Permission denied",
		"error: opening lock file '/nix/var/nix/db/big-lock': Read-only file system":                                                                                   "the Nix store is not writable for you: opening lock file '/nix/var/nix/db/big-lock': Read-only file system",
		"error: writing to file: No space left on device":                                                                                                              "the disk of the store or of the temporary folder is full: writing to file: No space left on device",
		"fatal: unable to access 'https://example.org/x/': Could not resolve host: example.org\nerror: program 'git' failed with exit code 128":                        "Nix cannot download https://example.org/x/: Could not resolve host: example.org; is there a network?",
		"error: a\n\n       at /nix/store/" + emptyName + "-source/sub/x.nix:1:2:\n":                                                                                   "a at sub/x.nix:1:2",
		"error: b\n       at «path:/tree»/x.nix:1:2:\n":                                                                                                                "b at x.nix:1:2",
		"error: some errors were encountered during the evaluation":                                                                                                    "some errors were encountered during the evaluation",
		"error: first\nerror: some errors were encountered during the evaluation":                                                                                      "first",
		"no error at all": "",
		"":                "",
	} {
		if got := explain(text, "/tree", Source{Kind: KindFlake}); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
