package worktree

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkName says why a tree must not have an entry of this name; "" when it may.
// The spellings of .git are those that git itself guards against (path.c,
// is_ntfs_dotgit; utf8.c, is_hfs_dotgit; fsck.c, hasDotgit), a little wider: a
// name that some file system takes for .git would make the next checkout on it
// a git directory of the sender's choice (CVE-2014-9390, CVE-2019-1353).
func checkName(name string, link bool) string {
	switch {
	case name == "":
		return "an empty name"
	case name == "." || name == "..":
		return "a name that is a way out of the folder"
	case strings.ContainsAny(name, "/\x00"):
		return "a name with a slash or a NUL"
	case isDotGit(name):
		return "a name that is .git on some file system"
	case link && isDotGitmodules(name):
		return "a symbolic link in the place of .gitmodules"
	}
	return ""
}

// isDotGit says whether some file system takes name for ".git". NTFS
// separates paths with backslashes too, so each part counts.
func isDotGit(name string) bool {
	for part := range strings.SplitSeq(foldName(name), `\`) {
		part, _, _ = strings.Cut(part, ":") // an alternate data stream, .git::$INDEX_ALLOCATION
		part = strings.TrimRight(part, ". ")
		if part == ".git" || part == "git~1" {
			return true
		}
	}
	return false
}

// isDotGitmodules is isDotGit for .gitmodules, with the short names that NTFS
// may give it (path.c, is_ntfs_dot_str).
func isDotGitmodules(name string) bool {
	for part := range strings.SplitSeq(foldName(name), `\`) {
		part, _, _ = strings.Cut(part, ":")
		part = strings.TrimRight(part, ". ")
		if part == ".gitmodules" || strings.HasPrefix(part, "gitmod~") || strings.HasPrefix(part, "gi7eb") && strings.Contains(part, "~") {
			return true
		}
	}
	return false
}

// foldName brings a name to the form that a careless file system compares:
// lower case, without the characters that HFS+ ignores (utf8.c, next_hfs_char).
func foldName(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteByte(name[i])
		case ignoredByHFS(r):
		default:
			b.WriteRune(unicode.ToLower(r))
		}
		i += n
	}
	return b.String()
}

func ignoredByHFS(r rune) bool {
	switch {
	case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
		return true
	}
	return false
}
