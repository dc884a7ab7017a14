// Command stage is the executable of the sandbox's stages in tests, and a
// program that needs nothing of the root that it runs in:
//
//	stage ls DIR      the names in a folder
//	stage see PATH…   for each whether it exists; writes to none
//	stage cat PATH    what is in a file
//	stage spoil PATH… for each whether anything could be changed
//	stage env         the environment, sorted
//	stage lookup NAME [NETWORK SERVER]
//	                  how many addresses a name has, and whether it has none
//	stage dial NETWORK ADDRESS...
//	                  send a line to each, and tell what came back or why nothing did
//	stage listen ADDRESS
//	                  serve one connection after the other: its lines come back
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"rcc/isolate"
)

func main() {
	isolate.Main()
	if len(os.Args) < 2 {
		fail("this program is only for tests")
	}
	switch args := os.Args[2:]; os.Args[1] {
	case "ls":
		list, err := os.ReadDir(args[0])
		check(err)
		for _, e := range list {
			fmt.Println(e.Name())
		}
	case "see":
		for _, p := range args {
			_, err := os.Lstat(p)
			fmt.Println(p, err == nil)
		}
	case "cat":
		b, err := os.ReadFile(args[0])
		check(err)
		os.Stdout.Write(b)
	case "spoil":
		for _, p := range args {
			fmt.Println(p, spoil(p))
		}
	case "env":
		env := os.Environ()
		slices.Sort(env)
		fmt.Println(strings.Join(env, "\n"))
	case "lookup":
		resolver := &net.Resolver{PreferGo: true}
		if len(args) > 1 {
			resolver.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, args[1], args[2])
			}
		}
		list, err := resolver.LookupHost(context.Background(), args[0])
		var dns *net.DNSError
		fmt.Println(len(list), errors.As(err, &dns) && dns.IsNotFound)
	case "dial":
		for _, a := range args[1:] {
			fmt.Println(dial(args[0], a))
		}
	case "listen":
		l, err := net.Listen("tcp", args[0])
		check(err)
		fmt.Println("listening")
		for {
			c, err := l.Accept()
			check(err)
			go io.Copy(c, c)
		}
	default:
		fail("unknown: " + os.Args[1])
	}
}

// dial tells the line that an address answered with, or the error's number. On
// port 80 it speaks HTTP with the address's host.
func dial(network, address string) string {
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		line := "hello\n"
		if host, port, _ := net.SplitHostPort(address); port == "80" {
			line = "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
		}
		_, err = io.WriteString(c, line)
	}
	var answer string
	if err == nil {
		answer, err = bufio.NewReader(c).ReadString('\n')
	}
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.As(err, &errno):
		return fmt.Sprintf("%s %d", errno, int(errno))
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such name"
	case err != nil:
		return err.Error()
	}
	return strings.TrimSpace(answer)
}

// spoil tries what changes a file or folder and tells what worked, or "held".
func spoil(p string) string {
	made := filepath.Join(p, "made")
	for name, try := range map[string]func() error{
		"write":  func() error { return os.WriteFile(p, []byte("spoilt"), 0o644) },
		"create": func() error { return os.WriteFile(made, nil, 0o644) },
		"mkdir":  func() error { return os.Mkdir(made, 0o755) },
		"chmod":  func() error { return os.Chmod(p, 0o777) },
		"rename": func() error { return os.Rename(p, p+"-moved") },
		"remove": func() error { return os.Remove(p) },
	} {
		if try() == nil {
			return name
		}
	}
	return "held"
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(2)
}
