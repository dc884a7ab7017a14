package devshell

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// features are the arguments for what an evaluation of that kind needs beside
// the user's own settings. A flake needs both of these, and is evaluated purely.
// For a shell.nix it is exactly one, whatever the user's nix.conf has: with
// flakes the evaluation would have fetchTree and getFlake, which copy any folder
// that the user can read into the store and read it there. Nix 2.8 asks nothing
// of either in restricted mode (prim_fetchTree in src/libexpr/primops/fetchTree.cc
// of NixOS/nix); 2.26 and 2.34 hold fetchTree to allowed-uris, and still not getFlake.
func features(kind string) []string {
	if kind == KindFile {
		return []string{"--option", "experimental-features", "nix-command"}
	}
	return []string{"--extra-experimental-features", "nix-command flakes"}
}

// nixRun runs a nix command for the source.
func (m *making) nixRun(ctx context.Context, out *capped, env []string, args ...string) error {
	return m.nixWith(ctx, features(m.source.Kind), out, env, args...)
}

func (m *making) nixWith(ctx context.Context, features []string, out *capped, env []string, args ...string) error {
	// One message in a line, whatever the terminal is, and build logs in errors only.
	args = append(append(slices.Clone(features), "--log-format", "raw"), args...)
	env = append(m.dataHome(), env...)
	return m.nix.run(ctx, call{dir: m.dir, args: args, env: env, out: out, stderr: m.log})
}

// dataName is the folder in which Nix finds nothing while a shell is made.
const dataName = "data"

// dataHome names that folder as the one for the user's data. There Nix keeps
// trusted-settings.json: values of a flake's nixConfig that the user once took
// for good, which then hold for every flake, whatever accept-flake-config says
// (ConfigFile::apply in src/libflake/config.cc of NixOS/nix). A post-build-hook
// among them would run on the host. The other two things that Nix has there
// (getDataDir) are the history of nix repl, and nix/root, the store of a user who
// has none in /nix: no dev shell of such a store can be entered, see makeDataHome.
// NIX_DATA_HOME is looked at first since Nix 2.25.
func (m *making) dataHome() []string {
	dir := filepath.Join(m.dir, dataName)
	return []string{"XDG_DATA_HOME=" + dir, "NIX_DATA_HOME=" + filepath.Join(dir, "nix")}
}

// makeDataHome makes that folder. A link stands where Nix would make a store:
// it takes none that is a link, and says so before it downloads a thing.
func (m *making) makeDataHome() error {
	nix := filepath.Join(m.dir, dataName, "nix")
	if err := os.MkdirAll(nix, 0o700); err != nil {
		return err
	}
	return os.Symlink("no-store-here", filepath.Join(nix, "root"))
}

// evaluation is the command that evaluates the tree, and what its environment needs.
func (m *making) evaluation(ctx context.Context) (args, env []string, err error) {
	args = []string{
		"print-dev-env", "--json", "--profile", filepath.Join(m.dir, profileName),
		"--option", "allow-import-from-derivation", strconv.FormatBool(m.source.ImportFromDerivation),
		"--option", "accept-flake-config", "false",
	}
	if m.source.Kind == KindFile {
		more, env := m.fileEvaluation(ctx)
		return append(args, more...), env, nil
	}
	registry, err := m.registry()
	if err != nil {
		return nil, nil, cacheError(m.cache.dir, err)
	}
	ref := "flake:" + registryName
	if m.source.Attr != "" {
		ref += "#" + escapeFragment(m.source.Attr)
	}
	return append(
		args,
		"--option", "flake-registry", registry,
		// What the user allowed is the content of the lock file: inputs that it does
		// not have could be anything, and are an error. With --no-write-lock-file
		// beside it they would be a warning (LockedFlake lockFlake in
		// src/libflake/flake.cc of NixOS/nix); so nothing is ever written.
		"--no-update-lock-file",
		ref,
	), nil, nil
}

// registryName is what the exported flake is called in our registry.
const registryName = "rcc-dev-shell"

// registry writes a flake registry that names the exported tree. A path: URL
// would do with newer versions; Nix 2.8 neither decodes %20 in its path nor
// takes ?dir= with it, while a registry's entry has both as they are ("Registry
// format" in nix3-registry(1)). Nix looks into it for this one name only: the
// inputs of a locked flake are not indirect.
func (m *making) registry() (string, error) {
	to := map[string]string{"type": "path", "path": m.tree}
	if m.source.Dir != "" {
		to["dir"] = m.source.Dir
	}
	data, err := json.Marshal(map[string]any{
		"version": 2,
		"flakes": []any{map[string]any{
			"from": map[string]string{"type": "indirect", "id": registryName},
			"to":   to,
		}},
	})
	if err != nil {
		return "", err
	}
	file := filepath.Join(m.dir, "registry.json")
	return file, writeWhole(file, data)
}

// escapeFragment is an attribute for the part of a flake reference after #.
func escapeFragment(attr string) string {
	return strings.ReplaceAll(url.QueryEscape(attr), "+", "%20")
}
