package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// inworld is the program of that name. nsenter(1) and not this binary, since a
// process with threads cannot change its user namespace (setns(2)).
func (c worldConfig) inworld() string {
	user, owner := ":", ""
	if c.UID != 0 {
		user = `set -- nsenter --preserve-credentials --user --target "$(cat '` + c.Dir + `/pid.user')" -- "$@"`
		owner = "--preserve-credentials --user "
	}
	return `#!/bin/sh
net=host root=
while :; do
	case $1 in
	-net) net=$2; shift 2 ;;
	-root) root=1; shift ;;
	*) break ;;
	esac
done
set -- env -C "$PWD" "$@"
[ "$root" ] || ` + user + `
exec nsenter ` + owner + `--net="/proc/$(cat '` + c.Dir + `/pid.'$net)/ns/net" --mount --target "$(cat '` + c.Dir + `/pid.host')" -- "$@"
`
}

// helperName is the test binary as a process of the world.
const helperName = "rcc-world"

// helper starts this binary in namespaces of its own, and waits until it is
// ready. It ends when life is closed.
func (c worldConfig) helper(flags uintptr) (cmd *exec.Cmd, life io.Closer, err error) {
	config, err := json.Marshal(c)
	if err != nil {
		return nil, nil, err
	}
	cmd = &exec.Cmd{Path: "/proc/self/exe", Args: []string{helperName, string(config)}, Env: os.Environ(), Stderr: os.Stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	switch {
	case c.Role == "user": // the ordinary user again
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: c.UID, HostID: 0, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: c.GID, HostID: 0, Size: 1}}
	case c.Role == "host" && c.UID != 0:
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: c.UID, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: c.GID, Size: 1}}
	}
	life, err = cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	said, _ := bufio.NewReader(out).ReadString('\n')
	if said != "ready\n" {
		life.Close()
		cmd.Wait()
		return nil, nil, fmt.Errorf("%s: %s", c.Role, strings.TrimSpace(said))
	}
	return cmd, life, os.WriteFile(filepath.Join(c.Dir, "pid."+c.Role), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644)
}
