// Command stage is the executable of the sandbox's stages in tests, and a
// program that needs nothing of the root that it runs in:
//
//	stage ls DIR      the names in a folder
//	stage see PATH…   for each whether it exists; writes to none
//	stage cat PATH    what is in a file
//	stage spoil PATH… for each whether anything could be changed
//	stage env         the environment, sorted
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
	default:
		fail("unknown: " + os.Args[1])
	}
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
