package main

import (
	"io"
	"os"
	"testing"
	"time"
)

// TestProgressLine: what a user sees of the making of a base, once it has taken
// a while.
func TestProgressLine(t *testing.T) {
	was := progressPatience
	t.Cleanup(func() { progressPatience = was })
	terminal := func() (r, w *os.File, err error) {
		return openPty("80x24")
	}
	const line = "\rrcc: writing the 200 files that trees of this repository stand on: "
	for _, tc := range []struct {
		name     string
		ends     func() (r, w *os.File, err error)
		patience time.Duration
		steps    []int // of 200; -1: it has failed
		want     string
	}{
		{"terminal", terminal, 0, []int{2, 100, 200}, line + "1 %" + line + "50 %\r\x1b[K"},
		{"terminal, failed", terminal, 0, []int{2, -1}, line + "1 %\r\x1b[K"},
		{"terminal, quick", terminal, time.Hour, []int{2, 100, 200}, ""},
		{"terminal, quick, failed", terminal, time.Hour, []int{2, -1}, ""},
		{"pipe", os.Pipe, 0, []int{2, 100, 200}, "rcc: writing the 200 files that the trees of this repository stand on; the next task finds them there\n"},
		{"pipe, quick", os.Pipe, time.Hour, []int{2, 100, 200}, ""},
		{"pipe, failed at once", os.Pipe, 0, []int{-1}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			progressPatience = tc.patience
			r, w, err := tc.ends()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			show := progressLine(&surroundings{stderr: w})
			for _, done := range tc.steps {
				if done < 0 {
					show(0, 0)
				} else {
					show(done, 200)
				}
			}
			w.Close()
			got, _ := io.ReadAll(r) // a terminal that nobody has open any more gives EIO
			if string(got) != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
