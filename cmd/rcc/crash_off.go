//go:build !rcccrash

package main

// crashPoint does nothing; see crash_on.go.
func crashPoint(string) {}
