package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// checksum is a checksum over a checkout and what of its git directory
// decides how git sees it: every file with its mode, links by where they lead,
// HEAD, index, configuration, hooks and refs. Left out are the objects, which
// only ever grow, and what belongs to rcc's own branches.
func checksum(top string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		if outsideChecksum(rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return checksumFile(h, path, rel, d)
	})
	if err != nil {
		return "", fmt.Errorf("cannot fingerprint %s: %w", top, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// outsideChecksum are the object store and rcc's own branches.
func outsideChecksum(rel string) bool {
	for _, p := range []string{".git/objects", ".git/refs/heads/rcc", ".git/logs/refs/heads/rcc"} {
		if rel == p || strings.HasPrefix(rel, p+"/") {
			return true
		}
	}
	return false
}

func checksumFile(w io.Writer, path, rel string, d fs.DirEntry) error {
	fi, err := d.Info()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%q %v ", rel, fi.Mode())
	switch {
	case fi.Mode().IsRegular():
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err != nil {
			return err
		}
		fmt.Fprintf(w, "%x", sum.Sum(nil))
	case fi.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%q", to)
	}
	_, err = fmt.Fprintln(w)
	return err
}
