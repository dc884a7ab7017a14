package devshell

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNamed(t *testing.T) {
	for _, tt := range []struct {
		file, text string
		want       []string
	}{
		{"flake.nix", `import ./a.nix`, []string{"a.nix"}},
		{"nix/x/shell.nix", `[ ./a ../b.json ../../c/d ../.. ./. ../. ./../x/../y ]`, []string{"c/d", "nix/b.json", "nix/x/a", "nix/y"}},
		{"flake.nix", `[ ../outside ../../etc/passwd ./sub/../../outside /etc/passwd ~/secret ./ok ]`, []string{"ok"}},
		{"flake.nix", `{ src = ./.; b = ./. + "/x"; c = a/b; d = a / b; e = x.y/z; }`, []string{"a/b", "x", "x.y/z"}},
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
		// As Nix's own lexer has it (TestNamedAsNix).
		{"flake.nix", `(_:./a) (a_b:./b) (a-b.c+d:./uri) 1:./c`, []string{"a", "b", "c"}},
		{"flake.nix", "# comment ./no\r./a\n#\r\n./b", []string{"a", "b"}},
		{"flake.nix", `{ a'' = ./a; self'' = ./b; x' = ''./no''; }`, []string{"a", "b"}},
		{"flake.nix", `x/*"*/ (./a)/*"*/ y/*./no*/ ./c/`, []string{"a", "c"}},
		{"flake.nix", `./a/./b ./c//d`, []string{"a/b", "c"}},
		// Plain strings that go on from a path or from the flake.
		{"flake.nix", `self + "/a" + ( self+''/b'' ) inputs.self.outPath + "/c" (self) + "/d"`, []string{"a", "b", "c", "d"}},
		{"flake.nix", `./. + "/a" ../. + "/no" ./lib + "/b.nix" (./. + "/c" + "/d") + "/e"`, []string{"a", "c/d/e", "lib/b.nix"}},
		{"flake.nix", `"${self}/a b/c" "${self}" "x${./.}/d" "${./lib}/e" "${toString ./.}/f"`, []string{"a", "a b/c", "d", "f", "lib", "lib/e"}},
		{"flake.nix", "''\n  source ${self}/scripts/env.sh\n x=${./.}/y; ${self}/a/${n}/b ${self}/${n} ${self}x/no''", []string{"a", "scripts/env.sh", "y"}},
		{"flake.nix", `./. + "/a/${n}.nix" ./. + "/${n}" ./x + "y" ./z + "${n}/no"`, []string{"a", "x", "z"}},
		{"flake.nix", `self.packages.x + "/no" "${self.rev}/no" "${x}/no" selfish + "/no" x + "/no" self ++ "/no" self "/no"`, nil},
		{"flake.nix", `"${self}/../out" self + "/../../out"`, nil},
		{"sub/nix/x.nix", `"${self}/a" ./. + "/b" ../. + "/c"`, []string{"a", "sub/a", "sub/c", "sub/nix/a", "sub/nix/b"}},
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

// What Nix itself reads is named, however it is written.
func TestNamedAsNix(t *testing.T) {
	w := newWorld(t)
	w.write("code.txt", "7")
	w.write("lib/code.txt", "7")
	for _, text := range []string{
		`import ./code.txt`,
		`((_:./code.txt) 1 == ./code.txt) && import ./code.txt == 7`,
		"# comment\rimport ./code.txt",
		`let a'' = import ./code.txt; b'' = 1; in a''`,
		`let x = a: b: b; in x/*"*/ 1 (import ./code.txt)/*"*/`,
		`import (./. + "/code.txt")`,
		`import (./. + "/lib" + "/code.txt")`,
		`import (./lib + "/code.txt")`,
		`let self = ./.; in import "${self}/code.txt"`,
		`let self = { outPath = ./.; }; in import (self + "/lib/code.txt")`,
		`let self = { outPath = ./.; }; in import (self.outPath+"/code.txt")`,
		`import "${./.}/code.txt"`,
		`import ''${./lib}/code.txt''`,
		`import (toString ./. + "/code.txt")`,
		`let n = "code"; in import ./lib/${n}.txt`,
	} {
		w.write("x.nix", text)
		if got := strings.TrimSpace(w.nixRun("eval", "--impure", "--expr", "import "+filepath.Join(w.tree, "x.nix"))); got != "7" && got != "true" {
			t.Errorf("%q is %s: no test", text, got)
		}
		named := Named("x.nix", []byte(text))
		if !slices.ContainsFunc(named, func(p string) bool { return p == "code.txt" || p == "lib/code.txt" || p == "lib" }) {
			t.Errorf("%q names %q", text, named)
		}
	}
}

// A file that is all of one thing takes no time that grows with its square.
func TestNamedIsQuick(t *testing.T) {
	for _, unit := range []string{`+ "/aaaaaaaa"`, `"${self}/`, `''${`, "{", "<a/", "a/", "a:", "self + ", "./a/${", "1", "((", "/*", "''", `"/a${self}" + `, ".", "1.", "a+", "-", "<a.", "~/", "a'.", "_-."} {
		for _, head := range []string{"", "./. ", `"`} {
			text := []byte(head + strings.Repeat(unit, (1<<18)/len(unit)))
			start := time.Now()
			Named("x/flake.nix", text)
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("%s of %q: %s", unit, head, took)
			}
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
