package devshell

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Error is Nix's own error, shortened to what a person needs, in one line.
type Error struct {
	Message string
	Log     string // file with all that Nix said, "" if it said nothing
	cause   error
}

// Unwrap is the cause, context.DeadlineExceeded when Nix took too long.
func (e *Error) Unwrap() error { return e.cause }

func (e *Error) Error() string {
	if e.Log == "" {
		return e.Message
	}
	log := e.Log
	if visible(log) != log {
		log = strconv.Quote(log)
	}
	return fmt.Sprintf("%s (all that Nix said: %s)", e.Message, log)
}

// explain makes an error of a nix that failed.
func (m *making) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	var exit exitError
	byItself := errors.As(err, &exit) && exit.signal == 0
	why := ""
	if byItself {
		why = explain(string(m.log.tail), m.tree, m.source)
	}
	if why == "" {
		why = "nix " + err.Error()
		if said := lastWords(string(m.log.tail)); said != "" && byItself {
			why += ": " + said
		}
	}
	return &Error{Message: "cannot make the dev shell of " + m.source.name() + ": " + why, Log: m.log.name(), cause: err}
}

// useless is an error of a nix that ended well, and made nothing to be used.
func (m *making) useless(why error) error {
	return &Error{Message: fmt.Sprintf("cannot use the dev shell of %s: %s", m.source.name(), why), Log: m.log.name(), cause: why}
}

// tooLong says that the time limit is over: the one that was set, which is less
// than the time that it took to end Nix.
func (m *making) tooLong(limit time.Duration) error {
	e := &Error{Message: fmt.Sprintf("cannot make the dev shell of %s: Nix did not end in %s", m.source.name(), limit), cause: context.DeadlineExceeded}
	if doing := m.log.current(); doing != "" {
		e.Message += ", it was " + doing
	}
	e.Message += "; set a longer timeout below [shell] in config.toml"
	e.Log = m.log.name()
	return e
}

// explain finds in what Nix said the sentence that a person needs.
func explain(text, tree string, s Source) string {
	text = plainLines(text)
	if why := notAllowed(text, tree, s); why != "" {
		return short(why, messageCap)
	}
	for _, known := range []func(string, Source) string{
		importsFromDerivation, buildFailed, noAttribute, lockChanges, restricted, noNetwork, noRoom, noStore,
	} {
		if why := known(text, s); why != "" {
			return short(shortPaths(why, tree), messageCap)
		}
	}
	return short(shortPaths(innermost(text), tree), messageCap)
}

const messageCap = 600

func importsFromDerivation(text string, _ Source) string {
	if !strings.Contains(innermost(text), "'allow-import-from-derivation'") {
		return ""
	}
	return "its evaluation builds something to read it (import from derivation), which is off; rcc allow --import-from-derivation lets it"
}

// buildFailed finds the builder that failed and the end of its log.
//
//	error: builder for '/nix/store/…-x.drv' failed with exit code 1;     2.8 … 2.30
//	       last 10 log lines:
//	       > text
//	error: Cannot build '/nix/store/…-x.drv'.                            2.31
//	       Reason: builder failed with exit code 1.
//	       Last 10 log lines:
//	       > text
func buildFailed(text string, _ Source) string {
	re := regexp.MustCompile(`(?:builder for|Cannot build) '([^'\n]+)'\.?(?: (failed[^\n;,]*)|\n\s*Reason: builder (failed[^\n]*)\n)`)
	m := re.FindStringSubmatchIndex(text)
	if m == nil {
		return ""
	}
	name := strings.TrimSuffix(storeName(text[m[2]:m[3]]), ".drv")
	how := ""
	for _, i := range []int{4, 6} {
		if m[i] >= 0 {
			how = strings.TrimRight(text[m[i]:m[i+1]], ".;: ")
		}
	}
	var lines []string
	for line := range strings.Lines(text[m[1]:]) {
		line = strings.TrimSpace(line)
		if said, ok := strings.CutPrefix(line, "> "); ok {
			lines = append(lines, strings.TrimSpace(said))
		} else if len(lines) > 0 && line != ">" {
			break
		}
	}
	out := fmt.Sprintf("%s does not build: its builder %s", name, how)
	if len(lines) > 0 {
		out += ": " + strings.Join(lines[max(0, len(lines)-3):], " / ")
	}
	return out
}

func noAttribute(text string, s Source) string {
	attr := s.Attr
	switch {
	case strings.Contains(innermost(text), "' does not provide attribute '"):
		if attr == "" {
			return "it has no dev shell for " + system() + " (devShells." + system() + ".default or packages." + system() + ".default)"
		}
		return fmt.Sprintf("it has no dev shell or package %q for %s; nix flake show tells what there is", attr, system())
	case strings.Contains(text, "' in selection path '") && strings.HasPrefix(innermost(text), "attribute '"):
		return fmt.Sprintf("it has no attribute %q", attr)
	}
	return ""
}

func lockChanges(text string, _ Source) string {
	why := innermost(text)
	// The second is what it says of a flake that it knows from a registry.
	if !strings.Contains(why, "requires lock file changes but they're not allowed") && !strings.Contains(why, "cannot write modified lock file of flake") {
		return ""
	}
	return "its flake.lock does not have all inputs of flake.nix: run nix flake lock and commit flake.lock"
}

func restricted(text string, s Source) string {
	why := innermost(text)
	if s.Kind != KindFile {
		return ""
	}
	if strings.HasSuffix(why, "is forbidden in restricted mode") {
		return strings.TrimSuffix(why, " in restricted mode") + ": a shell.nix can read its repository, NIX_PATH and what it downloads"
	}
	for _, said := range []string{"Nix feature 'flakes' is disabled", "Nix feature 'fetch-tree' is disabled", "attribute 'fetchTree' missing", "attribute 'getFlake' missing"} {
		if strings.Contains(why, said) {
			return "fetchTree and getFlake are off in a shell.nix, as they read whatever the user can; use fetchTarball, or a flake"
		}
	}
	return ""
}

// noNetwork finds what could not be downloaded, by Nix itself or by its git.
func noNetwork(text string, _ Source) string {
	why := innermost(text)
	if strings.Contains(why, "program 'git' failed") || strings.Contains(why, "fetch git repository") {
		why = text
	}
	re := regexp.MustCompile(`(?i)unable to (?:download|access) '([^'\n]+)': ([^\n]*(?:resolve|connect|timed? ?out|network|unreachable)[^\n]*)`)
	m := re.FindStringSubmatch(why)
	if m == nil {
		return ""
	}
	reason, _, _ := strings.Cut(m[2], "; retrying")
	if strings.Count(reason, ")") > strings.Count(reason, "(") { // of what is around it
		reason = strings.TrimSuffix(reason, ")")
	}
	out := fmt.Sprintf("Nix cannot download %s: %s; is there a network?", m[1], reason)
	if strings.Contains(text, "while updating the lock file of flake") {
		out += " (flake.lock does not have this input)"
	}
	return out
}

func noRoom(text string, _ Source) string {
	if strings.Contains(innermost(text), "No space left on device") {
		return "the disk of the store or of the temporary folder is full: " + innermost(text)
	}
	return ""
}

func noStore(text string, _ Source) string {
	why := innermost(text)
	if strings.Contains(text, "as a chroot store") {
		return "there is no Nix store in /nix, and what is in a store of your own folder cannot be entered: install Nix for this machine"
	}
	if strings.Contains(why, "daemon-socket") || strings.Contains(why, "cannot connect to socket at") {
		return "the Nix daemon does not answer: " + why
	}
	if (strings.Contains(why, "Permission denied") || strings.Contains(why, "Read-only file system")) && strings.Contains(why, "/nix/") {
		return "the Nix store is not writable for you: " + why
	}
	return ""
}

// lastWords is the last line of a text that has none of Nix's errors.
func lastWords(text string) string {
	if why := innermost(plainLines(text)); why != "" {
		return short(why, messageCap)
	}
	lines := strings.Split(strings.TrimSpace(plainLines(text)), "\n")
	return short(lines[len(lines)-1], messageCap)
}

// innermost is the message of the last error that says something, and where it is.
func innermost(text string) string {
	lines := strings.Split(text, "\n")
	best := ""
	for i, line := range lines {
		message, ok := strings.CutPrefix(strings.TrimSpace(line), "error:")
		if !ok {
			continue
		}
		if message = strings.TrimSpace(message); message == "" || isSummary(message) && best != "" {
			continue
		}
		best = message + where(lines[i+1:])
	}
	return best
}

// isSummary says whether a message only tells that there was another one.
func isSummary(message string) bool {
	for _, p := range []string{"some errors were encountered", "build of '"} {
		if strings.HasPrefix(message, p) {
			return true
		}
	}
	return strings.Contains(message, "dependencies of derivation '") || strings.Contains(message, "dependency of '")
}

// where takes the rest of a message and its place from the lines that follow it:
//
//	error: undefined variable 'x'
//
//	       at /nix/store/…-source/flake.nix:3:5:
func where(lines []string) string {
	more := ""
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if place, ok := strings.CutPrefix(line, "at "); ok && strings.Contains(place, ":") {
			return more + " at " + strings.TrimSuffix(place, ":")
		}
		switch {
		case i > 12, strings.HasPrefix(line, "error:"), strings.HasPrefix(line, "… "), strings.HasPrefix(line, "(use '--show-trace'"):
			return more
		case line != "" && len(more) < 300 && !strings.Contains(line, "|"):
			more += " " + line
		}
	}
	return more
}

// shortPaths names files as they are called in the tree: Nix tells them by their
// copy in the store.
func shortPaths(text, tree string) string {
	text = strings.ReplaceAll(text, tree+"/", "")
	text = regexp.MustCompile(`«[^»]*»/`).ReplaceAllString(text, "")
	return regexp.MustCompile(`/[^ '"]*/[0-9a-z]{32}-(source/)?`).ReplaceAllString(text, "")
}

// plainLines is text without what a terminal would obey.
func plainLines(text string) string {
	text = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(\x07|\x1b\\\\)").ReplaceAllString(text, "")
	return strings.Map(func(r rune) rune {
		if r != '\n' && (hidden(r) || r == unicode.ReplacementChar) {
			return ' '
		}
		return r
	}, text)
}

// plain is plainLines in one line.
func plain(text string) string { return strings.Join(strings.Fields(plainLines(text)), " ") }

// short cuts a text off, at a rune.
func short(text string, limit int) string {
	text = strings.Join(strings.Fields(text), " ")
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	return string(runes[:limit-1]) + "…"
}

// also is both errors, if there are two, in one line: errors.Join makes two.
func also(err, more error) error {
	switch {
	case err == nil:
		return more
	case more == nil:
		return err
	}
	return fmt.Errorf("%w; also: %w", err, more)
}
