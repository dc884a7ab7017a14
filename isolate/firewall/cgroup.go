package firewall

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// UserCgroups are the cgroups of tasks of ordinary users that are there now, as
// Wall.Cgroups has them: the slice rcc.slice that a user's systemd has for them.
// None is no error; nor is a machine without cgroup v2.
func UserCgroups() ([]string, error) {
	root, err := cgroupRoot()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found, err := filepath.Glob(filepath.Join(root, "user.slice/user-*.slice/user@*.service/rcc.slice"))
	for i, f := range found {
		found[i] = strings.TrimPrefix(f, root+"/")
	}
	return found, err
}

// cgroupID is the number that the kernel compares with (cgroup_id in
// include/linux/cgroup.h): the inode number of the cgroup's folder.
func cgroupID(path string) (uint64, error) {
	root, err := cgroupRoot()
	if err != nil {
		return 0, err
	}
	fi, err := os.Stat(filepath.Join(root, path))
	if err != nil {
		return 0, fmt.Errorf("cannot find the cgroup %s: %w", path, errors.Unwrap(err))
	}
	return fi.Sys().(*syscall.Stat_t).Ino, nil
}

// cgroupRoot is where the whole cgroup v2 tree is mounted (proc_pid_mountinfo(5));
// the last place, as a later mount may cover an earlier one.
func cgroupRoot() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("cannot find the cgroups: %w", err)
	}
	defer f.Close()
	var root string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		mount, source, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mount)
		if ok && strings.HasPrefix(source, "cgroup2 ") && len(fields) > 4 && fields[3] == "/" {
			root = fields[4]
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("cannot find the cgroups: %w", err)
	}
	if root == "" {
		return "", fmt.Errorf("cannot find the cgroups: cgroup v2 is not mounted: %w", fs.ErrNotExist)
	}
	return root, nil
}
