package hooks

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kinds of things that are allowed by content.
const (
	KindFlake  = "flake"  // what decides a dev shell: devshell's Source.Content
	KindPolicy = "policy" // a repository's rcc.toml
	KindHost   = "host"   // HOST:PORT, where a repository's lock files lead
	KindEnvrc  = "envrc"  // an .envrc
)

// A File is one of those that decide a content.
type File struct {
	Path string // in the tree, any bytes but NUL
	Mode string // as git has it: "100644"
	ID   string // blob id
}

// A Grant is what the user allowed, and when.
type Grant struct {
	Files                []File // what there was, to tell later what has changed
	ImportFromDerivation bool   // evaluation may build things
	When                 time.Time
}

// Trust is what the user has allowed in one repository: a folder of the user's,
// outside of every repository, with one file for each allowed content, named
// KIND-SHA256. An absent file is a no. Nothing else is ever asked: in
// particular nothing in a checkout, a task's tree or its git directory.
type Trust struct{ dir string }

// OpenTrust is the trust kept in dir, an absolute path, which need not exist.
// It reads nothing.
func OpenTrust(dir string) *Trust { return &Trust{dir} }

// Path is the file whose being there means that the content is allowed; direnv
// and the shells watch it. It is empty when kind or hash are not what they should be.
func (t *Trust) Path(kind, hash string) string {
	name, err := trustName(kind, hash)
	if err != nil {
		return ""
	}
	return filepath.Join(t.dir, name)
}

// Allowed tells whether the user allowed this content, and how. An error, also
// "not allowed", says what in the folder cannot be believed: a link, a folder
// or file of somebody else or that others can write, garbage.
func (t *Trust) Allowed(kind, hash string) (Grant, bool, error) {
	name, err := trustName(kind, hash)
	if err != nil {
		return Grant{}, false, err
	}
	f, err := openFolder(t.dir, false)
	if err != nil {
		return Grant{}, false, err
	}
	defer f.close()
	return readGrant(f, name, kind, hash)
}

// Allow notes that the user allows this content. A zero When is now.
func (t *Trust) Allow(kind, hash string, g Grant) error {
	name, err := trustName(kind, hash)
	if err != nil {
		return err
	}
	if g.When.IsZero() {
		g.When = time.Now()
	}
	kept := grantFile{Kind: kind, Hash: hash, When: g.When, ImportFromDerivation: g.ImportFromDerivation, Files: []string{}}
	for _, file := range g.Files {
		kept.Files = append(kept.Files, file.Mode+" "+file.ID+" "+strconv.Quote(file.Path)) // quoted: JSON has no bytes
	}
	data, err := json.MarshalIndent(kept, "", " ")
	if err != nil {
		return fmt.Errorf("cannot note what is allowed: %w", err)
	}
	if len(data) > maxPrivate {
		return fmt.Errorf("cannot note what is allowed: %d files are too many", len(g.Files))
	}
	f, err := openFolder(t.dir, true)
	if err != nil {
		return err
	}
	defer f.close()
	return f.write(name, append(data, '\n'))
}

// Deny takes it back. That it never was allowed is fine.
func (t *Trust) Deny(kind, hash string) error {
	name, err := trustName(kind, hash)
	if err != nil {
		return err
	}
	f, err := openFolder(t.dir, false)
	if err != nil {
		return err
	}
	defer f.close()
	return f.remove(name)
}

// DenyAll takes back all of a kind.
func (t *Trust) DenyAll(kind string) error {
	f, err := openFolder(t.dir, false)
	if err != nil {
		return err
	}
	defer f.close()
	names, err := f.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := trustHash(kind, name); ok {
			if err := f.remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Last is the most recently allowed content of a kind. What cannot be believed
// is passed over: this is for telling what changed, never for deciding.
func (t *Trust) Last(kind string) (hash string, g Grant, ok bool) {
	f, err := openFolder(t.dir, false)
	if err != nil {
		return "", Grant{}, false
	}
	defer f.close()
	names, err := f.names()
	if err != nil {
		return "", Grant{}, false
	}
	slices.Sort(names)
	for _, name := range names {
		h, is := trustHash(kind, name)
		if !is {
			continue
		}
		if found, is, err := readGrant(f, name, kind, h); is && err == nil && (!ok || found.When.After(g.When)) {
			hash, g, ok = h, found, true
		}
	}
	return hash, g, ok
}

// Changes tells, file by file and sorted by path, how two contents differ:
// "new PATH", "gone PATH", "changed PATH", "mode PATH". Paths are as they are,
// in whatever bytes: show them inert.
func Changes(old, now []File) []string {
	before := map[string]File{}
	for _, f := range old {
		before[f.Path] = f
	}
	type change struct{ path, what string }
	var all []change
	for _, f := range now {
		was, ok := before[f.Path]
		delete(before, f.Path)
		switch {
		case !ok:
			all = append(all, change{f.Path, "new"})
		case was.ID != f.ID:
			all = append(all, change{f.Path, "changed"})
		case was.Mode != f.Mode:
			all = append(all, change{f.Path, "mode"})
		}
	}
	for path := range before {
		all = append(all, change{path, "gone"})
	}
	slices.SortFunc(all, func(a, b change) int { return strings.Compare(a.path, b.path) })
	var out []string
	for _, c := range all {
		out = append(out, c.what+" "+c.path)
	}
	return out
}

// A grantFile is a grant on the disk. Kind and hash are in it too: a file that
// was renamed or copied by hand allows nothing.
type grantFile struct {
	Kind                 string    `json:"kind"`
	Hash                 string    `json:"hash"`
	When                 time.Time `json:"when"`
	ImportFromDerivation bool      `json:"import_from_derivation"`
	Files                []string  `json:"files"`
}

func readGrant(f *folder, name, kind, hash string) (Grant, bool, error) {
	data, err := f.read(name)
	if err != nil || data == nil {
		return Grant{}, false, err
	}
	var kept grantFile
	garbage := fmt.Errorf("cannot believe %s: it is not as rcc wrote it; remove it", filepath.Join(f.path, name))
	if json.Unmarshal(data, &kept) != nil || kept.Kind != kind || kept.Hash != hash {
		return Grant{}, false, garbage
	}
	g := Grant{When: kept.When, ImportFromDerivation: kept.ImportFromDerivation}
	for _, line := range kept.Files {
		mode, rest, ok := strings.Cut(line, " ")
		id, quoted, ok2 := strings.Cut(rest, " ")
		path, err := strconv.Unquote(quoted)
		if !ok || !ok2 || err != nil {
			return Grant{}, false, garbage
		}
		g.Files = append(g.Files, File{path, mode, id})
	}
	return g, true, nil
}

// trustName is the file's name. It cannot leave the folder.
func trustName(kind, hash string) (string, error) {
	if kind == "" || strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz") != "" || !isHex(hash, 64) {
		return "", fmt.Errorf("cannot look up what is allowed: %q %q is not a kind and a SHA-256", kind, hash)
	}
	return kind + "-" + hash, nil
}

func trustHash(kind, name string) (string, bool) {
	hash, ok := strings.CutPrefix(name, kind+"-")
	return hash, ok && isHex(hash, 64)
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
