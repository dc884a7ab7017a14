package main

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

// Every address of every interface is there, with the length of its network's prefix.
func TestOwnAddresses(t *testing.T) {
	got, err := ownAddresses()
	if err != nil {
		t.Fatal(err)
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			n++
			if want := netip.MustParsePrefix(a.String()); !slices.Contains(got, want) {
				t.Errorf("%s of %s is not in %v", want, i.Name, got)
			}
		}
	}
	if n == 0 || len(got) != n {
		t.Errorf("%d of %d: %v", len(got), n, got)
	}
}
