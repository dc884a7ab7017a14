package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// toolPlaces looks for the places that the configuration of the user's tools
// names. A tool is looked at only where the project has a file for it.
type toolPlaces struct {
	env *surroundings
	has func(name string) bool // in the top folder of the base commit
	top string                 // of the checkout, from which no program is started

	found     placeSet
	committed placeSet // named by a file of the checkout, which others may have written
	failed    []netLine
}

func (t *toolPlaces) find(ctx context.Context) {
	for _, tool := range []struct {
		files []string
		find  func(context.Context)
	}{
		{[]string{"go.mod", "go.work"}, t.goProxies},
		{[]string{"package.json"}, t.npm},
		{[]string{"pyproject.toml", "requirements.txt", "setup.py", "setup.cfg", "Pipfile", "poetry.lock", "uv.lock"}, t.python},
		{[]string{"Cargo.toml"}, t.cargo},
		{[]string{"flake.nix", "shell.nix", "default.nix"}, t.nix},
	} {
		if slices.ContainsFunc(tool.files, t.has) {
			tool.find(ctx)
		}
	}
}

// home is a path below the user's home, "" where there is none.
func (t *toolPlaces) home(name string) string {
	if home := t.env.getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, name)
	}
	return ""
}

// folder is the folder that a variable names, or else one below the home.
func (t *toolPlaces) folder(variable, below string) string {
	if v := t.env.getenv(variable); filepath.IsAbs(v) {
		return v
	}
	return t.home(below)
}

// configDirs are the folders of the machine's configuration (XDG Base Directory
// Specification).
func (t *toolPlaces) configDirs() (out []string) {
	list := t.env.getenv("XDG_CONFIG_DIRS")
	if list == "" {
		list = "/etc/xdg"
	}
	for dir := range strings.SplitSeq(list, ":") {
		if filepath.IsAbs(dir) {
			out = append(out, dir)
		}
	}
	return out
}

// read is a file of a tool; one that is not there is empty.
func (t *toolPlaces) read(path string) []byte {
	if path == "" {
		return nil
	}
	data, err := ReadUserConfig(path)
	if err != nil {
		t.fail(path, err)
	}
	return data
}

func (t *toolPlaces) fail(from string, err error) {
	t.failed = append(t.failed, netLine{"ignored", oneLine(underlying(err)), projectMark + ": " + t.short(from)})
}

// short writes the home as people do.
func (t *toolPlaces) short(path string) string {
	if home := t.env.getenv("HOME"); home != "" {
		if rest, ok := strings.CutPrefix(path, home+"/"); ok {
			return "~/" + rest
		}
	}
	return path
}

// add takes places from words: URLs between white space. from is a file's path or
// a variable.
func (t *toolPlaces) add(words, from string) {
	set := &t.found
	if t.inCheckout(from) {
		set = &t.committed
	}
	for url := range strings.FieldsSeq(words) {
		set.add(url, t.short(from))
	}
}

// inCheckout tells of a path whether it leads into the checkout: variables such as
// CARGO_HOME and VIRTUAL_ENV may.
func (t *toolPlaces) inCheckout(path string) bool {
	if t.top == "" || !filepath.IsAbs(path) {
		return false
	}
	real, err := filepath.EvalSymlinks(path)
	return err == nil && (real == t.top || strings.HasPrefix(real, t.top+"/"))
}

// variables adds what the caller's environment names.
func (t *toolPlaces) variables(names ...string) {
	for _, name := range names {
		t.add(t.env.getenv(name), name)
	}
}

// goProxies asks go for its proxies and its checksum database. The database is a
// name, "NAME+KEY", or either with a URL after it (go help module-auth).
func (t *toolPlaces) goProxies(ctx context.Context) {
	settings := t.env.getenv("GOENV")
	if settings == "" {
		settings = filepath.Join(t.folder("XDG_CONFIG_HOME", ".config"), "go", "env")
	}
	t.ask(ctx, question{
		args: []string{"go", "env", "GOPROXY", "GOSUMDB"}, files: []string{settings}, beside: []string{"../go.env"},
		variables: []string{"GOPROXY", "GOSUMDB", "GOENV", "GOROOT", "GOFLAGS"}, set: []string{"GOTOOLCHAIN=local"},
	}, func(lines []string, found *placeSet) {
		for proxy := range strings.FieldsFuncSeq(lines[0], func(r rune) bool { return r == ',' || r == '|' }) {
			found.add(proxy, "go env GOPROXY")
		}
		if len(lines) < 2 || lines[1] == "off" {
			return
		}
		if name, url, ok := strings.Cut(lines[1], " "); ok {
			found.add(url, "go env GOSUMDB")
		} else {
			name, _, _ = strings.Cut(name, "+")
			found.add("https://"+name, "go env GOSUMDB")
		}
	})
}

// npm reads the user's npmrc, and where nothing names the registry asks npm which
// is its own.
func (t *toolPlaces) npm(ctx context.Context) {
	named := false
	found := func(from string) func(string) {
		return func(url string) {
			named = true
			t.add(url, from)
		}
	}
	for _, name := range []string{"npm_config_registry", "NPM_CONFIG_REGISTRY"} {
		if url := t.env.getenv(name); url != "" {
			found(name)(url)
		}
	}
	path := t.env.getenv("NPM_CONFIG_USERCONFIG")
	if path == "" {
		path = t.home(".npmrc")
	}
	data := t.read(path)
	for line := range strings.Lines(string(data)) {
		if key, _, _ := strings.Cut(line, "="); strings.TrimSpace(key) == "registry" {
			readNPMRC([]byte(line), found(path))
		} else {
			readNPMRC([]byte(line), func(url string) { t.add(url, path) }) // of a scope
		}
	}
	if named {
		return
	}
	t.ask(ctx, question{
		args: []string{"npm", "config", "get", "registry"}, files: []string{path, "/etc/npmrc"}, beside: []string{"../etc/npmrc"},
		variables: []string{"NPM_CONFIG_USERCONFIG", "NPM_CONFIG_GLOBALCONFIG", "NPM_CONFIG_PREFIX", "PREFIX"},
	}, func(lines []string, found *placeSet) { found.add(lines[0], "npm config get registry") })
}

// python reads the configuration of pip (pip's "Configuration", "Location") and of
// uv (uv's "Configuration files").
func (t *toolPlaces) python(context.Context) {
	t.variables("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_FIND_LINKS")
	for index := range strings.FieldsSeq(t.env.getenv("UV_INDEX")) { // URL or NAME=URL
		if name, url, ok := strings.Cut(index, "="); ok && !strings.Contains(name, "/") {
			index = url
		}
		t.add(index, "UV_INDEX")
	}
	config := t.folder("XDG_CONFIG_HOME", ".config")
	files := []string{"/etc/pip.conf", t.home(".pip/pip.conf"), filepath.Join(config, "pip/pip.conf")}
	for _, dir := range t.configDirs() {
		files = append(files, filepath.Join(dir, "pip/pip.conf"))
	}
	if v := t.env.getenv("VIRTUAL_ENV"); filepath.IsAbs(v) {
		files = append(files, filepath.Join(v, "pip.conf"))
	}
	if v := t.env.getenv("PIP_CONFIG_FILE"); filepath.IsAbs(v) && v != os.DevNull {
		files = append(files, v)
	}
	for _, path := range files {
		readPipConf(t.read(path), func(words string) { t.add(words, path) })
	}
	files = []string{"/etc/uv/uv.toml", filepath.Join(config, "uv/uv.toml")}
	for _, dir := range t.configDirs() {
		files = append(files, filepath.Join(dir, "uv/uv.toml"))
	}
	for _, path := range files {
		t.tables(path, func(table string, key string) bool {
			switch key {
			case "index-url", "extra-index-url", "find-links":
				return table == "" || table == "pip"
			}
			return key == "url" && table == "index"
		})
	}
}

// readPipConf reads an INI file of pip's: the values, which may go on in indented
// lines, of the keys that name an index.
func readPipConf(data []byte, found func(words string)) {
	counts := false
	for line := range strings.Lines(string(data)) {
		text := strings.TrimSpace(line)
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case line[0] == ' ' || line[0] == '\t':
			if counts {
				found(text)
			}
		default:
			i := strings.IndexAny(text, "=:")
			if counts = i > 0; !counts {
				continue
			}
			switch strings.ReplaceAll(strings.ToLower(strings.TrimSpace(text[:i])), "_", "-") {
			case "index-url", "extra-index-url", "find-links":
				found(text[i+1:])
			default:
				counts = false
			}
		}
	}
}

// cargo reads the sources and the registries of cargo's configuration (The Cargo
// Book, "Configuration").
func (t *toolPlaces) cargo(context.Context) {
	dir := t.folder("CARGO_HOME", ".cargo")
	for _, name := range []string{"config.toml", "config"} {
		t.tables(filepath.Join(dir, name), func(table, key string) bool {
			switch table {
			case "source":
				return key == "registry" || key == "git"
			case "registries", "registry":
				return key == "index"
			}
			return false
		})
	}
	for _, e := range t.env.environ {
		if name, url, _ := strings.Cut(e, "="); strings.HasPrefix(name, "CARGO_REGISTRIES_") && strings.HasSuffix(name, "_INDEX") {
			t.add(url, name)
		}
	}
}

// tables adds the strings of a TOML file whose key, in a top-level table or one
// below it, is wanted.
func (t *toolPlaces) tables(path string, wanted func(table, key string) bool) {
	var root map[string]any
	if err := toml.Unmarshal(t.read(path), &root); err != nil {
		t.fail(path, fmt.Errorf("it is no TOML"))
		return
	}
	var walk func(table, key string, v any)
	walk = func(table, key string, v any) {
		switch v := v.(type) {
		case string:
			if wanted(table, key) {
				t.add(v, path)
			}
		case []any:
			for _, e := range v {
				walk(table, key, e)
			}
		case map[string]any:
			if table == "" {
				table = key
			}
			for k, e := range v {
				walk(table, k, e)
			}
		}
	}
	for key, v := range root {
		walk("", key, v)
	}
}

// nix reads the substituters of nix.conf(5) and of NIX_CONFIG. What these files
// include is not followed.
func (t *toolPlaces) nix(context.Context) {
	dir := t.env.getenv("NIX_CONF_DIR")
	if !filepath.IsAbs(dir) {
		dir = "/etc/nix"
	}
	files := []string{filepath.Join(dir, "nix.conf")}
	if list := t.env.getenv("NIX_USER_CONF_FILES"); list != "" {
		files = append(files, strings.Split(list, ":")...)
	} else {
		for _, dir := range append(t.configDirs(), t.folder("XDG_CONFIG_HOME", ".config")) {
			files = append(files, filepath.Join(dir, "nix", "nix.conf"))
		}
	}
	for _, path := range files {
		if filepath.IsAbs(path) {
			t.substituters(string(t.read(path)), path)
		}
	}
	t.substituters(t.env.getenv("NIX_CONFIG"), "NIX_CONFIG")
}

func (t *toolPlaces) substituters(config, from string) {
	for line := range strings.Lines(config) {
		line, _, _ = strings.Cut(line, "#")
		key, value, _ := strings.Cut(line, "=")
		switch strings.TrimSpace(key) {
		case "substituters", "extra-substituters", "binary-caches", "extra-binary-caches":
			t.add(value, from)
		}
	}
}
