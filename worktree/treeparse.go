package worktree

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// entry is one line of a tree object.
type entry struct {
	mode mode
	name string
	id   string
}

type mode string

// The modes that a tree may hold (git-fast-import(1), "filemodify";
// 100664 is from the first days of git and still in old histories).
const (
	modeTree   mode = "40000"
	modeFile   mode = "100644"
	modeGroup  mode = "100664"
	modeExec   mode = "100755"
	modeLink   mode = "120000"
	modeModule mode = "160000"
)

// parseTree reads a tree object as strictly as fsck does, and refuses what it
// refuses at any level: other modes, leading zeros, names that lead out of the
// folder or mean .git somewhere, duplicates, wrong order. The error is for a
// person.
func parseTree(data []byte, format string) ([]entry, error) {
	idBytes := idLen(format) / 2
	var entries []entry
	seen := map[string]bool{}
	for len(data) > 0 {
		sp := bytes.IndexByte(data, ' ')
		if sp < 0 || sp > len("160000") {
			return nil, fmt.Errorf("a tree that cannot be read")
		}
		m := mode(data[:sp])
		switch m {
		case modeTree, modeFile, modeGroup, modeExec, modeLink, modeModule:
		default:
			return nil, fmt.Errorf("a tree entry with the mode %q", inert(string(m)))
		}
		data = data[sp+1:]
		nul := bytes.IndexByte(data, 0)
		if nul < 0 || len(data) < nul+1+idBytes {
			return nil, fmt.Errorf("a tree that cannot be read")
		}
		e := entry{mode: m, name: string(data[:nul]), id: hex.EncodeToString(data[nul+1 : nul+1+idBytes])}
		data = data[nul+1+idBytes:]
		if why := checkName(e.name, m == modeLink); why != "" {
			return nil, fmt.Errorf("%s: %s", why, quotePath(e.name))
		}
		if seen[e.name] {
			return nil, fmt.Errorf("a tree with two entries of one name: %s", quotePath(e.name))
		}
		seen[e.name] = true
		if n := len(entries); n > 0 && sortKey(entries[n-1]) >= sortKey(e) {
			return nil, fmt.Errorf("a tree in wrong order: %s", quotePath(e.name))
		}
		if strings.Trim(e.id, "0") == "" {
			return nil, fmt.Errorf("a tree entry without an object: %s", quotePath(e.name))
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// sortKey gives git's order: folders as if their names ended with a slash
// (tree.c, base_name_compare).
func sortKey(e entry) string {
	if e.mode == modeTree {
		return e.name + "/"
	}
	return e.name
}
