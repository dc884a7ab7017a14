package main

import (
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	maxIDLen   = 64 // bytes; leaves room in a branch name, a folder name and a socket path
	maxSlugLen = 24 // bytes of an id that come from the prompt
)

// NewID makes a task's id from its prompt: the first words in lower case and
// four random hexadecimal digits, as in fix-tests-3f2a. Words with letters that
// are not ASCII are left out; when no word is left, "task" stands for them.
// The result always satisfies CheckID; the caller sees to it that it is new.
func NewID(prompt string, rand io.Reader) string {
	var b [2]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		crand.Read(b[:]) // never fails
	}
	return slug(prompt) + "-" + hex.EncodeToString(b[:])
}

// slug joins the first words of the prompt with hyphens, as many as fit whole.
func slug(prompt string) string {
	words := strings.FieldsFunc(strings.ToLower(prompt), func(r rune) bool {
		return r < 0x80 && !isASCIIAlnum(byte(r)) && r != '\''
	})
	out := ""
	for _, word := range words {
		word = strings.ReplaceAll(word, "'", "")
		if word == "" || !isASCII(word) {
			continue
		}
		switch {
		case out == "" && len(word) > maxSlugLen:
			return word[:maxSlugLen]
		case out == "":
			out = word
		case len(out)+1+len(word) > maxSlugLen:
			return out
		default:
			out += "-" + word
		}
	}
	if out == "" {
		return "task"
	}
	return out
}

// CheckID reports why id cannot be a task's id. An id is a component of a branch
// name (git-check-ref-format(1)) and the name of a folder.
func CheckID(id string) error {
	switch bad := strings.IndexFunc(id, func(r rune) bool { return r >= 0x80 || !isIDByte(byte(r)) }); {
	case id == "":
		return errors.New("cannot use an empty id: give a name such as fix-tests")
	case len(id) > maxIDLen:
		return fmt.Errorf("cannot use an id of %d characters: %d at most", len(id), maxIDLen)
	case bad >= 0:
		return fmt.Errorf("cannot use %s as an id: letters, digits and . _ - only", shownID(id))
	case !isASCIIAlnum(id[0]):
		return fmt.Errorf("cannot use %s as an id: it must start with a letter or a digit", shownID(id))
	case strings.Contains(id, ".."):
		return fmt.Errorf("cannot use %s as an id: two dots in a row mean something else to git", shownID(id))
	case strings.HasSuffix(id, "."):
		return fmt.Errorf("cannot use %s as an id: it must not end with a dot", shownID(id))
	case strings.HasSuffix(strings.ToLower(id), ".lock"):
		return fmt.Errorf("cannot use %s as an id: names that end in .lock are git's own", shownID(id))
	}
	return nil
}

// MatchID finds the one id that prefix means: the id itself, or else the only id
// that begins with it.
func MatchID(prefix string, ids []string) (string, error) {
	if prefix == "" {
		return "", errors.New("cannot find a task without its id; rcc list shows them")
	}
	var found []string
	for _, id := range ids {
		if id == prefix {
			return id, nil
		}
		if strings.HasPrefix(id, prefix) {
			found = append(found, id)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("cannot tell which task %s is: %d begin like that (%s); type more of it", shownID(prefix), len(found), someIDs(found))
	case len(ids) == 0:
		return "", fmt.Errorf("cannot find task %s: there are no tasks here", shownID(prefix))
	default:
		return "", fmt.Errorf("cannot find task %s; there is %s", shownID(prefix), someIDs(ids))
	}
}

// someIDs lists ids for an error of one line.
func someIDs(ids []string) string {
	const most = 5
	rest := ""
	if len(ids) > most {
		rest = fmt.Sprintf(" and %d more", len(ids)-most)
		ids = ids[:most]
	}
	shown := make([]string, len(ids))
	for i, id := range ids {
		shown[i] = Inert(id)
	}
	return strings.Join(shown, ", ") + rest
}

// shownID quotes what a user typed as an id, cut to what fits on a line.
func shownID(id string) string {
	if len(id) > maxIDLen {
		id = id[:maxIDLen] + "…"
	}
	return `"` + Inert(id) + `"`
}

func isIDByte(c byte) bool { return isASCIIAlnum(c) || c == '.' || c == '_' || c == '-' }

func isASCIIAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
