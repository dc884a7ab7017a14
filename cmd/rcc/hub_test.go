package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcc/isolate"
)

func TestFramesRoundTrip(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		f := &frames{rw: b}
		f.write(frameOutput, []byte("hello"))
		f.write(frameEnd, nil)
		f.writeJSON(frameOver, over{Exit: 7, Error: "x"})
		b.Close()
	}()
	f := &frames{rw: a}
	for _, want := range []struct {
		kind frameKind
		text string
	}{{frameOutput, "hello"}, {frameEnd, ""}, {frameOver, `{"exit":7,"error":"x"}`}} {
		kind, p, err := f.read()
		if err != nil || kind != want.kind || string(p) != want.text {
			t.Errorf("got %c %q %v, want %c %q", kind, p, err, want.kind, want.text)
		}
	}
	if _, _, err := f.read(); err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("o\x00\x00\x00\x05hello"))
	f.Add([]byte("o\xff\xff\xff\xff"))
	f.Add([]byte("o\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			_, p, err := readFrame(r)
			if err != nil {
				return
			}
			if len(p) > len(b) {
				t.Fatalf("a frame of %d bytes came out of %d", len(p), len(b))
			}
		}
	})
}

// TestQueuedInput: what was typed before the program was there reaches it, in
// order, and so does the end.
func TestQueuedInput(t *testing.T) {
	h := newHub(nil, nil)
	h.input([]byte("one "))
	h.input([]byte("two"))
	h.mu.Lock()
	h.endInput()
	h.mu.Unlock()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h.stdin = w
	h.startInput()
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "one two" {
		t.Errorf("the program read %q, %v", got, err)
	}
}

func TestInterruptBeforeTheProgram(t *testing.T) {
	for _, tc := range []struct {
		name string
		size *isolate.Size
		send func(*hub)
		want bool
	}{
		{"^C on a terminal", &isolate.Size{Rows: 24, Cols: 80}, func(h *hub) { h.input([]byte("a\x03")) }, true},
		{"that byte in a pipe", nil, func(h *hub) { h.input([]byte("a\x03")) }, false},
		{"a signal", nil, func(h *hub) { h.signal(2) }, true},
	} {
		h := newHub(tc.size, nil)
		called := false
		h.early = func() { called = true }
		tc.send(h)
		if called != tc.want {
			t.Errorf("%s: ended %v, want %v", tc.name, called, tc.want)
		}
	}
}

// TestLateClient: who attaches gets the last screen or, when asked for, all
// that was kept.
func TestLateClient(t *testing.T) {
	log, err := openKept(filepath.Join(t.TempDir(), "output.log"), outputLimit)
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(&isolate.Size{Rows: 5, Cols: 20}, log)
	h.show(frameOutput, []byte("gone\x1b[2J\x1b[3;4Hshown"))
	for _, tc := range []struct {
		hello hello
		want  func(string) bool
	}{
		{hello{}, func(s string) bool { return strings.Contains(s, "shown") && !strings.Contains(s, "gone") }},
		{hello{Replay: true}, func(s string) bool { return s == "gone\x1b[2J\x1b[3;4Hshown" }},
		{hello{First: true}, func(s string) bool { return s == "" }},
	} {
		mine, theirs := net.Pipe()
		f := &frames{rw: theirs}
		go func() { h.join(f, tc.hello); h.finish(over{}, true) }()
		var got strings.Builder
		for {
			kind, p, err := readFrame(mine)
			if err != nil {
				t.Fatal(err)
			}
			if kind == frameOver {
				break
			}
			got.Write(p)
		}
		if !tc.want(got.String()) {
			t.Errorf("%+v got %q", tc.hello, got.String())
		}
	}
}

func TestKeptFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	k, err := openKept(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		k.Write([]byte("0123456789"))
	}
	k.Write([]byte("last"))
	var all bytes.Buffer
	if err := copyKept(&all, path); err != nil {
		t.Fatal(err)
	}
	if n := all.Len(); n < 100 || n > 200 || !strings.HasSuffix(all.String(), "9last") {
		t.Errorf("%d bytes are kept, ending in %q", n, all.String()[max(0, n-10):])
	}
}

func TestScreen(t *testing.T) {
	s := newScreen(isolate.Size{Rows: 4, Cols: 10})
	s.Write([]byte("\x1b[31mred\x1b[0m\r\n\x1b[1;44mb\x1b[0m"))
	got := string(s.render())
	for _, want := range []string{"\x1b[1;1H", "31", "red", "\x1b[2;1H", "44", "b", "\x1b[2;2H"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in the screen %q", want, got)
		}
	}
	// The screen of the screen is the screen.
	again := newScreen(isolate.Size{Rows: 4, Cols: 10})
	again.Write([]byte(got))
	if twice := string(again.render()); twice != got {
		t.Errorf("shown twice it is\n%q, not\n%q", twice, got)
	}
}

// TestScreenIsQuick: numbers that an emulator would count up to for ages.
func TestScreenIsQuick(t *testing.T) {
	done := make(chan string)
	go func() {
		s := newScreen(isolate.Size{Rows: 4, Cols: 20})
		for _, final := range "@ABCDEFGHIJKLMPSTXZabcdefghlmnrsu" {
			s.Write([]byte("\x1b[9223372036854775807" + string(final)))
			s.Write([]byte("\x1b[?9;9999999999999;9" + string(final)))
		}
		s.Write([]byte("\x1b[2J\x1b[H\x1b[?1049h"))
		for _, b := range []byte("größe €") { // characters in pieces
			s.Write([]byte{b})
		}
		done <- string(s.render())
	}()
	select {
	case got := <-done:
		if !strings.Contains(got, "größe €") {
			t.Errorf("the screen shows %q", got)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the emulator counts")
	}
}

func FuzzScreen(f *testing.F) {
	f.Add([]byte("\x1b[2J\x1b[H\x1b[31mred\x1b[999;999Hx\x1b]0;title\x07\x1b[?1049h"))
	f.Add([]byte("\x1b[100000@\x1b[99999999L\x1b[38;2;1;2;3mx\xff\xfe"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newScreen(isolate.Size{Rows: 24, Cols: 80})
		s.Write(b)
		s.resize(isolate.Size{Rows: 3, Cols: 7})
		s.Write(b)
		for _, c := range string(s.render()) {
			if c < ' ' && c != 0x1b || c == 0x7f {
				t.Fatalf("the screen holds the control byte %#x", c)
			}
		}
	})
}

func TestInterruptedIsTold(t *testing.T) {
	s := store{t.TempDir()}
	rec := &Record{ID: "one", State: stateRunning, Phase: "command", Created: time.Now()}
	tk, lock, err := s.create(rec)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := tk.load(); err != nil || r.State != stateRunning {
		t.Errorf("with a worker: %+v %v", r, err)
	}
	if _, _, err := s.create(rec); err == nil || !strings.Contains(err.Error(), "--name") {
		t.Errorf("a second task of one name: %v", err)
	}
	lock.Close()
	r, err := tk.load()
	if err != nil || !r.interrupted() || !strings.Contains(r.Reason, "rcc gc") {
		t.Errorf("without a worker: %+v %v", r, err)
	}
	if r, err = tk.loadLocked(); err != nil || !r.interrupted() {
		t.Errorf("by who holds the lock: %+v %v", r, err)
	}
}

func TestSupervisorGetsNoSecrets(t *testing.T) {
	got := selectEnv([]string{"HOME=/h", "PATH=/p", "AWS_SECRET_ACCESS_KEY=x", "GITHUB_TOKEN=x", "SSH_AUTH_SOCK=x", "LC_ALL=C", "GIT_AUTHOR_NAME=n", "GIT_SSH_COMMAND=x"}, supervised)
	b, _ := json.Marshal(got)
	if want := `["HOME=/h","PATH=/p","LC_ALL=C","GIT_AUTHOR_NAME=n"]`; string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
}

func TestQuoted(t *testing.T) {
	if got := quoted([]string{"sh", "-c", "echo it's", "", "a=b"}); got != `sh -c 'echo it'\''s' '' a=b` {
		t.Error(got)
	}
}
