package hooks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// An Opened is the .envrc of a worktree that rcc open made, and what is known
// about it. Content that is nil means that there is no such file.
type Opened struct {
	Envrc           string // its absolute path, as the user will reach it
	Content         []byte // what is there now: what the agent left
	Base            []byte // what the base commit has
	Checkout        string // absolute path of the same file in the user's checkout
	CheckoutContent []byte
	// Direnv is direnv's data folder: DirenvDataDir.
	Direnv string
}

// DirenvDataDir is where direnv keeps what the user allowed and denied:
// XDG_DATA_HOME/direnv, else HOME/.local/share/direnv.
func DirenvDataDir(environ []string) (string, error) {
	env := toMap(environ)
	dir := env["XDG_DATA_HOME"]
	if dir == "" && env["HOME"] != "" {
		dir = filepath.Join(env["HOME"], ".local", "share")
	}
	if !filepath.IsAbs(dir) {
		return "", errors.New("cannot find direnv's data folder: HOME is not set to an absolute path")
	}
	return filepath.Join(dir, "direnv"), nil
}

// Verdict decides whether direnv may run the worktree's .envrc without being
// asked: only when it is what the base commit has, consists of "use rcc" lines,
// and the user has allowed the very same in his checkout. reason is empty then,
// and otherwise one line for the user; "" too when there is no .envrc at all.
// It only looks at files in direnv's own folder.
func (o Opened) Verdict() (allow bool, reason string) {
	_, plain := ParseEnvrc(o.Content)
	switch {
	case o.Content == nil:
		return false, ""
	case !filepath.IsAbs(o.Envrc) || !filepath.IsAbs(o.Checkout) || !filepath.IsAbs(o.Direnv):
		return false, ".envrc is not allowed: its place is not known by an absolute path"
	case o.Base == nil:
		return false, ".envrc is new in this task; read it before you run: direnv allow"
	case !bytes.Equal(o.Content, o.Base):
		return false, ".envrc was changed in this task; read it before you run: direnv allow"
	case !plain:
		return false, `.envrc has more than "use rcc" lines, which run on the worktree's files; read them before you run: direnv allow`
	case !bytes.Equal(o.CheckoutContent, o.Content):
		return false, ".envrc is another one than in your checkout; read it before you run: direnv allow"
	case mayBeThere(o.direnvDeny(o.Checkout)):
		return false, "you have denied .envrc in your checkout; if you want it here, run: direnv allow"
	case !isThere(o.direnvAllow(o.Checkout)):
		return false, "you have not allowed .envrc in your checkout; if you want it here, run: direnv allow"
	case mayBeThere(o.direnvDeny(o.Envrc)):
		return false, "you have denied this .envrc; if you want it, run: direnv allow"
	}
	return true, ""
}

// AllowOpened does what "direnv allow" would in the worktree, when the verdict
// is yes. path is the file that was written, "" for none; notice is the reason
// against it. Only this content at this path is allowed, never a folder.
func AllowOpened(o Opened) (path, notice string, err error) {
	allow, reason := o.Verdict()
	if !allow {
		return "", reason, nil
	}
	path = o.direnvAllow(o.Envrc)
	if err := replaceFile(path, []byte(o.Envrc+"\n"), 0o644); err != nil { // content and mode as direnv 2.32 has them
		return "", "", fmt.Errorf("cannot allow .envrc for direnv: %w", err)
	}
	return path, "", nil
}

// ForgetOpened takes it back when the worktree goes; that it was not there is fine.
func ForgetOpened(o Opened) error {
	if err := os.Remove(o.direnvAllow(o.Envrc)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot take .envrc back from direnv: %w", err)
	}
	return nil
}

func (o Opened) direnvAllow(path string) string { return AllowFile(o.Direnv, path, o.Content) }

// AllowFile is the file by which direnv knows that the .envrc at an absolute path
// is allowed with this content (fileHash in internal/cmd/rc.go of direnv 2.32).
// data is direnv's data folder.
func AllowFile(data, path string, content []byte) string {
	sum := sha256.Sum256(append([]byte(path+"\n"), content...))
	return filepath.Join(data, "allow", hex.EncodeToString(sum[:]))
}

// direnvDeny is the file by which direnv 2.33 and newer denies a path (pathHash there).
func (o Opened) direnvDeny(path string) string {
	sum := sha256.Sum256([]byte(path + "\n"))
	return filepath.Join(o.Direnv, "deny", hex.EncodeToString(sum[:]))
}

// isThere is for a yes: what cannot be looked at is not there.
func isThere(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// mayBeThere is for a no.
func mayBeThere(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
