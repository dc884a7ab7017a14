package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// worldMain is a process of the world: it makes its part, says "ready", and
// ends when its standard input does.
func worldMain(args []string) int {
	var c worldConfig
	err := errors.New("one argument is wanted")
	if len(args) == 2 {
		err = json.Unmarshal([]byte(args[1]), &c)
	}
	if err == nil {
		err = c.checkApart()
	}
	if err == nil {
		switch c.Role {
		case "host":
			err = c.host()
		case "internet", "company":
			err = c.network()
		case "user":
		default:
			err = fmt.Errorf("unknown role %q", c.Role)
		}
	}
	if err != nil {
		fmt.Println(oneLine(err))
		return 1
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// checkApart refuses to run where anything of the machine could be reached: in
// its own network namespace, or in one with a link that the world did not make.
func (c worldConfig) checkApart() error {
	var netns syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/net", &netns); err != nil {
		return err
	}
	if netns.Ino == c.Outside {
		return errors.New("this is the machine's own network")
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, link := range links {
		ours := link.Name == "lo" || strings.HasPrefix(link.Name, "rcc-")
		if !ours && link.Flags&net.FlagUp != 0 {
			return fmt.Errorf("there is a link %s that is not of the world", link.Name)
		}
	}
	return nil
}

// host is the namespace that rcc runs in; the others hang on it.
func (c worldConfig) host() error {
	if err := c.hostFiles(); err != nil {
		return err
	}
	if err := c.sysctls(); err != nil {
		return err
	}
	if err := ip(`link set lo up`); err != nil {
		return err
	}
	if err := c.makeCA(); err != nil {
		return err
	}
	if c.UID != 0 {
		user := c
		user.Role = "user"
		if _, _, err := user.helper(0); err != nil {
			return err
		}
	}
	begun := make(chan error, 2)
	for _, role := range []string{"internet", "company"} {
		part := c
		part.Role = role
		go func() {
			_, _, err := part.helper(syscall.CLONE_NEWNET)
			begun <- err
		}()
	}
	if err := c.links(); err != nil {
		return err
	}
	if err := errors.Join(<-begun, <-begun); err != nil {
		return err
	}
	hits, err := c.openHits()
	if err != nil {
		return err
	}
	if err := sniff(hits, "lo"); err != nil {
		return err
	}
	return listenCounted(hits)
}

// links joins the namespaces, each when its process is there. The internet is
// behind a gateway, but for the networks 93.184.217.0/24 and 2606:2800:221::/64,
// which the host is in itself.
func (c worldConfig) links() error {
	for _, part := range []struct{ role, near, far, setUp string }{
		{"internet", "rcc-hi", "rcc-ih", `
			addr add 93.184.216.2 peer 93.184.216.1/32 dev rcc-hi
			addr add 2606:2800:220::2/128 dev rcc-hi nodad
			addr add 93.184.217.2/24 dev rcc-hi
			addr add 2606:2800:221::2/64 dev rcc-hi nodad
			link set rcc-hi up
			route add default via 93.184.216.1 src 93.184.216.2
			-6 route add 2606:2800:220::1 dev rcc-hi
			-6 route add default via 2606:2800:220::1 src 2606:2800:220::2`},
		{"company", "rcc-hc", "rcc-ch", `
			addr add 10.1.0.2/16 broadcast 10.1.255.255 dev rcc-hc
			addr add fd00:1::2/126 dev rcc-hc nodad
			link set rcc-hc up
			route add 10.0.0.0/8 via 10.1.0.1
			route add 172.16.0.0/12 via 10.1.0.1
			route add 192.168.0.0/16 via 10.1.0.1
			route add 100.64.0.0/10 via 10.1.0.1
			route add 169.254.0.0/16 via 10.1.0.1
			route add 224.0.0.0/4 dev rcc-hc
			-6 route add fc00::/7 via fd00:1::1
			-6 route add fec0::/10 via fd00:1::1`},
	} {
		pid, err := c.childPid(part.role)
		if err != nil {
			return err
		}
		if err := ip(fmt.Sprintf("link add %s type veth peer name %s netns %d", part.near, part.far, pid)); err != nil {
			return err
		}
		if err := ip(part.setUp); err != nil {
			return err
		}
	}
	return nil
}

// childPid waits for the process of a role to be in its namespace.
func (c worldConfig) childPid(role string) (pid int, err error) {
	left := scriptWaitFor(5*time.Second, func() string {
		data, err := os.ReadFile(filepath.Join(c.Dir, "begun."+role))
		if err != nil || !strings.HasSuffix(string(data), "\n") {
			return role
		}
		fmt.Sscan(string(data), &pid)
		return ""
	})
	if left != "" {
		return 0, fmt.Errorf("%s has not begun", role)
	}
	return pid, nil
}

// network is what answers: every address but the host's is its own. It has no
// route to a prefix, which would come before that to all addresses: the kernel
// keeps the tables local and main in one trie (net/ipv4/fib_frontend.c, fib_unmerge).
func (c worldConfig) network() error {
	if err := c.sysctls(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "begun."+c.Role), fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
		return err
	}
	link, setUp := "rcc-ih", `
		addr add 93.184.216.1/24 dev rcc-ih noprefixroute
		addr add 2606:2800:220::1/126 dev rcc-ih nodad noprefixroute
		addr add 2606:2800:220::53/128 dev lo nodad
		addr add 2606:2800:221::9/128 dev rcc-ih nodad
		route add table local 93.184.216.2 dev rcc-ih
		route add table local 93.184.217.2 dev rcc-ih
		-6 route add table local 2606:2800:221::2 dev rcc-ih
		-6 route add table local 2606:2800:220::2 dev rcc-ih`
	if c.Role == "company" {
		link, setUp = "rcc-ch", `
			addr add 10.1.0.1/16 broadcast 10.1.255.255 dev rcc-ch noprefixroute
			addr add fd00:1::1/126 dev rcc-ch nodad noprefixroute
			addr add fe80::5/64 dev rcc-ch nodad
			route add table local 10.1.0.2 dev rcc-ch
			-6 route add table local fd00:1::2 dev rcc-ch
			-6 route add table local fe80::/10 dev rcc-ch`
	}
	if left := scriptWaitFor(5*time.Second, func() string {
		if _, err := net.InterfaceByName(link); err != nil {
			return link
		}
		return ""
	}); left != "" {
		return fmt.Errorf("there is no link %s", link)
	}
	err := ip("link set lo up\nlink set " + link + " up\n" + setUp + `
		route add table local local 0.0.0.0/0 dev lo
		-6 route add table local local ::/0 dev lo`)
	if err != nil {
		return err
	}
	hits, err := c.openHits()
	if err != nil {
		return err
	}
	if err := sniff(hits, link); err != nil {
		return err
	}
	if err := c.serveNames(hits); err != nil {
		return err
	}
	if err := c.serveWeb(hits); err != nil {
		return err
	}
	if err := c.serveSSH(hits); err != nil {
		return err
	}
	return listenCounted(hits)
}

// ip runs commands of ip(8), a line each; those that begin with -6 are IPv6's.
func ip(commands string) error {
	for line := range strings.Lines(commands) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}
