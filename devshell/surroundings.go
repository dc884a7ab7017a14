package devshell

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// surroundings is what decides the result beside the source, for its key.
func (n *Nix) surroundings(s Source) []string {
	// A store in another place has other paths (nix.conf(5), "store"; nix-store(1)).
	out := []string{getenv(n.environ, "NIX_STORE_DIR"), getenv(n.environ, "NIX_REMOTE")}
	if s.Kind == KindFile {
		out = append(out, n.searchPath()...)
	}
	return out
}

// fileEvaluation are the arguments and variables for a shell.nix. Nix has no
// pure mode for plain files, as <nixpkgs> is not pure. In its restricted mode
// (restrict-eval in nix.conf(5)), and without the feature flakes (see features),
// the evaluation reads the exported tree, the folders of NIX_PATH and what it
// downloads, and nothing else: not the user's keys, his environment
// (builtins.getEnv gives "") or ~/.config/nixpkgs. The key knows of the tree and
// of NIX_PATH; what a download without a hash gives it does not know.
func (m *making) fileEvaluation(ctx context.Context) (args, env []string) {
	args = []string{
		"--option", "restrict-eval", "true",
		"--option", "allowed-uris", "https:// http:// git+https:// git+http:// git+ssh:// ssh:// git:// " +
			"tarball+https:// tarball+http:// github: gitlab: sourcehut:",
		"-I", registryName + "=" + m.tree,
	}
	for _, elem := range m.nix.searchPath() {
		if elem = m.fetched(ctx, elem); elem == "" {
			continue
		}
		args = append(args, "-I", elem)
	}
	args = append(args, "--file", filepath.Join(m.tree, filepath.FromSlash(m.source.file())))
	if m.source.Attr != "" {
		args = append(args, "--", m.source.Attr)
	}
	return args, []string{"NIX_PATH="}
}

// fetched is an element of NIX_PATH with what it names by a flake reference, as
// NixOS does (nixpkgs=flake:nixpkgs), fetched into the store: the evaluation
// lacks the feature to do that. It is the user's own reference, and no file of
// the tree's. One that cannot be fetched is left out, as what does not exist is;
// why is in the log.
func (m *making) fetched(ctx context.Context, elem string) string {
	name, ref, ok := strings.Cut(elem, "=flake:")
	if !ok {
		return elem
	}
	m.options.progress("fetching " + short(plain(ref), 80))
	printed := &capped{max: 64 << 10}
	if err := m.nixWith(ctx, features(KindFlake), printed, nil, "flake", "prefetch", "--json", ref); err != nil {
		return ""
	}
	var tree struct {
		StorePath string `json:"storePath"`
	}
	if json.Unmarshal(printed.buf.Bytes(), &tree) != nil || !isStorePath(tree.StorePath) {
		return ""
	}
	return name + "=" + tree.StorePath
}

// searchPath is NIX_PATH, or Nix's default, with links resolved: a channel that
// was updated leads to another store path then, and so to another key. Restricted
// evaluation also wants the real folders. What does not exist is left out, as Nix does.
func (n *Nix) searchPath() (out []string) {
	value, ok := lookupEnv(n.environ, "NIX_PATH")
	if !ok {
		// getDefaultNixPath in src/libexpr/eval-settings.cc of NixOS/nix.
		state := getenv(n.environ, "NIX_STATE_DIR")
		if state == "" {
			state = "/nix/var/nix"
		}
		channels := state + "/profiles/per-user/root/channels"
		value = getenv(n.environ, "HOME") + "/.nix-defexpr/channels:nixpkgs=" + channels + "/nixpkgs:" + channels
	}
	for _, elem := range splitSearchPath(value) {
		name, place, named := strings.Cut(elem, "=")
		if !named {
			name, place = "", elem
		}
		if !isURL(place) {
			real, err := filepath.EvalSymlinks(place)
			if err != nil || !filepath.IsAbs(real) {
				continue
			}
			place = real
		}
		if named {
			place = name + "=" + place
		}
		if _, err := os.Lstat(place); named || isURL(place) || err == nil {
			out = append(out, place)
		}
	}
	return out
}

// splitSearchPath splits NIX_PATH at its colons, but not at those of a URL.
func splitSearchPath(value string) (out []string) {
	for value != "" {
		_, place, named := strings.Cut(value, "=")
		if !named || strings.Contains(value[:len(value)-len(place)], ":") {
			place = value
		}
		skip := len(value) - len(place)
		if isURL(place) {
			skip += strings.IndexByte(place, ':') + 1
		}
		end := strings.IndexByte(value[skip:], ':')
		if end < 0 {
			return append(out, value)
		}
		if end += skip; end > 0 {
			out = append(out, value[:end])
		}
		value = value[end+1:]
	}
	return out
}

// isURL says whether an element of NIX_PATH is none of the file system.
func isURL(place string) bool {
	scheme, rest, ok := strings.Cut(place, ":")
	if !ok || scheme == "" || strings.ContainsFunc(scheme, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r == '+' || r == '-') }) {
		return false
	}
	return strings.HasPrefix(rest, "//") || scheme == "channel" || scheme == "flake"
}

func lookupEnv(environ []string, name string) (value string, ok bool) {
	for _, kv := range environ {
		if k, v, found := strings.Cut(kv, "="); found && k == name {
			value, ok = v, true
		}
	}
	return value, ok
}
