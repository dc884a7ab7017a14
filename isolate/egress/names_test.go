package egress

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
)

func TestNames(t *testing.T) {
	n := NewNames(3)
	v4, v6, ok := n.Assign("a.example")
	if !ok || v4.String() != "198.18.0.16" || v6.String() != "fd02:42c:be09::10" {
		t.Fatalf("%s, %s, %v", v4, v6, ok)
	}
	if again4, again6, _ := n.Assign("a.example"); again4 != v4 || again6 != v6 {
		t.Errorf("the same name has %s and %s", again4, again6)
	}
	if other4, _, _ := n.Assign("b.example"); other4 == v4 {
		t.Errorf("two names have %s", v4)
	}
	for _, a := range []netip.Addr{v4, v6, netip.AddrFrom16(v4.As16())} {
		if name, ok := n.Lookup(a); name != "a.example" || !ok || !Synthetic(a) {
			t.Errorf("%s: %q, %v", a, name, ok)
		}
	}
	for _, text := range []string{"198.18.0.0", "198.18.0.15", "198.18.0.99", "198.19.255.255", "8.8.8.8", "::1", "fd02:42c:be09::1:0:10", "fd02:42c:be09::", "fd02:42c:be0a::10", "::"} {
		if name, ok := n.Lookup(netip.MustParseAddr(text)); ok {
			t.Errorf("%s is %q", text, name)
		}
	}
	if _, ok := n.Lookup(netip.Addr{}); ok || Synthetic(netip.Addr{}) {
		t.Error("no address is a name")
	}
}

// Corpus A 24: an address that stood for a name never stands for another one.
func TestNamesForget(t *testing.T) {
	n := NewNames(4)
	kept, _, _ := n.assign("kept.example", true)
	a, _, _ := n.Assign("a.example")
	b, _, _ := n.Assign("b.example")
	c, _, _ := n.Assign("c.example")
	n.Assign("a.example")
	n.Lookup(b) // so c is the one that was not used for longest
	d, _, ok := n.Assign("d.example")
	if !ok {
		t.Fatal("no room is made")
	}
	if _, ok := n.Lookup(c); ok {
		t.Error("c.example is still there")
	}
	for addr, want := range map[netip.Addr]string{kept: "kept.example", a: "a.example", b: "b.example", d: "d.example"} {
		if name, _ := n.Lookup(addr); name != want {
			t.Errorf("%s is %q, want %s", addr, name, want)
		}
	}
	given := map[netip.Addr]bool{kept: true, a: true, b: true, c: true, d: true}
	for i := range 1000 {
		addr, _, ok := n.Assign(fmt.Sprint(i, ".example"))
		if !ok || given[addr] {
			t.Fatalf("%d: %s, %v", i, addr, ok)
		}
		given[addr] = true
	}
	if again, _, _ := n.Assign("c.example"); given[again] {
		t.Errorf("c.example is %s", again)
	}
	if name, _ := n.Lookup(kept); name != "kept.example" || len(n.byName) != 4 || len(n.byIndex) != 4 || n.used.Len() != 4 {
		t.Errorf("%q, %d, %d, %d", name, len(n.byName), len(n.byIndex), n.used.Len())
	}
}

// All addresses are used once; then there are none.
func TestNamesEnd(t *testing.T) {
	n := NewNames(2)
	seen := map[netip.Addr]bool{}
	for i := 0; ; i++ {
		v4, v6, ok := n.Assign(fmt.Sprint(i, ".example"))
		if !ok {
			break
		}
		if seen[v4] || seen[v6] || !Prefix4.Contains(v4) || !Prefix6.Contains(v6) || i > 1<<17 {
			t.Fatalf("%d: %s, %s", i, v4, v6)
		}
		seen[v4], seen[v6] = true, true
	}
	if got := len(seen) / 2; got != lastNumber-firstNumber+1 {
		t.Errorf("%d names had addresses", got)
	}
	if seen[netip.MustParseAddr("198.19.255.255")] || !seen[netip.MustParseAddr("198.19.255.239")] {
		t.Error("the last addresses are not left out")
	}
	if _, _, ok := n.Assign("0.example"); ok {
		t.Error("a forgotten name has an address again")
	}
}

func TestNamesConcurrent(t *testing.T) {
	n := NewNames(50)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for i := range 2000 {
				name := fmt.Sprint(i%100, ".example")
				v4, _, ok := n.Assign(name)
				if got, found := n.Lookup(v4); !ok || found && got != name {
					t.Errorf("%s is %s, %v", v4, got, ok)
				}
			}
		})
	}
	wait.Wait()
}
