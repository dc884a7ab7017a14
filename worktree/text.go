package worktree

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// inert makes hostile text fit for one line of a message: control bytes and
// invalid UTF-8 are written as escapes, and it is cut after 300 bytes.
func inert(s string) string {
	const most = 300
	cut := false
	if len(s) > most {
		s, cut = s[:most], true
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || !strconv.IsPrint(r) {
			q := strconv.QuoteToASCII(s[i : i+n])
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	if cut {
		b.WriteString("…")
	}
	return b.String()
}

// quotePath is a path as it appears in messages: as it is when it is plain,
// quoted when it holds anything that could be misread.
func quotePath(path string) string {
	if clean := inert(path); clean == path && path != "" && !strings.ContainsAny(path, "\"' ") {
		return path
	}
	return strconv.Quote(inert(path))
}

// some joins the first few of a list for a sentence.
func some(list []string) string {
	const most = 5
	var b strings.Builder
	for i, s := range list {
		if i == most {
			b.WriteString(" and " + strconv.Itoa(len(list)-most) + " more")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quotePath(s))
	}
	return b.String()
}

// splitNul splits the output of a -z option; the last entry ends with NUL too.
func splitNul(out []byte) []string {
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// isID says whether s is an object id of the given format, in full.
func isID(s, format string) bool {
	if len(s) != idLen(format) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func idLen(format string) int {
	if format == "sha256" {
		return 64
	}
	return 40
}

// zeroID stands for "does not exist" in git-update-ref(1).
func zeroID(format string) string { return strings.Repeat("0", idLen(format)) }
