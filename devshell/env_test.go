package devshell

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const emptyName = "00000000000000000000000000000000"

// What a hostile or strange environment loses, and what it keeps.
func TestParseEnvironment(t *testing.T) {
	env, err := parseEnvironment([]byte(`{
		"variables": {
			"good": {"type": "exported", "value": "v"},
			"plain": {"type": "var", "value": ""},
			"list": {"type": "array", "value": ["a", ""]},
			"map": {"type": "associative", "value": {"b": "2", "a": "1", "": "no such key in bash"}},
			"int": {"type": "unknown"},
			"newer": {"type": "nameref", "value": "good"},
			"no value": {"type": "exported", "value": "x"},
			"a;touch x": {"type": "exported", "value": "x"},
			"1a": {"type": "exported", "value": "x"},
			"": {"type": "exported", "value": "x"},
			"é": {"type": "exported", "value": "x"},
			"missing": {"type": "exported"},
			"number": {"type": "exported", "value": 1},
			"nul": {"type": "exported", "value": "a\u0000b"},
			"nullist": {"type": "array", "value": ["a\u0000b"]},
			"badlist": {"type": "array", "value": "x"},
			"badmap": {"type": "associative", "value": ["x"]},
			"HOME": {"type": "exported", "value": "/homeless-shelter"},
			"TMPDIR": {"type": "exported", "value": "/build"},
			"BASH_ENV": {"type": "exported", "value": "/evil"},
			"COMP_WORDBREAKS": {"type": "var", "value": "x"},
			"rcc_outputs": {"type": "exported", "value": "/evil"},
			"RCC_TASK": {"type": "exported", "value": "x"},
			"RCC_STATE": {"type": "array", "value": ["x"]},
			"DIRENV_DIFF": {"type": "exported", "value": "x"},
			"DIRENV_WATCHES": {"type": "associative", "value": {"a": "x"}},
			"NIX_REMOTE": {"type": "exported", "value": "unix:///evil"},
			"SHLVL": {"type": "exported", "value": "9"},
			"PWD": {"type": "exported", "value": "/evil"},
			"OLDPWD": {"type": "exported", "value": "/evil"},
			"_": {"type": "exported", "value": "/evil"},
			"EUID": {"type": "array", "value": ["0"]},
			"SHELL": {"type": "var", "value": "/bin/bash"}
		},
		"bashFunctions": {"f": " true\n", "a-b.c": " true\n", "if": " x", "f; touch x": " x", "-x": " x", "$(x)": " x", "n": 1, "nul": "\u0000"},
		"structuredAttrs": {".attrs.sh": 1, ".attrs.json": "{}"},
		"meta": {"min-bash-version": 5}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []variable{{"good", "v", true}, {"plain", "", false}}
	if !reflect.DeepEqual(env.strings, want) {
		t.Errorf("%+v", env.strings)
	}
	if !reflect.DeepEqual(env.arrays, []array{{"list", []string{"a", ""}}}) || !reflect.DeepEqual(env.maps, []array{{"map", []string{"a", "1", "b", "2"}}}) {
		t.Errorf("%q %q", env.arrays, env.maps)
	}
	if !reflect.DeepEqual(env.functions, []variable{{"a-b.c", " true\n", false}, {"f", " true\n", false}}) {
		t.Errorf("%+v", env.functions)
	}
	if env.structured {
		t.Error("structured attributes of which one is no text")
	}
	for _, text := range []string{"", "{", "[]", "null", "{}", `{"variables": null}`, `{"variables": []}`, `{"variables": {"a": 1}}`, `{"bashFunctions": {}}`, strings.Repeat("[", 100000)} {
		if env, err := parseEnvironment([]byte(text)); err == nil {
			t.Errorf("%.20q is %+v", text, env)
		}
	}
	// Older versions have no functions in it at all.
	if _, err := parseEnvironment([]byte(`{"variables": {}}`)); err != nil {
		t.Error(err)
	}
}

// What nix develop keeps is kept: the shell that is entered may be told anything.
func TestKeptVariables(t *testing.T) {
	for _, name := range []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "ENV", "PROMPT_COMMAND", "PS1", "PS4", "IFS", "NIX_CFLAGS_COMPILE", "NIX_PATH", "DIRENV", "RCC", "Rcc_x", "CDPATH"} {
		if dropped(name) {
			t.Errorf("%s is dropped", name)
		}
	}
}

func TestOutputs(t *testing.T) {
	const a, b = "/nix/store/" + emptyName + "-x", "/nix/store/" + emptyName + "-x-dev"
	env, err := parseEnvironment([]byte(`{"variables": {
		"outputs": {"type": "exported", "value": "out dev none evil ../x"},
		"out": {"type": "exported", "value": "` + a + `"}, "dev": {"type": "exported", "value": "` + b + `"},
		"evil": {"type": "exported", "value": "/"}, "both": {"type": "exported", "value": "` + b + ":" + a + `"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	m := &making{source: Source{Kind: KindFlake}}
	s := &Shell{places: m.places(env), exported: env.strings}
	got := strings.Join(s.Environ("/o"), "\n")
	if want := "both=/o/dev:/o/out\ndev=/o/dev\nevil=/\nout=/o/out\noutputs=out dev none evil ../x"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestStoreNames(t *testing.T) {
	for name, want := range map[string]bool{
		emptyName + "-x": true, emptyName + "-x.y_z+1?=-2": true, emptyName + "-": false, emptyName: false, "": false,
		emptyName + "-a/b": false, emptyName + "-a b": false, "../" + emptyName + "-x": false, emptyName + "-" + strings.Repeat("x", 212): false,
	} {
		if got := isStoreName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// The closure is what Nix prints, if that is store paths of one store and has the root.
func TestParseClosure(t *testing.T) {
	const root = "/nix/store/" + emptyName + "-x"
	got, err := parseClosure(root+"-b\n"+root+"\n"+root+"-a\n"+root+"\n", root)
	if err != nil || !reflect.DeepEqual(got, []string{root, root + "-a", root + "-b"}) {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"", root + "-a\n", root + "\n\n", root + "\n/etc\n", root + "\n/other/store/" + emptyName + "-x\n", root + "/../../etc\n" + root} {
		if got, err := parseClosure(text, root); err == nil {
			t.Errorf("%q gives %q", text, got)
		}
	}
}

// Look does not leave the closure, not by a link either.
func TestLookStaysInClosure(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in, out := filepath.Join(dir, emptyName+"-in"), filepath.Join(dir, emptyName+"-out")
	for _, d := range []string{in + "/bin", out + "/bin"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{in + "/bin/good", out + "/bin/bad"} {
		if err := os.WriteFile(file, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(in+"/bin/text", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": "good", "away": out + "/bin/bad", "host": "/bin/sh"} {
		if err := os.Symlink(to, in+"/bin/"+name); err != nil {
			t.Fatal(err)
		}
	}
	s := &Shell{Paths: []string{in}, exported: []variable{{"PATH", "/bin::relative:" + out + "/bin:" + in + "/bin/../bin:" + in + "/bin", true}}}
	for name, want := range map[string]string{
		"good": in + "/bin/good", "link": in + "/bin/link", "bad": "", "away": "", "host": "", "sh": "", "text": "", "": "", ".": "", "..": "", "bin/good": "",
	} {
		if got := s.Look(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// FuzzEnvironment: whatever a flake's builder writes, nothing panics, and what
// comes out is quoted identifiers.
func FuzzEnvironment(f *testing.F) {
	files, _ := filepath.Glob("testdata/samples/*/*.json")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		env, err := parseEnvironment(data)
		if err != nil {
			return
		}
		m := &making{source: Source{Kind: KindFile}, dir: "/e", tree: "/t"}
		places := m.places(env)
		rc := rcText(env, places)
		if strings.IndexByte(string(rc), 0) >= 0 {
			t.Error("a NUL in the text")
		}
		s := &Shell{exported: env.strings, places: places}
		for _, kv := range s.Environ("/o") {
			name, _, ok := strings.Cut(kv, "=")
			if !ok || !isIdentifier(name) || dropped(name) || strings.IndexByte(kv, 0) >= 0 {
				t.Errorf("%q", kv)
			}
		}
	})
}

// FuzzEntry: a damaged shell.json never panics.
func FuzzEntry(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, rcName), nil, 0o600); err != nil {
		f.Fatal(err)
	}
	s := &Shell{Key: "k", RC: filepath.Join(dir, rcName), Paths: []string{"/nix/store/" + emptyName + "-x"}, exported: []variable{{"a", "b", true}}}
	if err := s.writeEntry(dir); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, infoName))
	if err != nil {
		f.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, infoName)); err != nil {
		f.Fatal(err)
	}
	if _, err := readEntry(dir, "k"); err == nil {
		f.Fatal("an entry without shell.json")
	}
	if err := s.writeEntry(dir); err != nil {
		f.Fatal(err)
	}
	if got, err := readEntry(dir, "k"); err != nil || got.Paths[0] != s.Paths[0] || got.Environ("")[0] != "a=b" {
		f.Fatalf("%+v, %v", got, err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, infoName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := readEntry(dir, "k")
		if err != nil {
			return
		}
		_ = s.Environ("/o")
		for _, p := range s.Paths {
			if !filepath.IsAbs(p) || filepath.Clean(p) != p {
				t.Errorf("%q", p)
			}
		}
	})
}
