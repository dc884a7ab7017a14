package worktree

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
)

// Git is told what changed in an overlay: all of it lies in the upper layer.
// Without that, the first git status in a task looks at every tracked file
// through overlayfs, which allocates an inode and a dentry for each.
//
// Git asks by its fsmonitor hook, version 2 (githooks(5), fsmonitor-watchman;
// git-config(1), core.fsmonitor). MonitorMain answers it, inside the sandbox.

// MonitorName is the argv[0] under which our executable is git's hook.
const MonitorName = "rcc-fsmonitor"

// Where the hook and what it needs are mounted: the hook itself, the upper
// layer (insideUpper), and the git layer's own git directory.
const (
	insideMonitor = "/rcc/" + MonitorName
	insideLent    = "/rcc/lent"
)

// In the git directory: settings that apply to the tree's own git directory,
// and what its objects are named by with the path of that tree.
const (
	monitorConfig = "rcc-fsmonitor"
	monitorTree   = "rcc-tree"
)

// monitorFloor is the number of files from which on the hook pays. It is a
// process of its own, for 4 to 6 ms, which commands that are not answered pay as
// well. Measured: at 5,400 files git status gains nothing once it has run, at
// 20,000 it takes two thirds of the time, and the first a third.
const monitorFloor = 10_000

// monitorProgram is the file that is shown as the hook; "" when there is none
// that uid (-1: the caller) may run.
func monitorProgram(uid int) string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	fi, err := os.Stat(exe) // it may have been replaced since we were started
	if err != nil || !fi.Mode().IsRegular() || uid >= 0 && fi.Mode().Perm()&0o005 != 0o005 {
		return ""
	}
	return exe
}

// monitor adds to a private git directory what makes git ask the hook. It is
// included on condition: worktrees that the agent adds share the configuration,
// and the hook knows nothing of them. What the agent sets itself comes later in
// the file, and wins.
func (d *gitDir) monitor(tree, format string) {
	d.config = "[includeIf " + quoteSubsection("gitdir:"+quoteGlob(tree)+"/.git") + "]\n\tpath = " + monitorConfig + "\n" + d.config
	d.more = map[string]string{
		monitorConfig: "[core]\n\tfsmonitor = " + insideMonitor + "\n\tfsmonitorHookVersion = 2\n",
		monitorTree:   format + " " + tree,
	}
}

// quoteGlob takes the meaning off the characters that wildmatch.c gives one.
func quoteGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// quoteSubsection writes the part of a section's name that may be anything but
// a newline or a NUL (git-config(1), "Syntax").
func quoteSubsection(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// wantsMonitor tells whether a tree of this many files is to have the hook.
func (t *Tree) wantsMonitor(files int) bool {
	return files >= monitorFloor && !strings.ContainsAny(t.Path, "\n\x00") && monitorProgram(t.UID) != ""
}

// monitorMounts are what the hook needs in the agent's sandbox.
func (t *Tree) monitorMounts() []Mount {
	exe := monitorProgram(t.UID)
	if !t.Monitor || exe == "" {
		return nil
	}
	return []Mount{
		{Source: exe, Target: insideMonitor},
		{Source: t.path(upperName), Target: insideUpper},
		{Source: t.Lower[0] + "/.git", Target: insideLent, MapOwner: t.MapLower},
	}
}

// markedValid returns an index that says that every file is as its entry says,
// to whoever asks the hook what has changed since the hook's token: with the
// extension FSMN in its second version (gitformat-index(5), "File System Monitor
// cache"), whose bitmap of doubtful entries is empty. Git takes submodules out
// by itself (fsmonitor.c, tweak_fsmonitor). The index was read by indexEntries.
func markedValid(index []byte, format string) ([]byte, error) {
	x, err := parseIndex(index, format)
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, index[:x.end]...)
	var last []byte
	headers := indexHash(format)
	add := func(kind string, body []byte) {
		var head [8]byte
		copy(head[:], kind)
		binary.BigEndian.PutUint32(head[4:], uint32(len(body)))
		headers.Write(head[:])
		out = append(append(out, head[:]...), body...)
	}
	err = x.eachExtension(func(kind string, body []byte) {
		switch kind {
		case "FSMN":
		case "EOIE":
			last = body
		default:
			add(kind, body)
		}
	})
	if err != nil {
		return nil, err
	}
	body := binary.BigEndian.AppendUint32(nil, 2)
	body = append(append(body, newToken()...), 0)
	// An empty bitmap as ewah/ewah_io.c writes it: no bits, one word, which is a
	// marker at position 0.
	bitmap := make([]byte, 20)
	bitmap[7] = 1
	body = binary.BigEndian.AppendUint32(body, uint32(len(bitmap)))
	add("FSMN", append(body, bitmap...))
	if len(last) >= 4 {
		// End of Index Entry: it comes last, and has a hash over the kinds and sizes
		// of all others.
		sum := headers.Sum(append([]byte{}, last[:4]...))
		add("EOIE", sum)
	}
	out = append(out, index[len(index)-indexHash(format).Size():]...)
	sealIndex(out, format)
	return out, nil
}

// newToken names one answer of the hook. Git keeps it in the index that it
// writes next, by which the hook recognizes that index. No two are alike.
func newToken() string { return fmt.Sprintf("rcc1:%s", rand.Text()) }
