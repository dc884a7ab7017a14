package devshell

import (
	"path"
	"slices"
	"strings"
	"testing"
)

func TestNamed(t *testing.T) {
	for _, tt := range []struct {
		file, text string
		want       []string
	}{
		{"flake.nix", `import ./a.nix`, []string{"a.nix"}},
		{"nix/x/shell.nix", `[ ./a ../b.json ../../c/d ../.. ./. ../. ./../x/../y ]`, []string{"c/d", "nix/b.json", "nix/x/a", "nix/y"}},
		{"flake.nix", `[ ../outside ../../etc/passwd ./sub/../../outside /etc/passwd ~/secret ./ok ]`, []string{"ok"}},
		{"flake.nix", `{ src = ./.; b = ./. + "/x"; c = a/b; d = a / b; e = x.y/z; }`, []string{"a/b", "x.y/z"}},
		{"flake.nix", `a//b // { c = 1; }`, nil},
		{"flake.nix", "# ./comment\nx /* ./other\n * ./more */ ./real", []string{"real"}},
		{"flake.nix", `"./string a/b" + ''./indented '' + ./real`, []string{"real"}},
		{"flake.nix", `"a ${./in/string} \${./no} $${./no2} \" ./no3" ./after`, []string{"after", "in/string"}},
		{"flake.nix", `''a ${./in} ''${./no} ''' ./no2 ''\n $${./no3} '' ./after`, []string{"after", "in"}},
		{"flake.nix", `"${let x = { a = "${./deep}"; }; in x.a}" ./z`, []string{"deep", "z"}},
		{"flake.nix", `./a/${x}/b ./c${x} ./d/e-${x}.nix`, []string{"a", "d"}},
		{"flake.nix", `<nixpkgs> <nixpkgs/nixos> a<b/c ./x`, []string{"b/c", "x"}},
		{"flake.nix", `{ url = https://example.org/a/b.tar.gz; inherit (x) y; f = x: ./z; g = a:./not-uri; }`, []string{"z"}},
		{"flake.nix", `{lib,...}:./q`, []string{"q"}},
		{"a b/flake.nix", `./x`, []string{"a b/x"}},
		// What does not end as a nix file: everything that looks like one.
		{"flake.nix", `"never closed ./a  # ../out ./b/c d/e`, []string{"a", "b/c"}},
		{"flake.nix", `} ./a`, []string{"a"}},
		{"flake.nix", "\x00\xff ./a", []string{"a"}},
	} {
		got := Named(tt.file, []byte(tt.text))
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s of %s: %q, want %q", tt.text, tt.file, got, tt.want)
		}
	}
}

// FuzzNamed: whatever a file holds, what is named lies in the tree.
func FuzzNamed(f *testing.F) {
	f.Add("sub/flake.nix", `{ a = ./b; c = "${../d}"; e = ''${f}''; }`)
	f.Fuzz(func(t *testing.T, file, text string) {
		for _, name := range Named(file, []byte(text)) {
			if name == "" || path.IsAbs(name) || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../") {
				t.Errorf("%q", name)
			}
		}
	})
}
