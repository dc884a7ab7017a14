package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestNewID(t *testing.T) {
	for _, tt := range []struct{ prompt, want string }{
		{"fix tests", "fix-tests-3f2a"},
		{"Fix the failing tests in the parser, please", "fix-the-failing-tests-in-3f2a"},
		{"don't panic", "dont-panic-3f2a"},
		{"", "task-3f2a"},
		{"  \n\t", "task-3f2a"},
		{"日本語で直して", "task-3f2a"},
		{"prüfe parser.go und main.go", "parser-go-und-main-go-3f2a"},
		{"../../etc/passwd", "etc-passwd-3f2a"},
		{"--help", "help-3f2a"},
		{"a.lock", "a-lock-3f2a"},
		{"$(reboot); `id`", "reboot-id-3f2a"},
		{"pneumonoultramicroscopicsilicovolcanoconiosis cure", "pneumonoultramicroscopic-3f2a"},
		{"'''", "task-3f2a"},
		{"\xff\xfe broken", "broken-3f2a"},
		{"a\x00b", "a-b-3f2a"},
		{"123456789012345678901234 x", "123456789012345678901234-3f2a"},
		{"12345678901234567890123 x", "12345678901234567890123-3f2a"},
		{"1234567890123456789012 x", "1234567890123456789012-x-3f2a"},
	} {
		got := NewID(tt.prompt, bytes.NewReader([]byte{0x3f, 0x2a}))
		if got != tt.want {
			t.Errorf("NewID(%q) = %q, want %q", tt.prompt, got, tt.want)
		}
	}
}

func TestNewIDWithoutRandomness(t *testing.T) {
	id := NewID("fix", strings.NewReader(""))
	if !regexp.MustCompile(`^fix-[0-9a-f]{4}$`).MatchString(id) {
		t.Errorf("id %q", id)
	}
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{"a", "fix-tests-3f2a", "V1.2_b", "0", "a.b.c", "a.locks", strings.Repeat("a", maxIDLen)} {
		if err := CheckID(id); err != nil {
			t.Errorf("CheckID(%q) = %v", id, err)
		}
	}
	for id, want := range map[string]string{
		"":                                 "empty",
		"a/b":                              "letters, digits and . _ - only",
		"../x":                             "letters, digits and . _ - only",
		"/../":                             "letters, digits and . _ - only",
		"a b":                              "letters, digits and . _ - only",
		"a\nb":                             "letters, digits and . _ - only",
		"é":                                "letters, digits and . _ - only",
		"š":                                "letters, digits and . _ - only", // low byte is an ASCII letter
		"a$(id)":                           "letters, digits and . _ - only",
		"a@{0}":                            "letters, digits and . _ - only",
		"a\xff":                            "letters, digits and . _ - only",
		"-x":                               "start with a letter or a digit",
		".x":                               "start with a letter or a digit",
		"a..b":                             "two dots",
		"a.":                               "end with a dot",
		"a.lock":                           ".lock",
		"a.LOCK":                           ".lock",
		strings.Repeat("a", maxIDLen+1):    "64 at most",
		strings.Repeat("\x1b", maxIDLen*9): "64 at most",
	} {
		err := CheckID(id)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckID(%q) = %v, want %q in it", id, err, want)
			continue
		}
		checkOneLine(t, err)
	}
}

func TestMatchID(t *testing.T) {
	ids := []string{"fix-tests-3f2a", "fix-lint-9c01", "fix", "docs-77aa"}
	for prefix, want := range map[string]string{
		"fix-tests-3f2a": "fix-tests-3f2a",
		"fix-t":          "fix-tests-3f2a",
		"fix":            "fix",
		"d":              "docs-77aa",
	} {
		if got, err := MatchID(prefix, ids); got != want || err != nil {
			t.Errorf("MatchID(%q) = %q, %v, want %q", prefix, got, err, want)
		}
	}
	for prefix, want := range map[string]string{
		"":      "rcc list",
		"fix-":  "fix-tests-3f2a, fix-lint-9c01",
		"f":     "3 begin like that",
		"nope":  "there is fix-tests-3f2a",
		"FIX":   "cannot find",
		"x\x1b": `"x\x1b"`,
	} {
		got, err := MatchID(prefix, ids)
		if err == nil || got != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("MatchID(%q) = %q, %v, want %q in the error", prefix, got, err, want)
			continue
		}
		checkOneLine(t, err)
	}
	if _, err := MatchID("x", nil); err == nil || !strings.Contains(err.Error(), "no tasks") {
		t.Errorf("without tasks: %v", err)
	}
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("task-%04x", i))
	}
	if _, err := MatchID("task", many); err == nil || !strings.Contains(err.Error(), "and 25 more") {
		t.Errorf("many candidates: %v", err)
	}
}

// checkOneLine fails unless the error is one line of plain text.
func checkOneLine(t testing.TB, err error) {
	t.Helper()
	if msg := err.Error(); msg == "" || Inert(msg) != msg {
		t.Errorf("the error is not one line of plain text: %q", msg)
	}
}

func FuzzID(f *testing.F) {
	for _, s := range []string{"fix tests", "", "..", "a.lock", "İstanbul K", "-", "'", "a\x00b", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id := NewID(s, bytes.NewReader([]byte{1, 2}))
		if err := CheckID(id); err != nil || len(id) > maxSlugLen+5 {
			t.Errorf("NewID(%q) = %q: %v", s, id, err)
		}
		if err := CheckID(s); err != nil {
			checkOneLine(t, err)
		} else if got, err := MatchID(s, []string{s + "x", s}); got != s || err != nil {
			t.Errorf("MatchID(%q) = %q, %v", s, got, err)
		}
		if _, err := MatchID(s, []string{id, "b" + s, s + "1", s + "2"}); err != nil {
			checkOneLine(t, err)
		}
	})
}

// Git itself agrees with CheckID on what it lets through.
func TestCheckIDAgreesWithGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		lacking(t, "exec:git")
	}
	for _, id := range []string{"a", "a.b", "a..b", "a.", "a.lock", ".a", "-a", "a-", "a_", "A.1-2_3", "a.lock.b", "a-.b", "HEAD"} {
		ours := CheckID(id) == nil
		gits := exec.Command(git, "check-ref-format", "refs/heads/rcc/"+id).Run() == nil
		if ours && !gits {
			t.Errorf("CheckID lets %q through and git does not", id)
		}
	}
}
