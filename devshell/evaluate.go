package devshell

import (
	"context"
	"encoding/json"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// nixRun runs a nix command with the features that it needs. The user's own
// settings stay in force beside them.
func (m *making) nixRun(ctx context.Context, out *capped, env []string, args ...string) error {
	args = append([]string{
		"--extra-experimental-features", "nix-command flakes",
		// One message in a line, whatever the terminal is, and build logs in errors only.
		"--log-format", "raw",
	}, args...)
	return m.nix.run(ctx, call{dir: m.dir, args: args, env: env, out: out, stderr: m.log})
}

// evaluation is the command that evaluates the tree, and what its environment needs.
func (m *making) evaluation() (args, env []string, err error) {
	args = []string{
		"print-dev-env", "--json", "--profile", filepath.Join(m.dir, profileName),
		"--option", "allow-import-from-derivation", strconv.FormatBool(m.source.ImportFromDerivation),
		"--option", "accept-flake-config", "false",
	}
	if m.source.Kind == KindFile {
		more, env := m.fileEvaluation()
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
