package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

// sysctls of the namespace: addresses are usable at once, everybody may ping.
func (c worldConfig) sysctls() error {
	groups := "0 2147483647"
	if c.UID != 0 { // of which only one exists in the user namespace
		groups = "0 0"
	}
	for name, value := range map[string]string{
		"ipv6/conf/default/accept_dad": "0",
		"ipv4/ping_group_range":        groups,
	} {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// hostFiles gives the host an /etc of its own, with the internet's name servers.
func (c worldConfig) hostFiles() error {
	top := filepath.Join(c.Dir, "etc")
	if err := os.MkdirAll(top, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("etc", top, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	for _, dir := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o755); err != nil {
			return err
		}
	}
	options := "lowerdir=/etc,upperdir=" + top + "/upper,workdir=" + top + "/work"
	if c.UID != 0 {
		options += ",userxattr"
	}
	if err := syscall.Mount("etc", "/etc", "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay on /etc: %w", err)
	}
	sources, err := os.ReadFile("/etc/nsswitch.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for name, text := range map[string]string{
		"resolv.conf":   "nameserver 93.184.216.53\noptions timeout:2 attempts:2\n",
		"hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"nsswitch.conf": regexp.MustCompile(`(?m)^hosts:.*`).ReplaceAllString(string(sources), "") + "\nhosts: files dns\n",
	} {
		name = filepath.Join("/etc", name)
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
