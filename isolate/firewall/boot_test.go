package firewall

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLookBoot(t *testing.T) {
	const flush = "#!/usr/sbin/nft -f\n\nflush ruleset\n\ntable inet filter {\n}\n"
	const unit = "etc/systemd/system/multi-user.target.wants/rcc-firewall.service"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  Boot
	}{
		{"nothing", nil, Boot{}},
		{"Debian", map[string]string{"etc/nftables.conf": flush}, Boot{Flusher: "/etc/nftables.conf"}},
		{"Fedora", map[string]string{"etc/sysconfig/nftables.conf": "include \"/etc/nftables/main.nft\"\n", "etc/nftables/main.nft": "flush  ruleset;\n"}, Boot{Flusher: "/etc/nftables/main.nft"}},
		{"a comment", map[string]string{"etc/nftables.conf": "# flush ruleset\n#include \"/etc/x.nft\"\n", "etc/x.nft": flush}, Boot{}},
		{"another flush", map[string]string{"etc/nftables.conf": "flush table inet filter\nflush rulesets\n"}, Boot{}},
		{"in one line", map[string]string{"etc/nftables.conf": "add table ip x; flush ruleset # all\n"}, Boot{Flusher: "/etc/nftables.conf"}},
		{"included", map[string]string{"etc/nftables.conf": flush + "include \"/etc/nftables.d/*.nft\"\n", "etc/nftables.d/rcc.nft": Table{}.Nft()}, Boot{"/etc/nftables.d/rcc.nft", "/etc/nftables.conf"}},
		{"included by a relative path", map[string]string{"etc/nftables.conf": flush + "include \"rcc.nft\"\n", "etc/rcc.nft": Table{}.Nft()}, Boot{"/etc/rcc.nft", "/etc/nftables.conf"}},
		{"another table", map[string]string{"etc/nftables.conf": "table inet rccx {\n}\ntable ip rcc {\n}\n"}, Boot{}},
		{"includes itself", map[string]string{"etc/nftables.conf": "include \"/etc/nftables.conf\"\nflush ruleset\n"}, Boot{Flusher: "/etc/nftables.conf"}},
		{"a service", map[string]string{"etc/nftables.conf": flush, unit: ""}, Boot{UnitPath, "/etc/nftables.conf"}},
		{"a service that is not enabled", map[string]string{UnitPath[1:]: ""}, Boot{}},
	} {
		root := t.TempDir()
		for name, content := range tt.files {
			file := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := LookBoot(root); err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}
