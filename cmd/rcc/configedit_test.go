package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAddAllow(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		entries        string // with spaces between; "x.example:443" by default
	}{
		{name: "an empty file", in: "", want: "allow = [\"@project\", \"x.example:443\"]\n"},
		{name: "no line end", in: "net = 'allow'", want: "net = 'allow'\nallow = [\"@project\", \"x.example:443\"]\n"},
		{
			name: "before the tables, and their comments",
			in:   "# mine\n\n# agents\n# of mine\n[agent.a]\ncommand = ['a']\n",
			want: "# mine\n\nallow = [\"@project\", \"x.example:443\"]\n\n# agents\n# of mine\n[agent.a]\ncommand = ['a']\n",
		},
		{
			name: "after the other keys",
			in:   "net = 'allow' # narrow\n\n[agent.a]\ncommand = ['a']\nallow = ['y.example']\n",
			want: "net = 'allow' # narrow\nallow = [\"@project\", \"x.example:443\"]\n\n[agent.a]\ncommand = ['a']\nallow = ['y.example']\n",
		},
		{name: "an empty list is the user's word", in: "allow = [] # none\n", want: "allow = [\"x.example:443\"] # none\n"},
		{name: "an empty list of two lines", in: "allow = [ # none\n]\n", want: "allow = [\"x.example:443\" # none\n]\n"},
		{name: "a short list", in: "allow = ['a.example']\n", want: "allow = ['a.example', \"x.example:443\"]\n"},
		{name: "a comma at its end", in: "allow = [ 'a.example', ]\n", want: "allow = [ 'a.example', \"x.example:443\", ]\n"},
		{
			name: "a long list",
			in:   "allow = [\n\t'a.example', # it, too\n\t'b.example', # [two]\n\t# no more\n]\nnet = 'allow'\n",
			want: "allow = [\n\t'a.example', # it, too\n\t'b.example', # [two]\n\t\"x.example:443\",\n\t# no more\n]\nnet = 'allow'\n",
		},
		{
			name: "a long list without a comma at its end",
			in:   "allow = [\n  'a.example',\n  'b.example' # a, b\n]\n",
			want: "allow = [\n  'a.example',\n  'b.example', # a, b\n  \"x.example:443\"\n]\n",
		},
		{
			name: "a list that begins on the first line",
			in:   "allow = ['a.example',\n         'b.example'\n]\n",
			want: "allow = ['a.example',\n         'b.example',\n         \"x.example:443\"\n]\n",
		},
		{name: "it is there", in: "allow = [\"X.example:443\", 'a.example']\n", want: "allow = [\"X.example:443\", 'a.example']\n"},
		{name: "some of it is there", in: "allow = ['a.example']\n", want: "allow = ['a.example', \"b.example\", \"203.0.113.0/24:80\"]\n", entries: "a.example b.example 203.0.113.7/24:80"},
		{name: "twice in one breath", in: "allow = ['a.example']\n", want: "allow = ['a.example', \"b.example\"]\n", entries: "b.example B.example"},
		{name: "a quoted key", in: "\"allow\" = ['a.example']\n", want: "\"allow\" = ['a.example', \"x.example:443\"]\n"},
		{name: "line ends of Windows", in: "net = 'allow'\r\nallow = [\r\n  'a.example',\r\n]\r\n", want: "net = 'allow'\r\nallow = [\r\n  'a.example',\r\n  \"x.example:443\",\r\n]\r\n"},
		{name: "the worked-out list alone", in: "", want: "allow = [\"@project\"]\n", entries: "@project"},
	} {
		entries := strings.Fields(tt.entries)
		if len(entries) == 0 {
			entries = []string{"x.example:443"}
		}
		path := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(path, []byte(tt.in), 0o640); err != nil {
			t.Fatal(err)
		}
		changed, err := addAllow(path, entries)
		got, _ := os.ReadFile(path)
		if err != nil || string(got) != tt.want || changed != (tt.in != tt.want) {
			t.Errorf("%s: %v, %v\n%s\nwant\n%s", tt.name, changed, err, got, tt.want)
			continue
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v, %v", tt.name, fi.Mode(), err)
		}
		if changed, err := addAllow(path, entries); changed || err != nil {
			t.Errorf("%s: again: %v, %v", tt.name, changed, err)
		}
	}
}

func TestAddAllowNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rcc", "config.toml")
	if changed, err := addAllow(path, []string{"x.example"}); !changed || err != nil {
		t.Fatal(changed, err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	c, err := decodeConfig(path, mustRead(t, path), false)
	if err != nil || len(c.User.Allow.Value) != 2 || c.User.Allow.Value[0].Name != projectMark {
		t.Errorf("%+v, %v", c, err)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What cannot be edited stays as it is, and the error says what to add.
func TestAddAllowRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"a broken file", "allow = [\n", "config.toml:"},
		{"a bad value", "net = 'all'\n", `config.toml:1: net must be`},
		{"a comma on a line of its own", "allow = ['a.example'\n,\n]\n", "its layout is too unusual to be edited"},
	} {
		path := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(path, []byte(tt.in), 0o600); err != nil {
			t.Fatal(err)
		}
		changed, err := addAllow(path, []string{"x.example"})
		if changed || err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasSuffix(err.Error(), `; add the entry by hand: allow = ["@project", "x.example"]`) {
			t.Errorf("%s: %v, %v", tt.name, changed, err)
			continue
		}
		checkOneLine(t, err)
		if got := string(mustRead(t, path)); got != tt.in {
			t.Errorf("%s: it is now %q", tt.name, got)
		}
	}
	if _, err := addAllow(filepath.Join(t.TempDir(), "x"), []string{"http://x.example"}); err == nil || !strings.HasPrefix(err.Error(), `cannot allow "http://x.example": `) {
		t.Errorf("a bad entry: %v", err)
	}
}

func TestAddAllowLinks(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "dotfiles")
	path := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(real, []byte("allow = ['a.example']\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("dotfiles", path); err != nil {
		t.Fatal(err)
	}
	if changed, err := addAllow(path, []string{"x.example"}); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if to, err := os.Readlink(path); to != "dotfiles" || err != nil {
		t.Errorf("the link is gone: %q, %v", to, err)
	}
	if got := string(mustRead(t, real)); got != "allow = ['a.example', \"x.example\"]\n" {
		t.Errorf("%q", got)
	}

	if err := os.Chmod(real, 0o444); err != nil {
		t.Fatal(err)
	}
	_, err := addAllow(path, []string{"y.example"})
	if err == nil || !strings.Contains(err.Error(), "it leads to "+real+", which is read-only; add the entry by hand: ") {
		t.Errorf("a link into a store: %v", err)
	}
	if err := os.Remove(real); err != nil {
		t.Fatal(err)
	}
	if _, err := addAllow(path, []string{"y.example"}); err == nil || !strings.Contains(err.Error(), "a link to nowhere") {
		t.Errorf("a link to nowhere: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
