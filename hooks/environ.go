package hooks

import (
	"slices"
	"strings"
)

// toMap reads an environment. Of a name that is there twice the first counts,
// as for getenv(3). Names that no shell can assign are left out.
func toMap(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if _, twice := m[name]; !ok || twice || !isName(name) || strings.IndexByte(value, 0) >= 0 {
			continue
		}
		m[name] = value
	}
	return m
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}

// isOwn tells variables that belong to the shell, its terminal, direnv or these
// hooks, and to no dev shell: they are neither set nor restored.
func isOwn(name string) bool {
	switch name {
	case StateVariable, "_", "PWD", "OLDPWD", "SHLVL", "SHELL", "PS1", "PROMPT_COMMAND", "COMP_WORDBREAKS", "COLUMNS", "LINES",
		"HOME", "USER", "LOGNAME", "TERM", "TMP", "TMPDIR", "TEMP", "TEMPDIR", "NIX_BUILD_TOP", "TZ",
		"BASHOPTS", "SHELLOPTS", "UID", "EUID", "PPID", "IFS", "BASH_ENV", "ENV":
		return true
	}
	return slices.Contains(ownFolders, name) || strings.HasPrefix(name, "RCC_") || strings.HasPrefix(name, "DIRENV_") || strings.HasPrefix(name, "__fish")
}

// ownFolders are where rcc, direnv and others of the user's programs keep what
// they believe: a dev shell that named others could hand them a list of what is
// allowed.
var ownFolders = []string{"XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"}

// sortedNames of the variables in any of the environments, without the shell's own.
func sortedNames(environs ...map[string]string) []string {
	seen := map[string]bool{}
	var names []string
	for _, m := range environs {
		for name := range m {
			if !seen[name] && !isOwn(name) {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// joinLists puts the entries of b that a does not have after a, both separated by colons.
func joinLists(a, b string) string {
	var out []string
	for _, list := range []string{a, b} {
		for entry := range strings.SplitSeq(list, ":") {
			if entry != "" && !slices.Contains(out, entry) {
				out = append(out, entry)
			}
		}
	}
	return strings.Join(out, ":")
}
