package firewall

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// UnitPath is where the service of Unit belongs.
const UnitPath = "/etc/systemd/system/rcc-firewall.service"

// Boot says how the machine's own firewall treats our table. Firewalld and ufw
// touch none but their own and are not looked at.
type Boot struct {
	// Keeper is the file that loads the table when the machine starts; "" when
	// nothing is found to.
	Keeper string `json:"keeper"`
	// Flusher is the file that throws all tables away when the machine's firewall
	// is loaded or reloaded (`flush ruleset`); "" when there is none.
	Flusher string `json:"flusher"`
}

// Lost tells whether a reload of the machine's firewall takes the table away for
// good.
func (b Boot) Lost() bool { return b.Flusher != "" && b.Keeper == "" }

// configurations are where nftables.service of distributions reads its rules:
// Debian and Arch; Fedora; Alpine.
var configurations = []string{"etc/nftables.conf", "etc/sysconfig/nftables.conf", "etc/nftables.nft"}

// LookBoot reads the configuration below root, "/" for that of this machine. A
// file of it may be unreadable to an ordinary user.
func LookBoot(root string) (Boot, error) {
	var b Boot
	enabled, err := filepath.Glob(filepath.Join(root, "etc/systemd/system/*.wants", filepath.Base(UnitPath)))
	if err == nil && len(enabled) > 0 {
		b.Keeper = UnitPath
	}
	for _, name := range configurations {
		if err := b.lookFile(root, "/"+name, true); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return b, fmt.Errorf("cannot tell whether the machine's firewall keeps rcc's table: %w", err)
		}
	}
	return b, nil
}

// maxConfiguration bounds what is read of one file, in bytes.
const maxConfiguration = 1 << 20

// lookFile reads a file of nft(8) for what concerns our table, and the files that
// it includes.
func (b *Boot) lookFile(root, name string, follow bool) error {
	f, err := os.Open(filepath.Join(root, name))
	if err != nil {
		return err
	}
	defer f.Close()
	include := regexp.MustCompile(`^\s*include\s+"([^"]+)"`)
	flush := regexp.MustCompile(`(^|;)\s*flush\s+ruleset\b`)
	table := regexp.MustCompile(`(^|;)\s*(add\s+)?table\s+inet\s+` + tableName + `\s*\{`)
	lines := bufio.NewScanner(io.LimitReader(f, maxConfiguration))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if flush.MatchString(line) && b.Flusher == "" {
			b.Flusher = name
		}
		if table.MatchString(line) && b.Keeper == "" {
			b.Keeper = name
		}
		m := include.FindStringSubmatch(line)
		if m == nil || !follow {
			continue
		}
		found, err := filepath.Glob(filepath.Join(root, includePath(m[1])))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, file := range found {
			if err := b.lookFile(root, "/"+strings.TrimPrefix(strings.TrimPrefix(file, filepath.Clean(root)), "/"), false); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// includePath is what an include statement means: nft looks in its own folder
// for a relative path, which is /etc in most builds (nft(8), "INCLUDE FILES").
func includePath(included string) string {
	if filepath.IsAbs(included) {
		return included
	}
	return filepath.Join("/etc", included)
}
