package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sync waits until everything that was sent in the host's namespace before has
// been written down, by sending something after it.
func (w *world) sync() error {
	token := strconv.FormatInt(time.Now().UnixNano(), 36)
	cmd := exec.Command(filepath.Join(w.dir, "bin/inworld"), "/usr/bin/env", "python3", "-c", worldSentinel, token)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot send a packet in the world: %w: %s", err, out)
	}
	missing := scriptWaitFor(5*time.Second, func() string {
		for _, net := range worldNets {
			lines, err := w.read(net)
			if err != nil || !slices.Contains(lines, "sentinel "+token) {
				return net
			}
		}
		return ""
	})
	if missing != "" {
		return fmt.Errorf("a packet to %s did not arrive", missing)
	}
	for _, net := range worldNets {
		lines, _ := w.read(net)
		if slices.Contains(lines, "dropped") {
			return fmt.Errorf("packets in %s came faster than they could be counted", net)
		}
	}
	return nil
}

// worldSentinel sends a token to each of worldNets.
const worldSentinel = `import socket, sys
for a in "127.0.0.1", "93.184.216.34", "10.1.2.3":
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"rcc-sentinel " + sys.argv[1].encode(), (a, 9))`

// read gives what has arrived in one of worldNets.
func (w *world) read(net string) ([]string, error) {
	if !slices.Contains(worldNets, net) {
		return nil, errScriptUsage("the networks are " + strings.Join(worldNets, ", "))
	}
	data, err := os.ReadFile(filepath.Join(w.dir, net+".hits"))
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), err
}

func (w *world) reset() error {
	if err := w.sync(); err != nil {
		return err
	}
	for _, net := range worldNets {
		if err := os.Truncate(filepath.Join(w.dir, net+".hits"), 0); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) wantHits(net, want, pattern string) error {
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		return errScriptUsage(err.Error())
	}
	if err := w.sync(); err != nil {
		return err
	}
	lines, err := w.read(net)
	if err != nil {
		return err
	}
	n := 0
	for _, line := range lines {
		if re.MatchString(line) {
			n++
		}
	}
	if want == "+" && n > 0 || want == strconv.Itoa(n) {
		return nil
	}
	const most = 8 << 10
	all := strings.Join(lines, "\n")
	return fmt.Errorf("%d lines of %s match, want %s:\n%s", n, net, want, all[:min(len(all), most)])
}
