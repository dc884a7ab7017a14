package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Nft is a file for `nft -f`. Loaded again it takes the place of the table, and
// of no other.
func (t Table) Nft() string {
	return fmt.Sprintf("table inet %s\ndelete table inet %s\n\n%s", tableName, tableName, t)
}

// NixOS is a module's attribute for those who have their firewall in a NixOS
// configuration (networking.nftables.enable has to be true).
func (t Table) NixOS() string {
	lines := strings.Split(strings.TrimSpace(t.String()), "\n")
	var b strings.Builder
	fmt.Fprintf(&b, "networking.nftables.tables.%s = {\n  family = \"inet\";\n  content = ''\n", tableName)
	for _, line := range lines[1 : len(lines)-1] { // the table's own braces are NixOS's
		b.WriteString(strings.TrimRight("  "+strings.ReplaceAll(line, "\t", "  "), " ") + "\n")
	}
	b.WriteString("  '';\n};\n")
	return b.String()
}

// PF is an anchor for macOS and the BSDs (pf.conf(5)). pf tells a flow by the
// effective user id of its socket, and knows no cgroups.
func (w Wall) PF() string {
	var b strings.Builder
	b.WriteString("table <rcc_private> const {")
	for i, p := range slices.Concat(private4(), private6()) {
		if i%4 == 0 {
			b.WriteString(" \\\n   ")
		}
		b.WriteString(" " + prefixText(p))
	}
	b.WriteString(" \\\n}\n")
	users := fmt.Sprintf("user %d >< %d", w.UIDs[0]-1, uint64(w.UIDs[1])+1) // without the borders
	for _, e := range w.exceptions() {
		ports, proto := "", "{ tcp udp }"
		if e.Low != 0 {
			ports, proto = fmt.Sprintf(" port %d:%d", e.Low, e.High), "tcp"
		}
		fmt.Fprintf(&b, "pass out quick %s proto %s to %s%s %s\n", pfFamily(e.Prefix), proto, prefixText(e.Prefix), ports, users)
	}
	fmt.Fprintf(&b, "block return out quick proto { tcp udp } to <rcc_private> %s\n", users)
	return b.String()
}

func pfFamily(p netip.Prefix) string {
	if p.Addr().Is6() {
		return "inet6"
	}
	return "inet"
}

// Unit is a systemd service that loads the table when the machine starts, and
// again when nftables.service is started or reloaded, whose configuration may
// begin with flushing everything. install is the command that loads the table,
// and remove the one that takes it away (systemd.service(5), "COMMAND LINES").
func Unit(install, remove []string) string {
	return fmt.Sprintf(`[Unit]
Description=The second wall of rcc: its tasks and private networks
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=HOME=/root
ExecStart=%s
ExecReload=%s
ExecStop=-%s

[Install]
WantedBy=multi-user.target nftables.service
`, unitCommand(install), unitCommand(install), unitCommand(remove))
}

// unitCommand quotes words for a unit: what it would take for a specifier, a
// variable or an escape stands for itself.
func unitCommand(args []string) string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`)
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = quote.Replace(a)
		if strings.ContainsAny(a, " '\";") {
			words[i] = `"` + words[i] + `"`
		}
	}
	return strings.Join(words, " ")
}
