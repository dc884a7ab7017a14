package firewall

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

var update = flag.Bool("update", false, "write the golden files")

// someTables are those that the tests look at, by the name of the golden file.
func someTables(t *testing.T) map[string]Table {
	t.Helper()
	wall := Wall{UIDs: taskUIDs}
	for _, e := range []string{"10.1.2.0/23:5432", "10.1.2.0/24:8000-8080", "10.9.0.1", "fd00:1::/32", "[fd00:2::1]:443"} {
		wall.Accept = append(wall.Accept, exception(t, e))
	}
	full, err := wall.table(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Wall{UIDs: taskUIDs}.Table()
	if err != nil {
		t.Fatal(err)
	}
	cgroups, err := Wall{Cgroups: []string{"a.slice/b.slice"}}.table(func(string) (uint64, error) { return 0x1234, nil })
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Table{"task": Task(TaskRules{Listener: 1, LogGroup: 1}), "wall": plain, "exceptions": full, "cgroups": cgroups}
}

func exception(t *testing.T, s string) Exception {
	t.Helper()
	e, err := ParseException(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The bytes that the kernel gets, below the text that stands for them.
func TestGolden(t *testing.T) {
	for name, table := range someTables(t) {
		t.Run(name, func(t *testing.T) {
			got := table.String() + "\n" + messages(t, table)
			file := filepath.Join("testdata", name+".golden")
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
				t.Errorf("the rules differ from %s; look at them with go test -update and git diff:\n%s", file, got)
			}
		})
	}
}

// messages are the transaction's, each below what it does.
func messages(t *testing.T, table Table) string {
	t.Helper()
	var sent []netlink.Message
	c, err := nftables.New(nftables.WithTestDial(func(req []netlink.Message) ([]netlink.Message, error) {
		sent = append(sent, req...)
		return nil, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := table.queue(c); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	titles := slices.Concat([]string{"begin"}, steps(table), []string{"end"})
	if len(titles) != len(sent) {
		t.Fatalf("%d messages for %d steps", len(sent), len(titles))
	}
	var b strings.Builder
	for i, m := range sent {
		fmt.Fprintf(&b, "# %s\n%04x %04x\n", titles[i], uint16(m.Header.Type), uint16(m.Header.Flags))
		for data := range slices.Chunk(m.Data, 32) {
			fmt.Fprintf(&b, "\t%s\n", hex.EncodeToString(data))
		}
	}
	return b.String()
}

func steps(t Table) []string {
	out := []string{"add table inet rcc", "delete table inet rcc", "add table inet rcc"}
	for _, c := range t.counters {
		out = append(out, "add counter inet rcc "+c)
	}
	for _, s := range t.sets {
		out = append(out, "add set inet rcc "+s.name, "add element inet rcc "+s.name)
	}
	for _, c := range t.chains {
		out = append(out, "add chain inet rcc "+c.name)
	}
	for _, c := range t.chains {
		for _, r := range c.list {
			out = append(out, "add rule inet rcc "+c.name+" "+r.String())
		}
	}
	return out
}

// What we load is what nft prints, and what nft loads of our text is the same
// to the kernel.
func TestNft(t *testing.T) {
	need(t, "nft")
	if !inNamespace(t) {
		return
	}
	tables := someTables(t)
	delete(tables, "cgroups") // nft looks the path up: TestCgroups
	for name, table := range tables {
		compareWithNft(t, name, table)
	}
}

func compareWithNft(t *testing.T, name string, table Table) {
	t.Helper()
	if err := table.Load(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if got, want := words(command(t, "", "nft", "-s", "list", "ruleset")), words(table.String()); got != want {
		t.Errorf("%s: nft lists\n%s\nwant\n%s", name, got, want)
	}
	ours := bytecode(t)
	command(t, "flush ruleset\n"+table.String(), "nft", "-f", "-")
	if theirs := bytecode(t); ours != theirs || !strings.Contains(ours, "[ ") {
		t.Errorf("%s: the kernel has of our bytes\n%s\nand of nft's\n%s", name, ours, theirs)
	}
	l, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if diff, err := l.Differs(table); err != nil || len(diff) > 0 {
		t.Errorf("%s: loaded by nft it differs: %q, %v", name, diff, err)
	}
	command(t, "", "nft", "flush", "ruleset")
}

// bytecode is what the kernel runs, as nft sees it. At an interval that reaches
// the last address nft leaves a note to itself.
func bytecode(t *testing.T) string {
	t.Helper()
	text := command(t, "", "nft", "--debug=netlink", "-s", "list", "ruleset")
	return strings.ReplaceAll(text, `  userdata = { \x01\x04\x01\x00\x00\x00 }`, "")
}

// words are the same for texts that differ in white space only, and in the last
// comma of a list.
func words(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), ", }", " }")
}

// A table takes the place of the one before, and one that cannot be loaded
// leaves it as it was.
func TestReplace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if l, err := Read(); l != nil || err != nil {
		t.Fatalf("before: %v, %v", l, err)
	}
	if was, err := Remove(); was || err != nil {
		t.Fatalf("remove nothing: %v, %v", was, err)
	}
	tables := someTables(t)
	broken := tables["wall"]
	broken.chains = append(slices.Clone(broken.chains), chain{"last", nil, []rule{{goTo("nowhere")}}})
	differs := func(table Table, want ...string) {
		t.Helper()
		l, err := Read()
		if err != nil || l == nil {
			t.Fatalf("read: %v, %v", l, err)
		}
		if got, err := l.Differs(table); err != nil || !slices.Equal(got, want) {
			t.Errorf("differs in %q, want %q, %v", got, want, err)
		}
	}
	for _, step := range []struct {
		load Table
		fail bool
		have string
	}{{tables["task"], false, "task"}, {tables["task"], false, "task"}, {broken, true, "task"}, {tables["exceptions"], false, "exceptions"}, {broken, true, "exceptions"}, {tables["wall"], false, "wall"}} {
		if err := step.load.Load(); (err != nil) != step.fail {
			t.Fatalf("load: %v", err)
		}
		differs(tables[step.have])
	}
	differs(tables["exceptions"], "chain tasks")
	differs(tables["task"], "chain forward", "chain input", "chain output", "chain prerouting", "chain tasks", "counters", "set private4", "set private6")
	if was, err := Remove(); !was || err != nil {
		t.Fatalf("remove: %v, %v", was, err)
	}
	if l, err := Read(); l != nil || err != nil {
		t.Fatalf("after: %v, %v", l, err)
	}
}

// Every kind of change to the loaded rules is seen.
func TestDiffers(t *testing.T) {
	need(t, "nft")
	if !inNamespace(t) {
		return
	}
	table := someTables(t)["exceptions"]
	for _, tt := range []struct{ change, want string }{
		{"", ""},
		{"add table inet other", ""},
		{"add rule inet rcc output accept", "chain output"},
		{"insert rule inet rcc tasks accept", "chain tasks"},
		{"flush chain inet rcc output", "chain output"},
		{"flush chain inet rcc output; add rule inet rcc output meta skuid 1879048192-2147483646 goto tasks", "chain output"},
		{"flush chain inet rcc output; add rule inet rcc output meta skuid 1879048192-2147483647 jump tasks", "chain output"},
		{"flush chain inet rcc output; add rule inet rcc output meta skgid 1879048192-2147483647 goto tasks", "chain output"},
		{"flush chain inet rcc output; add rule inet rcc output meta skuid 1879048192-2147483647 goto tasks", ""},
		{"add chain inet rcc output { policy drop; }", "chain output"},
		{"add chain inet rcc more", "chain more"},
		{"delete element inet rcc private4 { 10.0.0.0/8 }", "set private4"},
		{"add element inet rcc private6 { 2001:db8::/32 }", "set private6"},
		{"add counter inet rcc more", "counters"},
		{"add set inet rcc more { type ipv4_addr; }", "set more"},
	} {
		if err := table.Load(); err != nil {
			t.Fatal(err)
		}
		command(t, tt.change+"\n", "nft", "-f", "-")
		l, err := Read()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := l.Differs(table); err != nil || strings.Join(got, ", ") != tt.want {
			t.Errorf("%s: differs in %q, want %q, %v", tt.change, got, tt.want, err)
		}
	}
	l, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	var accept []string
	for _, e := range l.Accept {
		accept = append(accept, e.String())
	}
	if got, want := strings.Join(accept, " "), "10.1.2.0/23:5432 10.1.2.0/24:8000-8080 10.9.0.1 fd00:1::/32 [fd00:2::1]:443"; got != want {
		t.Errorf("exceptions %s, want %s", got, want)
	}
}
