package devshell

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"a é 漢 ☺\ufe0f \\x":      "a é 漢 ☺\ufe0f \\x",
		"\x1b[31m\r\n\t\x00\x7f": `\x1b[31m\x0d\x0a\x09\x00\x7f`,
		"\xff\xc3":               `\xff\xc3`,
		"\u009b\u202e\u2066\u200b\u3164\u2028\ufeff\u2800\u00ad\U000e0041\U000e0100\u17b4\ufe00\u034f": `\u{009b}\u{202e}\u{2066}\u{200b}\u{3164}\u{2028}\u{feff}\u{2800}\u{00ad}\u{e0041}\u{e0100}\u{17b4}\u{fe00}\u{034f}`,
		"\ufffd": "\ufffd", // this one was really there
	} {
		if got := visible(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// In the log file nothing is hidden, in whatever pieces it came, and lines stay lines.
func TestLogIsVisible(t *testing.T) {
	const said = "é\t漢\x1b[2J\u009b31m\n\u202eevil\xe6\xbc\n\xff\r\n\xe6\xbc"
	const want = "é\t漢\\x1b[2J\\u{009b}31m\n\\u{202e}evil\\xe6\\xbc\n\\xff\\x0d\n\\xe6\\xbc"
	for size := 1; size <= len(said); size++ {
		file := filepath.Join(t.TempDir(), "log")
		l, err := newLog(file, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		for rest := said; rest != ""; {
			n := min(size, len(rest))
			if _, err := fmt.Fprint(l, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		l.close()
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("in pieces of %d: %q, %v", size, got, err)
		}
		if string(l.tail) != said {
			t.Errorf("the message is made of %q", l.tail)
		}
	}
}

// What is written out counts against the bound, and nothing is cut inside of a character.
func TestVisibleLogBound(t *testing.T) {
	for _, text := range []string{"\x1b", "漢", "\u202e"} {
		file := filepath.Join(t.TempDir(), "log")
		l, err := newLog(file, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		flood := strings.Repeat(text, logCap/8)
		for range 5 {
			fmt.Fprint(l, flood)
		}
		l.close()
		data, err := os.ReadFile(file)
		said, whole := strings.CutSuffix(string(data), "\n[the rest is left out]\n")
		if err != nil || !whole || len(said) > logCap || len(said) < logCap-10 || len(said)%len(visible(text)) != 0 {
			t.Errorf("%q: %d bytes, %v", text, len(data), err)
		}
	}
}
