package hooks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Good remembers, for each folder with an .envrc and each shell named in it, the
// last shell that could be made: it is kept when a later evaluation fails. What
// is in it was allowed when it was made. It is a folder of the user's.
type Good struct{ dir string }

// OpenGood is the memory kept in dir, an absolute path, which need not exist.
// It reads nothing.
func OpenGood(dir string) *Good { return &Good{dir} }

// Put notes the key (devshell's Shell.Key) of the shell that is good now. folder
// is the absolute path of the .envrc's folder, attr what "use rcc" named. It
// writes only when that is news.
func (g *Good) Put(folder, attr, key string) error {
	if strings.ContainsAny(key, "\n\x00") || key == "" {
		return fmt.Errorf("cannot note the last good shell: %q is not a key", key)
	}
	if old, ok := g.Get(folder, attr); ok && old == key {
		return nil
	}
	f, err := openFolder(g.dir, true)
	if err != nil {
		return err
	}
	defer f.close()
	return f.write(goodName(folder, attr), []byte(key+"\n"))
}

// Get is the key of the last good shell.
func (g *Good) Get(folder, attr string) (key string, ok bool) {
	f, err := openFolder(g.dir, false)
	if err != nil {
		return "", false
	}
	defer f.close()
	data, err := f.read(goodName(folder, attr))
	key, ok = strings.CutSuffix(string(data), "\n")
	if err != nil || !ok || key == "" || strings.ContainsAny(key, "\n\x00") {
		return "", false
	}
	return key, true
}

// Keys are the keys of all folders, for whoever collects shells: an error says
// that some may be missing.
func (g *Good) Keys() ([]string, error) {
	f, err := openFolder(g.dir, false)
	if err != nil {
		return nil, err
	}
	defer f.close()
	names, err := f.names()
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, name := range names {
		if !isHex(name, 64) {
			continue
		}
		data, err := f.read(name)
		if err != nil {
			return keys, err
		}
		keys = append(keys, strings.TrimSuffix(string(data), "\n"))
	}
	return keys, nil
}

func goodName(folder, attr string) string {
	sum := sha256.Sum256([]byte(folder + "\x00" + attr))
	return hex.EncodeToString(sum[:])
}
