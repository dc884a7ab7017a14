//go:build rcccrash

package main

import (
	"os"
	"syscall"
)

// crashPoint kills this process at the step that RCC_CRASH_AT names, so that
// tests can show what the next command finds. No released build has it.
func crashPoint(step string) {
	if os.Getenv("RCC_CRASH_AT") == step {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
