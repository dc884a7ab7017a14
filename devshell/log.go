package devshell

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	logCap        = 4 << 20                // bytes in the log file
	tailCap       = 256 << 10              // bytes kept for the message
	lineCap       = 4 << 10                // bytes of a line that are looked at
	progressPause = 250 * time.Millisecond // between two lines of progress
)

// log takes what Nix says: the whole, up to logCap, for the log file, in which
// nothing is hidden (see visible) and newlines and tabs are what they are; the
// end, as it came, for the message if it fails; and what it is at, for who waits.
type log struct {
	file     *os.File
	written  int // bytes in the file
	full     bool
	part     []byte // the beginning of a character
	tail     []byte
	line     []byte
	progress func(string)

	mu      sync.Mutex
	now     string // what Nix is at
	next    string // to be told when the pause is over
	timer   *time.Timer
	last    time.Time
	stopped bool
}

func newLog(path string, progress func(string)) (*log, error) {
	_ = os.Remove(path) // it may be someone's link
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &log{file: f, progress: progress}, nil
}

func (l *log) Write(p []byte) (int, error) {
	l.keep(p, false)
	l.tail = append(l.tail, p...)
	if over := len(l.tail) - tailCap; over > 0 {
		l.tail = append(l.tail[:0], l.tail[over:]...)
	}
	for rest := p; len(rest) > 0; {
		part, after, whole := bytes.Cut(rest, []byte{'\n'})
		if room := lineCap - len(l.line); room > 0 {
			l.line = append(l.line, part[:min(len(part), room)]...)
		}
		if rest = after; whole {
			if text := doing(string(l.line)); text != "" {
				l.tell(text)
			}
			l.line = l.line[:0]
		}
	}
	return len(p), nil
}

// keep writes to the log file. A character may come in two pieces: what can
// still become one waits, unless it is the end.
func (l *log) keep(p []byte, end bool) {
	if l.full {
		return
	}
	p = append(l.part, p...)
	out := make([]byte, 0, min(2*len(p), logCap))
	for len(p) > 0 && (end || utf8.FullRune(p)) && !l.full {
		r, size := utf8.DecodeRune(p)
		char := string(p[:size])
		if r != '\n' && r != '\t' {
			char = glyph(char, r)
		}
		if l.full = l.written+len(char) > logCap; l.full {
			char, size = "\n[the rest is left out]\n", len(p)
		}
		out = append(out, char...)
		l.written += len(char)
		p = p[size:]
	}
	l.part = append(l.part[:0], p...)
	// A full disk must not end Nix: the log is what we can lose.
	_, _ = l.file.Write(out)
}

// name is the log file, or "" if nothing is in it.
func (l *log) name() string {
	if l.written == 0 && len(l.part) == 0 {
		return ""
	}
	return l.file.Name()
}

// close ends the log and says whether there is anything in it.
func (l *log) close() bool {
	l.mu.Lock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.keep(nil, true)
	l.file.Close()
	return l.written > 0
}

// tell passes a line of progress on, the newest one after each pause.
func (l *log) tell(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now, l.next = text, text
	if l.timer != nil || l.stopped {
		return
	}
	if wait := progressPause - time.Since(l.last); wait > 0 {
		l.timer = time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.timer = nil
			l.pass()
		})
		return
	}
	l.pass()
}

// current is what Nix is at, as far as it said so.
func (l *log) current() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *log) pass() {
	if l.stopped || l.next == "" {
		return
	}
	l.last = time.Now()
	l.progress(l.next)
	l.next = ""
}

// doing is what a line of Nix's says that it is at, or "".
func doing(line string) string {
	for _, p := range []struct{ prefix, text string }{
		{"building '", "building "},
		{"copying path '", "fetching "},
		{"downloading '", "downloading "},
		{"unpacking '", "unpacking "},
		{"fetching ", "fetching "}, // "fetching git input 'URL'"
	} {
		rest, ok := strings.CutPrefix(line, p.prefix)
		if !ok {
			continue
		}
		if _, quoted, ok := strings.Cut(rest, "'"); ok && !strings.HasSuffix(p.prefix, "'") {
			rest = quoted
		}
		what, _, ok := strings.Cut(rest, "'")
		if !ok {
			return ""
		}
		return p.text + short(plain(strings.TrimSuffix(storeName(what), ".drv")), 80)
	}
	return ""
}

// storeName is a store path without its folder and hash; other texts as they are.
func storeName(text string) string {
	if isStorePath(text) {
		return text[strings.LastIndexByte(text, '/')+34:]
	}
	return text
}
