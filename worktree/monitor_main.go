package worktree

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mostReported bounds the list of changed files: to look at all of them takes
// git no longer then.
const mostReported = 20_000

// MonitorMain is the main function of git's hook: "rcc-fsmonitor 2 TOKEN", in
// the top folder of a working tree. It prints a new token and the paths that
// git has to look at, each with a NUL behind it; "/" stands for all.
//
// It remembers nothing, and does not rely on what git was told before. From
// the index that git is reading, the index of the base and the upper layer it
// finds the entries of which it is not certain that the file is what they say,
// by the rule that git itself goes by. All of them are reported. When in doubt
// about anything else, the answer is "/".
func MonitorMain() int {
	if len(os.Args) != 3 || os.Args[1] != "2" {
		fmt.Fprintln(os.Stderr, MonitorName+": it is git's to run")
		return 2
	}
	out := newToken() + "\x00"
	if paths, err := monitored(os.Args[2]); err != nil || len(paths) > mostReported {
		out += "/\x00"
	} else {
		for _, p := range paths {
			out += p + "\x00"
		}
	}
	if _, err := os.Stdout.WriteString(out); err != nil {
		return 1 // git takes that for "/"
	}
	return 0
}

var errDoubt = errors.New("there is no telling what changed")

// monitored returns the paths that git has to look at.
func monitored(token string) (paths []string, err error) {
	// The index is read where it lies; if somebody cuts it off, that is a fault.
	debug.SetPanicOnFault(true)
	defer func() {
		if recover() != nil {
			err = errDoubt
		}
	}()
	if !strings.HasPrefix(token, "rcc1:") || !isStatus(os.Getppid()) {
		return nil, errDoubt
	}
	file, format, err := askedIndex()
	if err != nil {
		return nil, err
	}
	index, at, err := readMonitored(file, format)
	if err != nil {
		return nil, err
	}
	if got, err := index.token(); err != nil || got != token {
		return nil, errDoubt // git is reading another index
	}
	base, _, err := readMonitored(insideLent+"/index", format)
	if err != nil {
		return nil, err
	}
	m := &monitor{index: index, base: base, written: at}
	return m.find()
}

// isStatus tells whether a process is git status.
//
// Others are not answered. Until git 2.43, check_removed in diff-lib.c leaves
// the result of lstat(2) empty for an entry that is known to be unchanged, and
// looks at it: with git 2.39, git diff HEAD and git diff-index say of every file
// that it was deleted, in one run of twenty, whatever the hook is. git add and
// git commit -a call the same function. git status marks such entries first, so
// that it is not called for them (refresh_index in read-cache.c).
func isStatus(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return false
	}
	args := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	if filepath.Base(args[0]) != "git" {
		return false
	}
	for args = args[1:]; len(args) > 0; args = args[1:] {
		switch a := args[0]; {
		case a == "-c" || a == "-C":
			if len(args) < 2 {
				return false
			}
			args = args[1:]
		case slices.Contains([]string{"--no-pager", "--no-optional-locks", "-P", "-p", "--paginate", "--literal-pathspecs"}, a):
		default:
			return a == "status"
		}
	}
	return false
}

// askedIndex finds the index that git is reading, if it is about the task's own
// tree, and how it names objects.
func askedIndex() (file, format string, err error) {
	about, err := os.ReadFile(insideLent + "/" + monitorTree)
	if err != nil {
		return "", "", err
	}
	format, tree, _ := strings.Cut(string(about), " ")
	here, err := unix.Getwd()
	if err != nil || here != tree {
		return "", "", errDoubt
	}
	if fi, err := os.Lstat(".git"); err != nil || !fi.IsDir() {
		return "", "", errDoubt
	}
	for _, name := range []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR"} {
		if os.Getenv(name) != "" {
			return "", "", errDoubt
		}
	}
	if file := os.Getenv("GIT_INDEX_FILE"); file != "" {
		return file, format, nil
	}
	return ".git/index", format, nil
}

// token is the one that git has kept in the index. An index with an untracked
// cache has none: for that one the hook would have to know what untracked files
// there were.
func (x *indexFile) token() (string, error) {
	token, untracked := "", false
	err := x.eachExtension(func(kind string, body []byte) {
		switch kind {
		case "UNTR":
			untracked = true
		case "FSMN":
			if len(body) > 4 {
				before, _, ok := bytes.Cut(body[4:], []byte{0})
				if ok {
					token = string(before)
				}
			}
		}
	})
	if err == nil && (untracked || token == "") {
		err = errDoubt
	}
	return token, err
}
