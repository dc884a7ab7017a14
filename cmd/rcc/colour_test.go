package main

import (
	"strings"
	"testing"
)

func TestPatchColours(t *testing.T) {
	patch := "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@ x\n--- looks like a head\n+++ so does this\n same\ndiff --git a/g b/g\n@@ -1 +0,0 @@\n-gone\n"
	var b strings.Builder
	c := &patchColours{w: &b}
	for i := range patch { // in the smallest pieces
		c.Write([]byte(patch[i : i+1]))
	}
	c.Close()
	want := "\x1b[1mdiff --git a/f b/f\x1b[m\n\x1b[1m--- a/f\x1b[m\n\x1b[1m+++ b/f\x1b[m\n\x1b[36m@@ -1,2 +1,2 @@ x\x1b[m\n" +
		"\x1b[31m--- looks like a head\x1b[m\n\x1b[32m+++ so does this\x1b[m\n same\n" +
		"\x1b[1mdiff --git a/g b/g\x1b[m\n\x1b[36m@@ -1 +0,0 @@\x1b[m\n\x1b[31m-gone\x1b[m\n"
	if b.String() != want {
		t.Errorf("got\n%q, want\n%q", b.String(), want)
	}
}
