package devshell

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// treeTime is the time of all files that Nix evaluates: 1980-01-01, which is
// also nixpkgs' SOURCE_DATE_EPOCH, the first time that a zip file can hold.
const treeTime = 315532800

// settle gives all of a tree that time. self.lastModified of a path: flake is
// the newest time in its folder (src/libfetchers/path.cc in NixOS/nix): it would
// otherwise be the time of the export, and make other derivations of the same
// content each time.
func settle(dir string) error {
	times := []unix.Timespec{{Sec: treeTime}, {Sec: treeTime}}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW)
	})
}
