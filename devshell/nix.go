package devshell

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrAbsent says that there is no nix on PATH.
var ErrAbsent = errors.New("cannot find nix on PATH: install Nix (for example: apt install nix-bin), or use --shell host")

// Nix is the nix program. It is the only thing in rcc that starts it.
type Nix struct {
	path    string   // absolute
	environ []string // the caller's, complete
}

// Find finds nix on the PATH of environ, in absolute entries only: a program
// named nix in the current folder is not looked at. It starts nothing. The
// environment is what Nix's processes get: the user's own nix.conf and
// NIX_CONFIG stay in force (nix.conf(5)).
func Find(environ []string) (*Nix, error) {
	for dir := range strings.SplitSeq(getenv(environ, "PATH"), ":") {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, "nix")
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return &Nix{path: file, environ: environ}, nil
		}
	}
	return nil, ErrAbsent
}

// Path is where the program lies.
func (n *Nix) Path() string { return n.path }

// versionLimit bounds the time in which nix tells its version.
const versionLimit = 20 * time.Second

// Version is what nix says of itself, such as "2.8.0"; for another
// implementation with its name, such as "2.91.1 (Lix, like Nix)". It starts a
// process: Cache.Version remembers.
func (n *Nix) Version(ctx context.Context) (string, error) {
	return n.versionIn(ctx, versionLimit)
}

func (n *Nix) versionIn(ctx context.Context, limit time.Duration) (string, error) {
	inTime, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out := &capped{max: 4 << 10}
	stderr := &capped{max: 4 << 10}
	err := n.run(inTime, call{dir: "/", args: []string{"--version"}, out: out, stderr: stderr})
	if err != nil && ctx.Err() == nil && inTime.Err() != nil {
		err = fmt.Errorf("did not answer in %s", limit)
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("cannot run %s: %w", visible(n.path), context.Cause(ctx))
	}
	if err != nil {
		why := err.Error()
		if said := lastWords(stderr.buf.String()); said != "" {
			why += ": " + said
		}
		return "", fmt.Errorf("cannot use %s: it %s; mend it, or use --shell host", visible(n.path), why)
	}
	version, ok := parseVersion(out.buf.String())
	if !ok {
		return "", fmt.Errorf("cannot use %s: it says %q and not which Nix it is; put Nix itself on PATH, or use --shell host", visible(n.path), short(plain(firstLine(out.buf.String())), 60))
	}
	return version, nil
}

// parseVersion reads "nix (Nix) 2.8.0", "nix (Lix, like Nix) 2.91.1",
// "nix (Determinate Nix 3.8.5) 2.30.2".
func parseVersion(text string) (string, bool) {
	rest, ok := strings.CutPrefix(firstLine(text), "nix (")
	name, number, ok2 := strings.Cut(rest, ") ")
	if !ok || !ok2 || number == "" || len(number) > 100 || len(name) > 100 || number[0] < '0' || number[0] > '9' {
		return "", false
	}
	if name != "Nix" {
		number += " (" + name + ")"
	}
	return number, true
}

// identity tells this nix program from any other, and from what it was before
// an update.
func (n *Nix) identity() (string, error) {
	file, err := filepath.EvalSymlinks(n.path)
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("the system does not tell files apart")
	}
	h := sha256.New()
	frame(h, file, fmt.Sprint(st.Dev, st.Ino, st.Size, fi.ModTime().UnixNano()))
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// memoPrefix begins the names of files that remember a version.
const memoPrefix = "nix-"

// Version is Nix.Version, remembered under the program's identity (real path,
// device, inode, size, time of change): asked again only after an update, or if
// the cache cannot be written.
func (c *Cache) Version(ctx context.Context, n *Nix) (string, error) {
	id, err := n.identity()
	if err != nil {
		return "", fmt.Errorf("cannot look at %s: %w", visible(n.path), err)
	}
	memo := filepath.Join(c.dir, memoPrefix+id)
	if data, err := readBounded(memo, 4<<10); err == nil {
		if version, ok := parseVersion(string(data)); ok {
			return version, nil
		}
	}
	version, err := n.Version(ctx)
	if err != nil {
		return "", err
	}
	text := "nix (Nix) " + version
	if number, name, ok := strings.Cut(version, " ("); ok {
		text = "nix (" + strings.TrimSuffix(name, ")") + ") " + number
	}
	if os.MkdirAll(c.dir, 0o700) == nil {
		_ = writeWhole(memo, []byte(text+"\n"))
	}
	return version, nil
}

// getenv is the last value of name in environ: later entries win in os/exec too.
func getenv(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			value = v
		}
	}
	return value
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}
