package devshell

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestDoing(t *testing.T) {
	const hash = "/nix/store/00000000000000000000000000000000-"
	for line, want := range map[string]string{
		"building '" + hash + "hello-2.12.drv'...":                            "building hello-2.12",
		"copying path '" + hash + "glibc-2.40' from 'https://example.org'...": "fetching glibc-2.40",
		"downloading 'https://example.org/x.tar.gz'...":                       "downloading https://example.org/x.tar.gz",
		"unpacking 'github:a/b' into the Git cache...":                        "unpacking github:a/b",
		"fetching git input 'git+https://example.org/x'":                      "fetching git+https://example.org/x",
		"building 'x\x1b[31m\x07y'...":                                        "building x y",
		"these 3 derivations will be built:":                                  "",
		"building something":                                                  "",
		"":                                                                    "",
		"downloading '" + strings.Repeat("é", 5000) + "'":                     "downloading " + strings.Repeat("é", 79) + "…",
	} {
		if got := doing(line); got != want {
			t.Errorf("%.60q: %q, want %q", line, got, want)
		}
	}
}

// Progress comes at most four times a second, and the last line is not lost.
func TestProgressPause(t *testing.T) {
	var mu sync.Mutex
	var told []string
	var times []time.Time
	l, err := newLog(filepath.Join(t.TempDir(), "log"), func(text string) {
		mu.Lock()
		defer mu.Unlock()
		told, times = append(told, text), append(times, time.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 600 { // 0.6 s and more
		fmt.Fprintf(l, "building '/nix/store/00000000000000000000000000000000-p%d.drv'...\n", i)
		time.Sleep(time.Millisecond)
	}
	time.Sleep(2 * progressPause)
	l.close()
	fmt.Fprint(l, "building '/nix/store/00000000000000000000000000000000-late.drv'...\n")
	mu.Lock()
	defer mu.Unlock()
	if len(told) < 3 || told[0] != "building p0" || told[len(told)-1] != "building p599" {
		t.Errorf("%q", told)
	}
	for i := 1; i < len(times); i++ {
		if d := times[i].Sub(times[i-1]); d < progressPause*9/10 {
			t.Errorf("%s after the one before", d)
		}
	}
}

// A flood is bounded in the log file and in memory; the end is kept for the message.
func TestLogBounds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	l, err := newLog(file, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	flood := bytes.Repeat([]byte("no line ends here "), 4096)
	for range 200 {
		_, _ = l.Write(flood)
	}
	_, _ = l.Write([]byte("\nerror: the end\n"))
	if !l.close() {
		t.Error("nothing was written")
	}
	fi, err := os.Stat(file)
	if err != nil || fi.Size() > logCap+100 || fi.Size() < logCap || len(l.tail) > tailCap || cap(l.tail) > 4*tailCap || len(l.line) > lineCap {
		t.Errorf("%d, %d, %d, %v", fi.Size(), len(l.tail), len(l.line), err)
	}
	if got := explain(string(l.tail), "/tree", Source{}); got != "the end" {
		t.Errorf("%q", got)
	}
}

// What is told while a real shell is made.
func TestProgress(t *testing.T) {
	w := newWorld(t)
	w.flake("")
	w.edit("flake.nix", "$busybox mkdir -p", "$busybox sleep 0.6; $busybox mkdir -p")
	var told []string
	o := w.options()
	o.Progress = func(text string) { told = append(told, text) }
	s, err := w.cache.Shell(t.Context(), w.nix, w.source(KindFlake, "", ""), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if len(told) < 2 || told[0] != "evaluating flake.nix" || !slices.Contains(told, "building tools") {
		t.Errorf("%q", told)
	}
	data, err := os.ReadFile(s.Log)
	if err != nil || !strings.Contains(string(data), "-tools.drv'...") {
		t.Errorf("%s: %v", data, err)
	}
}

// FuzzExplain: whatever Nix says, the message is one printable line, bounded.
func FuzzExplain(f *testing.F) {
	f.Add("error: x\n at y:1:2:\nerror: builder for '/nix/store/00000000000000000000000000000000-x.drv' failed with exit code 1;\n > y")
	files, _ := filepath.Glob("testdata/samples/*/*.err")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := explain(text, "/tree", Source{Kind: KindFlake})
		if len([]rune(got)) > messageCap || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e }) {
			t.Errorf("%q", got)
		}
		for line := range strings.Lines(text) {
			if got := doing(line); len([]rune(got)) > 100 || strings.ContainsAny(got, "\n\x1b\x07") {
				t.Errorf("%q", got)
			}
		}
	})
}
