package worktree

import (
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

const someID = "0123456789abcdef0123456789abcdef01234567"

// tree builds a tree object from "mode name" lines.
func rawTree(lines ...string) []byte {
	id, _ := hex.DecodeString(someID)
	var b []byte
	for _, l := range lines {
		b = append(append(append(b, l...), 0), id...)
	}
	return b
}

func TestParseTree(t *testing.T) {
	good := [][]string{
		{},
		{"100644 a"},
		{"100664 a", "100755 b", "120000 c", "40000 d", "160000 e"},
		{"100644 a.b", "40000 a", "100644 a0"},
		{"100644 a b\n\xff"},
		{"100644 ..."},
		{"100644 .gitx"},
		{"100644 .gitmodules"},
		{"120000 .gitmodulesx"},
		{"100644 git~2"},
	}
	for _, lines := range good {
		if e, err := parseTree(rawTree(lines...), "sha1"); err != nil || len(e) != len(lines) {
			t.Errorf("%q: %v", lines, err)
		}
	}
	bad := map[string][]string{
		"mode":             {"100777 a"},
		"mode \"040000\"":  {"040000 a"},
		"mode \"\"":        {" a"},
		"cannot be read":   {"100644000 a"},
		"empty name":       {"100644 "},
		"way out":          {"40000 .."},
		"slash":            {"100644 a/b"},
		"two entries":      {"100644 a", "100644 a.b", "40000 a"},
		"wrong order":      {"100644 b", "100644 a"},
		"wrong order: a.b": {"40000 a", "100644 a.b"},
		".gitmodules":      {"120000 .gitmodules"},
		"some file system": {"40000 .GIT"},
	}
	for want, lines := range bad {
		if _, err := parseTree(rawTree(lines...), "sha1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", lines, err, want)
		}
	}
	whole := rawTree("100644 a", "40000 b")
	for i := 1; i < len(whole); i++ {
		if i == len(rawTree("100644 a")) {
			continue // one entry
		}
		if _, err := parseTree(whole[:i], "sha1"); err == nil {
			t.Errorf("cut at %d: no error", i)
		}
	}
	zero := append([]byte("100644 a\x00"), make([]byte, 20)...)
	if _, err := parseTree(zero, "sha1"); err == nil {
		t.Error("the zero id was taken")
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{
		".git", ".GIT", ".Git", ".git.", ".git ", ".git. . ", "git~1", "GIT~1", "git~1.", ".git::$INDEX_ALLOCATION", ".git:x", "GIT~1:x",
		".g\u200cit", "\u200d.git", ".git\ufeff", ".g\u202ei\u206ft", ".G\u200cIt", `.git\config`, `a\.git`, `a\git~1\b`, `..\.git`,
		"", ".", "..", "a/b", "/", "a\x00b",
	} {
		if checkName(name, false) == "" {
			t.Errorf("%q passes", name)
		}
	}
	for _, name := range []string{".gitmodules", ".GITMODULES", ".gitmodules ", "gitmod~1", "GITMOD~4", "gi7eba~1", "GI7EB~10", ".gitmod\u200cules", ".gitmodules:x", `a\.gitmodules`} {
		if checkName(name, true) == "" {
			t.Errorf("%q passes as a link", name)
		}
		if checkName(name, false) != "" {
			t.Errorf("%q does not pass as a file", name)
		}
	}
	for _, name := range []string{"...", ".gitignore", ".github", "git", "a.git", "git~2", ".gi", " .git", "\xff", "-x", "git~10", ".gitattributes", "ſ.git"} {
		if why := checkName(name, true); why != "" {
			t.Errorf("%q: %s", name, why)
		}
	}
}

func FuzzParseTree(f *testing.F) {
	f.Add(rawTree("100644 a", "40000 b"))
	f.Add(rawTree("120000 .gitmodules"))
	f.Add([]byte("100644 a\x00short"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range formats {
			entries, err := parseTree(data, format)
			if err != nil {
				if strings.ContainsAny(err.Error(), "\n\x00\x1b") || !utf8.ValidString(err.Error()) {
					t.Errorf("the error is not inert: %q", err)
				}
				continue
			}
			// What was taken is exactly what is there.
			var back []byte
			for _, e := range entries {
				id, _ := hex.DecodeString(e.id)
				back = append(append(append(back, string(e.mode)+" "+e.name...), 0), id...)
				if strings.ContainsAny(e.name, "/\x00") || e.name == "" || e.name == "." || e.name == ".." || strings.EqualFold(e.name, ".git") {
					t.Errorf("took the name %q", e.name)
				}
			}
			if string(back) != string(data) {
				t.Errorf("read %q, wrote %q", data, back)
			}
		}
	})
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{".git", ".g\u200cit", "git~1", "a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		taken := checkName(name, false) == ""
		// git's own guards, seen from the simplest file systems.
		plain := strings.ToLower(strings.TrimRight(name, ". "))
		if taken && (plain == ".git" || plain == "git~1" || name == "" || strings.ContainsAny(name, "/\x00")) {
			t.Errorf("%q passes", name)
		}
		if !taken && checkName(name, true) == "" {
			t.Errorf("%q passes as a link only", name)
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	file := filepath.Join(f.TempDir(), "index")
	for _, format := range formats {
		id := strings.Repeat("12", idLen(format)/2)
		if err := writeIndex(file, format, map[string]entry{"a": {mode: modeFile, id: id}, "b/c": {mode: modeLink, id: id}, "b/long name": {mode: modeExec, id: id}}); err != nil {
			f.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		x, err := parseIndex(data, format)
		if err != nil || x.len() != 3 || !x.has("b/c") || !x.holds("b/") || x.has("b") || x.holds("a/") || treeMode(x.line(1).mode) != modeLink || hex.EncodeToString(x.line(2).id) != id {
			f.Fatalf("%s: %+v, %v", format, x, err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range formats {
			x, err := parseIndex(data, format)
			if err != nil {
				continue
			}
			for i := range x.len() {
				e := x.line(i)
				if e.path == "" || i > 0 && e.path < x.line(i-1).path || len(e.id) != idLen(format)/2 {
					t.Errorf("took the entry %+v", e)
				}
			}
		}
	})
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(`{"tip":"` + someID + `","notes":["a"]}`))
	f.Add([]byte(`{"error":"x","refused":true}`))
	f.Add([]byte(`{"tip":"--upload-pack=x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := parseReport(data, "sha1")
		if err != nil {
			return
		}
		if rep.Error == "" && !isID(rep.Tip, "sha1") {
			t.Errorf("took the tip %q", rep.Tip)
		}
		if len(rep.Notes) > mostNotes+1 {
			t.Errorf("%d notes", len(rep.Notes))
		}
		for _, s := range append(rep.Notes, rep.Error) {
			if inert(s) != s && !strings.HasSuffix(s, "…") || strings.ContainsAny(s, "\n\x1b\x00") {
				t.Errorf("not inert: %q", s)
			}
		}
	})
}

func FuzzParseCommit(f *testing.F) {
	f.Add([]byte("tree x\nparent y\nauthor A <a@b> 1 +0000\nencoding latin1\n\nmessage\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kv := range parseCommit(data).authorEnv() {
			if !strings.HasPrefix(kv, "GIT_AUTHOR_") || strings.Contains(kv, "\n") {
				t.Errorf("environment %q", kv)
			}
		}
	})
}

func FuzzParseNumstat(f *testing.F) {
	f.Add("1\t2\ta\x001\t1\t\x00b\x00c\x00-\t-\tbin\x00")
	f.Fuzz(func(t *testing.T, out string) {
		s, err := parseNumstat(splitNul([]byte(out)))
		if err == nil && len(s.Paths) < s.Files {
			t.Errorf("%+v", s)
		}
	})
}

func FuzzQuoteC(f *testing.F) {
	f.Add("a\"b\\\n\xff")
	f.Fuzz(func(t *testing.T, path string) {
		q := quoteC(path)
		if back, ok := unquoteC(q); !ok || back != path || strings.Contains(q, "\n") {
			t.Errorf("%q: %q, %v", path, back, ok)
		}
		unquoteC(path) // must not fail on anything
	})
}

func FuzzInert(f *testing.F) {
	f.Add("a\x1b[31m\u202e\xff\n")
	f.Fuzz(func(t *testing.T, s string) {
		out := inert(s)
		for _, r := range out {
			if !strconv.IsPrint(r) || r == utf8.RuneError && !strings.ContainsRune(s, r) {
				t.Errorf("%q gives %q", s, out)
			}
		}
	})
}

func TestParseNumstat(t *testing.T) {
	s, err := parseNumstat(splitNul([]byte("1\t2\ta\tb\x003\t4\t\x00old\x00new\x00-\t-\tbin\x00")))
	if err != nil || s.Files != 3 || s.Added != 4 || s.Removed != 6 || strings.Join(s.Paths, "|") != "a\tb|old|new|bin" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"x\x00", "1\t1\t\x00one\x00"} {
		if _, err := parseNumstat(splitNul([]byte(bad))); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestAmount(t *testing.T) {
	for _, tc := range []struct {
		ids   string
		sizes []int64
		want  string
	}{
		{"abc", []int64{10, 20, 70}, ""},
		{"a", []int64{101}, "more than 0 MiB"},
		{"abcde", []int64{1, 1, 1, 1, 1}, "new objects"},
		{"aaaaa", []int64{30, 30, 30, 30, 30}, ""}, // one object
		{"ab", []int64{100, 1<<63 - 1}, "more than 0 MiB"},
	} {
		c := &inspector{lim: Limits{Bytes: 100, Objects: 4}, counted: map[string]bool{}}
		var got error
		for i, size := range tc.sizes {
			if got = c.count(tc.ids[i:i+1], size); got != nil {
				break
			}
		}
		if tc.want == "" && got != nil || tc.want != "" && (got == nil || !strings.Contains(got.Error(), tc.want)) {
			t.Errorf("%v: %v, want %q", tc, got, tc.want)
		}
	}
}

func TestReadAlternates(t *testing.T) {
	dir := t.TempDir()
	mk := func(name, alternates string) string {
		path := filepath.Join(dir, name, "objects")
		os.MkdirAll(path+"/info", 0o755)
		if alternates != "" {
			os.WriteFile(path+"/info/alternates", []byte(alternates), 0o644)
		}
		return path
	}
	mk("c", "")
	b := mk("b", "../../c/objects\n#x\n\n\"/none\\056such\"\n")
	a := mk("a", b+"\n"+b+"\n../../a/objects\n")
	stores, err := objectStores(a)
	if err != nil || len(stores) != 3 || !stores[0].Chained || !stores[1].Chained || stores[2].Chained || stores[2].Target != "/rcc/objects/2" || filepath.Base(filepath.Dir(stores[2].Source)) != "c" {
		t.Errorf("%+v, %v", stores, err)
	}
	os.Chmod(filepath.Join(dir, "c/objects"), 0o700)
	t.Cleanup(func() { euid = os.Geteuid })
	for _, uid := range []int{0, 1000} {
		euid = func() int { return uid }
		if stores, _ := objectStores(a); stores[0].MapRoot || stores[2].MapRoot != (uid == 0) {
			t.Errorf("as user %d: %+v", uid, stores)
		}
	}
	tree := &Tree{Dir: "/d", Path: "/p", Stores: stores, UID: 5}
	tree.Stores[2].MapRoot = true
	m := tree.Mounts()
	if len(m) != 6 || !reflect.DeepEqual(m[0], Mount{Source: "/d/tree", Target: "/p", Writable: true}) || !reflect.DeepEqual(m[2], Mount{Target: "/rcc/objects/0/info/alternates", Empty: true}) || !m[5].MapOwner {
		t.Errorf("%+v", m)
	}
}

func TestRunnerErrors(t *testing.T) {
	w := newWorld(t, "sha1")
	_, err := w.git.Run(t.Context(), w.repo, "cat-file", "-t", "nope")
	if status(err) != 128 || !strings.Contains(err.Error(), "Not a valid object name") {
		t.Errorf("%v", err)
	}
	if _, err := w.git.Run(t.Context(), "proj", "version"); err == nil {
		t.Error("a relative folder was taken")
	}
	c := capped{max: 3}
	c.Write([]byte("ab"))
	if n, _ := c.Write([]byte("cd")); n != 2 || string(c.Bytes()) != "abc" || !c.over {
		t.Errorf("%d %q %v", n, c.Bytes(), c.over)
	}
	// As os/exec fills it.
	c = capped{max: 3}
	if n, _ := io.Copy(&c, strings.NewReader("abcdef")); n != 6 || string(c.Bytes()) != "abc" || !c.over {
		t.Errorf("%d %q %v", n, c.Bytes(), c.over)
	}
	tl := tail{max: 3}
	tl.Write([]byte("abcd"))
	tl.Write([]byte("e"))
	if tl.String() != "cde" {
		t.Errorf("%q", tl.String())
	}
}
