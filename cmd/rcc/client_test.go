package main

import (
	"net"
	"testing"
	"time"

	"rcc/isolate"
)

// TestSizeComesBeforeInput: a program never gets a key that was typed at a new
// size before the size. Here no signal tells of the size at all, as when it
// comes late: the terminal is not the test's own.
func TestSizeComesBeforeInput(t *testing.T) {
	master, slave, err := openPty("80x24")
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	mine, theirs := net.Pipe()
	theirs.SetDeadline(time.Now().Add(10 * time.Second))
	env := &surroundings{stdin: slave, stdout: slave, stderr: slave}
	cl := &client{
		env: env, f: &frames{rw: mine}, stdout: slave, stderr: slave, detachable: true,
		hello: hello{Want: "attach", Input: true, Terminal: true, Size: terminalSize(env)},
	}
	ended := make(chan error, 1)
	go func() {
		_, err := cl.run()
		ended <- err
	}()
	f := &frames{rw: theirs}
	expect := func(want frameKind, text string) {
		t.Helper()
		if kind, b, err := f.read(); err != nil || kind != want || text != "" && string(b) != text {
			t.Fatalf("got %c %q, %v; want %c %q", kind, b, err, want, text)
		}
	}
	// What the user does before the hello was read comes after it.
	expect(frameHello, "")
	for _, step := range []struct{ size, key string }{{"", "a"}, {"120x40", "b"}, {"", "c"}, {"90x25", "d"}} {
		if step.size != "" {
			if err := setPtySize(master, step.size); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := master.WriteString(step.key); err != nil {
			t.Fatal(err)
		}
		switch step.size {
		case "120x40":
			expect(frameResize, `{"rows":40,"cols":120}`)
		case "90x25":
			expect(frameResize, `{"rows":25,"cols":90}`)
		}
		expect(frameInput, step.key)
	}
	if cl.sent != (isolate.Size{Rows: 25, Cols: 90}) {
		t.Errorf("%+v", cl.sent)
	}
	theirs.Close()
	if err := <-ended; err != errLost {
		t.Errorf("got %v, want %v", err, errLost)
	}
}
