package hooks

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// direnvWatches is where direnv keeps which files it watches: base64 (RFC 4648,
// for URLs) of zlib of a JSON list (gzenv and file_times.go of direnv; names of
// fields are capital in 2.32, small in newer ones, and read either way).
const direnvWatches = "DIRENV_WATCHES"

// maxDirenvWatches bounds the list, unpacked, in bytes.
const maxDirenvWatches = 16 << 20

// watches adds the files to direnv's list: by a new value of the variable, or,
// where that cannot be read, by watch_file, which costs a process.
func (d Direnv) watches(env map[string]string) string {
	if len(d.Watch) == 0 {
		return ""
	}
	if value, ok := addWatches(env[direnvWatches], d.Watch, d.Since); ok {
		return "export " + direnvWatches + "=" + value + "\n"
	}
	text := "watch_file"
	for _, file := range d.Watch {
		text += " " + quotePosix(file)
	}
	return text + "\n"
}

func addWatches(value string, files []string, since time.Time) (string, bool) {
	text, ok := unpackWatches(value)
	if !ok {
		return "", false
	}
	var list []json.RawMessage // kept as they are, whatever is in them
	if json.Unmarshal(text, &list) != nil || len(list) == 0 {
		return "", false
	}
	have := map[string]bool{}
	small := false
	for _, raw := range list {
		var entry map[string]json.RawMessage
		if json.Unmarshal(raw, &entry) != nil {
			return "", false
		}
		var path string
		if json.Unmarshal(entry["Path"], &path) != nil {
			if json.Unmarshal(entry["path"], &path) != nil {
				return "", false
			}
			small = true
		}
		have[path] = true
	}
	for _, file := range files {
		if !filepath.IsAbs(file) || !json.Valid(jsonString(file)) {
			return "", false
		}
		file = filepath.Clean(file)
		if have[file] {
			continue
		}
		have[file] = true
		raw, ok := watchEntry(file, small, since)
		if !ok {
			return "", false
		}
		list = append(list, raw)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return "", false
	}
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	w.Write(text) // a Buffer takes everything
	w.Close()
	out := base64.URLEncoding.EncodeToString(b.Bytes())
	return out, len(out) < 120<<10 // more than 128 KiB no program could be started with: execve(2)
}

func unpackWatches(value string) ([]byte, bool) {
	packed, err := base64.URLEncoding.DecodeString(value)
	if err != nil || len(packed) == 0 {
		return nil, false
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, false
	}
	text, err := io.ReadAll(io.LimitReader(r, maxDirenvWatches+1))
	return text, err == nil && len(text) <= maxDirenvWatches
}

// watchEntry is what direnv notes of a file: the later time, in seconds, of a
// link and what it leads to. Of one that changed after since another time is noted, so
// that direnv looks at it again.
func watchEntry(file string, small bool, since time.Time) (json.RawMessage, bool) {
	modified, exists := int64(0), true
	link, err := os.Lstat(file)
	var target os.FileInfo
	if err == nil {
		target, err = os.Stat(file)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		exists = false
	case err != nil:
		return nil, false
	default:
		at := target.ModTime()
		if link.ModTime().Unix() > at.Unix() {
			at = link.ModTime()
		}
		modified = at.Unix()
		if !since.IsZero() && at.After(since.Add(-clockSlack)) {
			modified--
		}
	}
	var entry any = struct {
		Path    string
		Modtime int64
		Exists  bool
	}{file, modified, exists}
	if small {
		entry = struct {
			Path    string `json:"path"`
			Modtime int64  `json:"modtime"`
			Exists  bool   `json:"exists"`
		}{file, modified, exists}
	}
	raw, err := json.Marshal(entry)
	return raw, err == nil
}

// jsonString is the path as JSON, or nothing valid when JSON cannot say it.
func jsonString(path string) []byte {
	if strings.ToValidUTF8(path, "") != path {
		return nil
	}
	raw, _ := json.Marshal(path)
	return raw
}
