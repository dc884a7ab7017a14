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
