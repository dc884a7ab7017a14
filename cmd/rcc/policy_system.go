package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// systemPolicyPath is the ceiling of all policies on this machine.
const systemPolicyPath = "/etc/rcc/policy.toml"

// readSystemPolicy reads the ceiling; nil where there is none. owner is the user
// id that it has to belong to, which is root's but in tests. A file that
// somebody else could have written is an error and not passed over: it may be
// that the real one was moved away.
func readSystemPolicy(path string, owner int) (*netLayer, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // not for ever on a pipe
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w; it bounds what tasks may reach, so nothing starts without it", path, underlying(err))
	}
	defer f.Close()
	if err := checkOwned(f, path, owner); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1)) // decode refuses what is over the limit
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, underlying(err))
	}
	return decodeSystemPolicy(path, data)
}

// checkOwned refuses a file that somebody else may write, or put another in the
// place of: the opened file, and the folders above its real path.
func checkOwned(f *os.File, path string, owner int) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", path, underlying(err))
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("cannot believe %s: it is not an ordinary file", path)
	}
	if why := notOwned(info, owner); why != "" {
		return fmt.Errorf("cannot believe %s: %s; mend it as root: chown root %s; chmod 644 %s", path, why, path, path)
	}
	for _, p := range []string{path, realPath(path)} {
		for dir := filepath.Dir(p); ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil {
				return fmt.Errorf("cannot read %s: %w", path, err)
			}
			if why := notOwned(info, owner); why != "" {
				return fmt.Errorf("cannot believe %s: the folder %s: %s; mend it as root: chown root %s; chmod 755 %s", path, dir, why, dir, dir)
			}
			if dir == "/" {
				break
			}
		}
	}
	return nil
}

// realPath is a path without links, such as one into a store of packages.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// notOwned says who else than the owner, or root, could change it. A folder with
// the sticky bit lets nobody else replace what is in it (unlink(2), EPERM).
func notOwned(info fs.FileInfo, owner int) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return "its owner is not known"
	case int(st.Uid) != owner && st.Uid != 0:
		return fmt.Sprintf("it belongs to user %d", st.Uid)
	case info.Mode().Perm()&0o022 != 0 && !(info.IsDir() && info.Mode()&fs.ModeSticky != 0):
		return fmt.Sprintf("others can write it (mode %04o)", info.Mode().Perm())
	}
	return ""
}

// decodeSystemPolicy reads its keys: net is the widest that there may be, allow
// what every flow has to match too, deny what is denied on top, forward and
// publish the ports that there may be. What is not set bounds nothing.
func decodeSystemPolicy(name string, data []byte) (*netLayer, error) {
	d, err := parseConfig(Inert(name), data)
	if err != nil {
		return nil, err
	}
	top := configSection{d, nil, d.root}
	top.known(layerKeys...)
	l := decodeLayer(top, false)
	for i, r := range l.Allow.Value {
		if r.Name == projectMark {
			top.itemProblem("allow", i, "allow cannot have %s here: what a project needs is not for a project to decide; name the hosts", projectMark)
		}
	}
	if d.wrong != "" {
		return nil, fmt.Errorf("%s:%d: %s", d.name, d.wrongLine, d.wrong)
	}
	return &l, nil
}
