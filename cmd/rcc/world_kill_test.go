package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptKillPart kills one process of a sandbox: that which calls itself by a
// name, and descends from one with a text in its command line.
func scriptKillPart(_ *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errScriptUsage("killpart NAME TEXT")
	}
	for _, pid := range scriptPids() {
		if name, _, _ := strings.Cut(scriptCmdline(pid), " "); name != args[0] {
			continue
		}
		for up := parentOf(pid); up > 1; up = parentOf(up) {
			if strings.Contains(scriptCmdline(up), args[1]) {
				return syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	return fmt.Errorf("there is no %s below %s", args[0], args[1])
}

// parentOf is a process's parent, 0 for none (proc(5), /proc/PID/stat).
func parentOf(pid int) (parent int) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if i := strings.LastIndexByte(string(data), ')'); i > 0 {
		var state string
		fmt.Sscan(string(data[i+1:]), &state, &parent)
	}
	return parent
}
