package worktree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// gitDir describes a git directory of ours. It is written as plain files
// (gitrepository-layout(5)): `git init` would read templates and configuration
// of the user's and costs a process.
type gitDir struct {
	head       string // full name of the branch that HEAD stands on; "": no HEAD is written
	config     string
	alternates []string // object stores to borrow from
	shallow    []byte
	exclude    []byte
	packedRefs []byte
	refs       map[string]string // loose refs: name to what the file holds
	more       map[string]string // further files, in the directory itself
}

// write makes the directory with all that git expects in one.
func (d gitDir) write(dir string) error {
	for _, sub := range []string{"", "objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags", "info"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return fmt.Errorf("cannot make a git directory: %w", err)
		}
	}
	return d.writeFiles(dir)
}

// writeFiles writes what is set, and the folders that it lies in.
func (d gitDir) writeFiles(dir string) error {
	files := map[string][]byte{}
	put := func(name, text string) {
		if text != "" {
			files[name] = []byte(text)
		}
	}
	if d.head != "" {
		put("HEAD", "ref: "+d.head+"\n")
	}
	put("config", d.config)
	put("objects/info/alternates", string(alternatesFile(d.alternates)))
	put("shallow", string(d.shallow))
	put("info/exclude", string(d.exclude))
	put("packed-refs", string(d.packedRefs))
	for name, value := range d.refs {
		if !filepath.IsLocal(name) || !strings.HasPrefix(name, "refs/") {
			return fmt.Errorf("cannot write the ref %s", quotePath(name))
		}
		put(name, value+"\n")
	}
	for name, text := range d.more {
		put(name, text)
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("cannot make a git directory: %w", err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("cannot make a git directory: %w", err)
		}
	}
	return nil
}

// alternatesFile quotes only what has to be: git clone takes every line as it is
// (copy_alternates in builtin/clone.c).
func alternatesFile(dirs []string) []byte {
	var b bytes.Buffer
	for _, dir := range dirs {
		if strings.ContainsAny(dir, "\"\n") || strings.HasPrefix(dir, "#") {
			dir = quoteC(dir)
		}
		b.WriteString(dir + "\n")
	}
	return b.Bytes()
}

// formatConfig is the part of a configuration that says how objects are named.
func formatConfig(format string) string {
	if format == "sha256" {
		return "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = sha256\n"
	}
	return "[core]\n\trepositoryformatversion = 0\n"
}

// carried are the settings that decide how files in the tree and blobs
// correspond. Without them a checkout of the user's and the task's would
// differ byte for byte.
var carried = []string{"core.autocrlf", "core.eol"}

func (r *Repo) carriedConfig() string {
	var b strings.Builder
	for _, key := range carried {
		if v := r.config.get(key); v != "" {
			section, name, _ := strings.Cut(key, ".")
			b.WriteString("[" + section + "]\n\t" + name + " = " + quoteConfig(v) + "\n")
		}
	}
	return b.String()
}

// quoteConfig writes a value as git-config(1), "Syntax", wants it.
func quoteConfig(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\b", `\b`, "\x00", "").Replace(v) + `"`
}

// Ident is a name and an address as git records them.
type Ident struct{ Name, Email string }

// identity is whom the agent's commits are by: the user, as the configuration
// says, or a plain stand-in.
func (r *Repo) identity() Ident {
	id := Ident{Name: r.config.get("user.name"), Email: r.config.get("user.email")}
	login := getenv(r.git.env, "USER")
	if login == "" {
		login = "rcc"
	}
	if strings.TrimSpace(id.Name) == "" {
		id.Name = login
	}
	if strings.TrimSpace(id.Email) == "" {
		id.Email = login + "@localhost"
	}
	return id
}

// IdentityConfig is a git configuration file with nothing but who the user is.
func (r *Repo) IdentityConfig() []byte {
	id := r.identity()
	return []byte("[user]\n\tname = " + quoteConfig(id.Name) + "\n\temail = " + quoteConfig(id.Email) + "\n")
}

// identConfig fills in what the user's own commits would lack. git guesses
// from the password file and the host name, and may refuse to.
func (r *Repo) identConfig() []string {
	id := r.identity()
	var c []string
	if r.config.get("user.name") == "" {
		c = append(c, "user.name="+id.Name)
	}
	if r.config.get("user.email") == "" {
		c = append(c, "user.email="+id.Email)
	}
	return c
}

// excludes is what git ignores here besides the tree's own .gitignore files:
// core.excludesFile and then info/exclude. One file with both in this order is
// the same as the two: the last match decides, and info/exclude comes last
// (dir.c, setup_standard_excludes; gitignore(5)).
func (r *Repo) excludes() ([]byte, error) {
	var all []byte
	for _, file := range []string{r.excludesFile(), filepath.Join(r.CommonDir, "info", "exclude")} {
		if file == "" {
			continue
		}
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue // git goes on without it too
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the ignore rules: %w", err)
		}
		data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
		all = append(all, data...)
		if len(data) > 0 && data[len(data)-1] != '\n' {
			all = append(all, '\n')
		}
	}
	return all, nil
}

// excludesFile is core.excludesFile or its default, git-config(1).
func (r *Repo) excludesFile() string {
	home := getenv(r.git.env, "HOME")
	file, set := r.config.get("core.excludesfile"), len(r.config["core.excludesfile"]) > 0
	switch {
	case !set:
		if base := getenv(r.git.env, "XDG_CONFIG_HOME"); base != "" {
			return filepath.Join(base, "git", "ignore")
		}
		if home == "" {
			return ""
		}
		return filepath.Join(home, ".config", "git", "ignore")
	case strings.HasPrefix(file, "~/"):
		return filepath.Join(home, file[2:])
	case file == "":
		return ""
	}
	if !filepath.IsAbs(file) {
		return filepath.Join(r.Path, file)
	}
	return file
}

// shallowFile is the list of commits whose parents are not here
// (gitformat-pack(5), "shallow"), nil in a complete repository.
func (r *Repo) shallowFile() ([]byte, error) {
	if !r.Shallow {
		return nil, nil
	}
	data, err := os.ReadFile(filepath.Join(r.CommonDir, "shallow"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the shallow commits: %w", err)
	}
	return data, nil
}

// packedRefs writes refs in the form of git-pack-refs(1). The header promises
// the order, which lets git search instead of reading the whole file; the space
// at its end belongs to it (refs/packed-backend.c).
func packedRefs(refs map[string]string) []byte {
	names := make([]string, 0, len(refs))
	for name := range refs {
		names = append(names, name)
	}
	sort.Strings(names)
	var b bytes.Buffer
	b.WriteString("# pack-refs with: sorted \n")
	for _, name := range names {
		b.WriteString(refs[name] + " " + name + "\n")
	}
	return b.Bytes()
}
