package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// lockFiles are the files of a project that name where its parts come from. Each
// reader tells the URLs that it finds and never fails: what it cannot read names
// nothing.
var lockFiles = []struct {
	name string
	read func(data []byte, found func(url string))
}{
	{".npmrc", readNPMRC},
	{"package-lock.json", readPackageLock},
	{"npm-shrinkwrap.json", readPackageLock},
	{"yarn.lock", readYarnLock},
	{"pnpm-lock.yaml", readPnpmLock},
	{"Cargo.lock", readAssigned("source")},
	{"poetry.lock", readAssigned("url")},
	{"uv.lock", readAssigned("url", "registry", "git")},
	{"Pipfile.lock", readPipfileLock},
	{"Gemfile.lock", readGemfileLock},
	{"composer.lock", readComposerLock},
}

// maxLock bounds one of them, in bytes. The largest that people have are some
// megabytes.
const maxLock = 16 << 20

// knownName is the folder of what was found in the cache.
const knownName = ".known"

// knownVersion counts with every change of what is found in the same files.
const knownVersion = 1

func (d dirs) known() string { return filepath.Join(d.Cache, knownName) }

// locked are the places that the base commit's lock files name. They are
// remembered by the ids of the files: a large one is read once.
func (n netSource) locked(ctx context.Context) (places []place, failed []netLine) {
	var names, ids []string
	var readers []func([]byte, func(string))
	for _, l := range lockFiles {
		if id, ok := n.sight.File(l.name); ok {
			names, ids, readers = append(names, l.name), append(ids, id), append(readers, l.read)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	return rememberPlaces(n.env.dirs.known(), fmt.Sprintf("locks %q %q", names, ids), func() (s placeSet, failed []netLine) {
		err := n.repo.SmallBlobs(ctx, ids, maxLock, func(i int, content []byte) error {
			if content == nil {
				failed = append(failed, netLine{"ignored", fmt.Sprintf("the file is over %d MiB", maxLock>>20), names[i]})
			}
			readers[i](content, func(url string) { s.add(url, names[i]) })
			return nil
		})
		if err != nil {
			failed = append(failed, netLine{"ignored", oneLine(err), strings.Join(names, ", ")})
		}
		return s, failed
	})
}

// A placesMemo is what was found, in the cache. What was damaged has another key.
type placesMemo struct {
	Key    string  `json:"key"`
	Places []place `json:"places"`
}

// rememberPlaces is what find finds, which is looked for once for a key. What did
// not go well is not remembered.
func rememberPlaces(cache, key string, find func() (placeSet, []netLine)) ([]place, []netLine) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", knownVersion, key))
	key = hex.EncodeToString(sum[:])
	file := filepath.Join(cache, key)
	var memo placesMemo
	if readJSON(file, &memo) == nil && memo.Key == key {
		return memo.Places, nil
	}
	found, failed := find()
	if len(failed) == 0 && os.MkdirAll(cache, 0o700) == nil {
		_ = writeJSON(file, placesMemo{key, found.list}, false) // it is found again next time
	}
	return found.list, failed
}

// readPackageLock reads the values of "resolved" in package-lock.json. Inside of
// a string a quote is escaped, so what stands between bare ones and before a colon
// is a key.
func readPackageLock(data []byte, found func(string)) {
	key := []byte(`"resolved"`)
	for {
		i := bytes.Index(data, key)
		if i < 0 {
			return
		}
		data = bytes.TrimLeft(data[i+len(key):], " \t\r\n")
		rest, ok := bytes.CutPrefix(data, []byte(":"))
		if !ok {
			continue
		}
		if rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(`"`)); !ok {
			continue
		}
		if end := bytes.IndexByte(rest, '"'); end >= 0 {
			found(string(rest[:end]))
		}
	}
}

// readYarnLock reads yarn.lock: of yarn 1 lines `resolved "URL"`, of later ones
// `resolution: "NAME@URL"`.
func readYarnLock(data []byte, found func(string)) {
	for line := range bytes.Lines(data) {
		text := strings.TrimSpace(string(line))
		if url, ok := strings.CutPrefix(text, "resolved "); ok {
			found(strings.Trim(url, `"`))
			continue
		}
		if value, ok := strings.CutPrefix(text, "resolution: "); ok {
			value = strings.Trim(value, `"`)
			if i := strings.Index(value, "://"); i > 0 {
				found(value[strings.LastIndexByte(value[:i], '@')+1:])
			}
		}
	}
}

// readPnpmLock reads the tarballs and git repositories of pnpm-lock.yaml:
// `resolution: {integrity: ..., tarball: URL}`, also one key to a line.
func readPnpmLock(data []byte, found func(string)) {
	for line := range bytes.Lines(data) {
		for _, key := range []string{"tarball: ", "repo: "} {
			_, value, ok := strings.Cut(string(line), key)
			if !ok {
				continue
			}
			if end := strings.IndexAny(value, ",} \t\r\n"); end >= 0 {
				value = value[:end]
			}
			found(strings.Trim(value, `"'`))
		}
	}
}

// readAssigned reads lines of TOML as lock files are written: KEY = "VALUE",
// alone or in an inline table.
func readAssigned(keys ...string) func([]byte, func(string)) {
	return func(data []byte, found func(string)) {
		for _, key := range keys {
			start := []byte(key + ` = "`)
			for rest := data; ; {
				i := bytes.Index(rest, start)
				if i < 0 {
					break
				}
				whole := i == 0 || strings.IndexByte(" \t\n{,", rest[i-1]) >= 0
				rest = rest[i+len(start):]
				end := bytes.IndexAny(rest, "\"\n")
				if end < 0 {
					break
				}
				if whole {
					found(string(rest[:end]))
				}
				rest = rest[end:]
			}
		}
	}
}

// readGemfileLock reads the lines `remote: URL` of Gemfile.lock.
func readGemfileLock(data []byte, found func(string)) {
	for line := range bytes.Lines(data) {
		if url, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "remote: "); ok {
			found(url)
		}
	}
}

// readPipfileLock reads the sources of Pipfile.lock and what comes from git.
func readPipfileLock(data []byte, found func(string)) {
	var lock map[string]json.RawMessage
	if json.Unmarshal(data, &lock) != nil {
		return
	}
	for section, raw := range lock {
		if section == "_meta" {
			var meta struct{ Sources []struct{ URL string } }
			_ = json.Unmarshal(raw, &meta)
			for _, s := range meta.Sources {
				found(s.URL)
			}
			continue
		}
		var packages map[string]struct{ Git, File string }
		_ = json.Unmarshal(raw, &packages) // what has another form is left out
		for _, p := range packages {
			found(p.Git)
			found(p.File)
		}
	}
}

// readComposerLock reads where composer.lock has sources and archives.
func readComposerLock(data []byte, found func(string)) {
	type fetched struct{ Source, Dist struct{ URL string } }
	var lock struct {
		Packages []fetched
		Dev      []fetched `json:"packages-dev"`
	}
	_ = json.Unmarshal(data, &lock) // what has another form is left out
	for _, p := range append(lock.Packages, lock.Dev...) {
		found(p.Source.URL)
		found(p.Dist.URL)
	}
}

// readNPMRC reads the registries of an npmrc(5): `registry=URL` and
// `@SCOPE:registry=URL`.
func readNPMRC(data []byte, found func(string)) {
	for line := range bytes.Lines(data) {
		key, value, ok := strings.Cut(string(line), "=")
		key = strings.TrimSpace(key)
		if ok && (key == "registry" || strings.HasPrefix(key, "@") && strings.HasSuffix(key, ":registry")) {
			found(strings.Trim(strings.TrimSpace(value), `"'`))
		}
	}
}
