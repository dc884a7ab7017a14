package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"
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

// Bounds of what is read of them: whoever commits decides how much there is. The
// largest that people have are some megabytes.
const (
	maxLock  = 16 << 20 // one, in bytes
	maxLocks = 32 << 20 // all, in bytes
	lockTime = 2 * time.Second
)

// A lockFile is one of them, at the base commit.
type lockFile struct {
	name, id string
	read     func(data []byte, found func(url string))
}

// locked are the places that the base commit's lock files name. They are
// remembered by the ids of the files: a large one is read once.
func (n netSource) locked(ctx context.Context) placesMemo {
	if n.here {
		return n.lockedHere()
	}
	var files []lockFile
	key := "locks"
	for _, l := range lockFiles {
		if id, ok := n.sight.File(l.name); ok {
			files = append(files, lockFile{l.name, id, l.read})
			key += fmt.Sprintf(" %q %s", l.name, id)
		}
	}
	if len(files) == 0 {
		return placesMemo{}
	}
	return rememberPlaces(n.env.dirs.known(), key, func() (placesMemo, bool) { return n.readLocks(ctx, files, lockTime) })
}

// lockedHere are the places that those in the checkout name, as they are now. Who
// asks for them is a person who waits.
func (n netSource) lockedHere() (memo placesMemo) {
	var s placeSet
	for _, l := range lockFiles {
		content, err := readPlainUpTo(filepath.Join(n.repo.Top, l.name), maxLock)
		if err != nil {
			memo.Failed = append(memo.Failed, netLine{"ignored", oneLine(underlying(err)), projectMark + ": " + l.name})
		}
		l.read(content, func(url string) { s.add(url, l.name) })
	}
	memo.Places = s.list
	return memo
}

// readLocks reads the files, for as long as there is time. What it finds is worth
// remembering unless something went wrong that the files do not decide.
func (n netSource) readLocks(ctx context.Context, files []lockFile, most time.Duration) (memo placesMemo, keep bool) {
	within, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	ids := make([]string, len(files))
	for i, f := range files {
		ids[i] = f.id
	}
	var s placeSet
	fail := func(from, format string, args ...any) {
		memo.Failed = append(memo.Failed, netLine{"ignored", fmt.Sprintf(format, args...), projectMark + ": " + from})
	}
	done := 0
	err := n.repo.SmallBlobs(within, ids, maxLock, maxLocks, func(i int, content []byte) error {
		f := files[i]
		if content == nil {
			fail(f.name, "the file is over %d MiB, or with those before it over %d MiB", maxLock>>20, maxLocks>>20)
		}
		some, err := f.places(within, content)
		if err != nil {
			return err
		}
		for _, p := range some {
			s.addPlace(p)
		}
		done++
		return nil
	})
	memo.Places = s.list
	switch {
	case err != nil && ctx.Err() == nil && within.Err() != nil:
		memo.Late = true
		for _, f := range files[done:] {
			fail(f.name, "it was not read within %v", most)
		}
	case err != nil:
		fail("lock files", "%s", oneLine(err))
		return memo, false
	}
	return memo, true
}

// places reads one of them. What cannot be stopped is not waited for: its end is
// bounded by the file's size.
func (f lockFile) places(ctx context.Context, content []byte) ([]place, error) {
	done := make(chan []place, 1)
	go func() {
		var s placeSet
		f.read(content, func(url string) { s.add(url, f.name) })
		done <- s.list
	}()
	select {
	case found := <-done:
		return found, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
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
