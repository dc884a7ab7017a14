package firewall

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What other programs read is as it was looked at.
func TestEmitGolden(t *testing.T) {
	w := Wall{UIDs: taskUIDs, Accept: []Exception{exception(t, "10.1.2.0/24:5432"), exception(t, "fd00::1")}}
	table, err := w.Table()
	if err != nil {
		t.Fatal(err)
	}
	unit := Unit([]string{"/opt/a b/rcc", "firewall", "install", "--allow", "50%$x"}, []string{"/usr/bin/rcc", "firewall", "remove"})
	for name, got := range map[string]string{"emit.nft": table.Nft(), "emit.nix": table.NixOS(), "emit.pf": w.PF(), "emit.service": unit} {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; look at it with go test -update and git diff:\n%s", file, got)
		}
	}
}

// The nft file can be loaded twice, beside other tables; and what NixOS puts
// between the braces of a table is the table.
func TestEmitLoads(t *testing.T) {
	need(t, "nft")
	if !inNamespace(t) {
		return
	}
	table := someTables(t)["exceptions"]
	command(t, "add table inet other\n", "nft", "-f", "-")
	_, content, _ := strings.Cut(table.NixOS(), "''")
	content, _, _ = strings.Cut(content, "''")
	for _, text := range []string{table.Nft(), table.Nft(), "delete table inet rcc\ntable inet rcc {\n" + content + "\n}\n"} {
		command(t, text, "nft", "-f", "-")
		l, err := Read()
		if err != nil || l == nil {
			t.Fatal(l, err)
		}
		if diff, err := l.Differs(table); err != nil || len(diff) > 0 {
			t.Errorf("differs: %q, %v\n%s", diff, err, text)
		}
	}
	if got := command(t, "", "nft", "list", "tables"); !strings.Contains(got, "table inet other") {
		t.Errorf("another table is gone: %s", got)
	}
}
