package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"
)

// progressPatience is how long the making of a base may take before it is told of.
const progressPatience = time.Second

// progressLine tells how far the making of a base has come: on a terminal in a
// line that it writes again and again, elsewhere once.
func progressLine(env *surroundings) func(done, total int) {
	onTerminal := term.IsTerminal(int(env.stderr.Fd()))
	began, told := time.Time{}, false
	return func(done, total int) {
		if began.IsZero() {
			began = time.Now()
		}
		switch {
		case time.Since(began) < progressPatience && !told:
		case onTerminal:
			drawProgress(env.stderr, done, total)
			told = true
		case !told:
			env.say("writing the %d files that the trees of this repository stand on; the next task finds them there", total)
			told = true
		}
	}
}

func drawProgress(w *os.File, done, total int) {
	if done >= total {
		fmt.Fprint(w, "\r\x1b[K")
		return
	}
	fmt.Fprintf(w, "\rrcc: writing the %d files that trees of this repository stand on: %d %%", total, 100*done/max(total, 1))
}
