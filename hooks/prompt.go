package hooks

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Prompt is what "rcc export SHELL" is called with.
type Prompt struct {
	Shell   string   // bash, zsh or fish
	Dir     string   // the shell's folder, absolute: $PWD
	Environ []string // the shell's environment
	Stamps  string   // folder of the stamps, absolute, the user's
}

// A Look is what a prompt asks for.
type Look struct {
	// Load is set when the dev shell that Envrc names has to be evaluated, and
	// Entered or Refused called with the outcome. Otherwise Code is all there is to do.
	Load bool

	Envrc string   // the .envrc that counts, absolute; "" for none
	Name  string   // the dev shell that it names, "" for the default
	Base  []string // the environment that the dev shell goes on top of

	Code   string // for the shell
	Notice string // one line for the user, not told before; "" for none

	prompt Prompt
	state  State // the shell's, before
	since  time.Time
	after  []string // what Entered was given
}

// Look finds out what there is to do, by the nearest .envrc upwards and the
// state in the environment. It reads files, and writes stamps.
func (p Prompt) Look() (Look, error) {
	if _, err := quoter(p.Shell); err != nil {
		return Look{}, err
	}
	env := toMap(p.Environ)
	l := Look{prompt: p, since: time.Now()}
	if env["DIRENV_DIR"] != "" { // direnv is at work here
		return l, nil
	}
	state, err := ParseState(env[StateVariable])
	state, environ, intact := state.settle(p.Environ)
	l.prompt.Environ, l.state, l.Base = environ, state, state.Base(environ)
	if err != nil {
		l.Notice = err.Error()
	}
	var content []byte
	l.Envrc, content = findEnvrc(p.Dir)
	if l.Envrc != "" && l.Envrc == state.Envrc && intact {
		if list, ok := readStamp(p.Stamps, state.Stamp); ok && unchanged(list) {
			l.Code, err = l.remember(state, list)
			return l, err
		}
	}
	uses, plain := ParseEnvrc(content)
	switch {
	case l.Envrc == "" || len(uses) == 0:
		return l.finish(State{}, nil, l.Notice)
	case !plain:
		return l.finish(State{Envrc: l.Envrc}, nil, l.Envrc+` has more than "use rcc" lines, and only those are for rcc; direnv can run it (rcc hook direnv)`)
	case len(uses) > 1:
		return l.finish(State{Envrc: l.Envrc}, nil, l.Envrc+" names more than one dev shell; direnv can enter them all (rcc hook direnv)")
	}
	l.Load, l.Name = true, uses[0]
	return l, nil
}

// Entered is the code that enters. after is the environment with the dev shell
// on top of Base, key what was loaded, watch the absolute paths of all files
// that decide, also of those that are not there yet.
func (l Look) Entered(after []string, key string, watch []string, notice string) (Look, error) {
	next := State{Envrc: l.Envrc, Key: key, Active: true}
	l.after = after
	done, err := l.finish(next, watch, notice)
	if err != nil { // too much to remember
		return l.Refused(watch, err.Error())
	}
	return done, nil
}

// Refused is the code for a dev shell that cannot be had now. In its folder the
// last good environment of this shell stays; that of another folder is left.
func (l Look) Refused(watch []string, notice string) (Look, error) {
	next := State{Envrc: l.Envrc}
	if l.state.Active && l.state.Envrc == l.Envrc {
		next = l.state
	}
	l.after = nil
	return l.finish(next, watch, notice)
}

// finish makes the code that leads to the next state. A notice that was told
// last, with all files as they are now, is dropped.
func (l Look) finish(next State, watch []string, notice string) (Look, error) {
	quote, err := quoter(l.prompt.Shell)
	if err != nil {
		return l, err
	}
	l.Load, l.Notice, next.Told = false, notice, ""
	var list []seen
	if l.Envrc != "" {
		list = look(append(slices.Clone(watch), l.Envrc), l.since)
		if next.Stamp, err = writeStamp(l.prompt.Stamps, list, l.since); err != nil {
			next.Stamp, err = "", nil // the shell asks again at each prompt, which works too
		}
		if notice != "" && next.Envrc != "" {
			next.Told = told(notice, list)
		}
	}
	if next.Told != "" && next.Told == l.state.Told {
		l.Notice = ""
	}
	switch {
	case l.after != nil:
		l.Code, err = Enter(l.prompt.Shell, l.prompt.Environ, l.after, next)
	case next.Active: // as it is
		l.Code = setState(l.prompt.Shell, quote, next.String())
	default:
		if l.Code, err = Leave(l.prompt.Shell, l.prompt.Environ); next.Envrc != "" {
			l.Code += setState(l.prompt.Shell, quote, next.String())
		}
	}
	l.Code += l.local(quote, next, list)
	return l, err
}

// told stands for a notice about files as they are.
func told(notice string, list []seen) string {
	h := sha256.New()
	io.WriteString(h, notice)
	for _, s := range list {
		io.WriteString(h, "\x00"+s.path+"\x00"+s.mark)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// remember is for files that are as they were: the stamp is as new as this look.
func (l Look) remember(state State, list []seen) (string, error) {
	quote, err := quoter(l.prompt.Shell)
	writeStamp(l.prompt.Stamps, list, l.since) // failing, this look is repeated at the next prompt
	return l.local(quote, state, list), err
}

// local is what the function of Script compares at each prompt, see there.
func (l Look) local(quote func(string) string, state State, list []seen) string {
	watch := shellWatch(list)
	stamp := ""
	if state.Stamp != "" && watch != nil {
		stamp = filepath.Join(l.prompt.Stamps, state.Stamp)
	}
	var words []string
	for _, w := range watch {
		words = append(words, quote(w))
	}
	if l.prompt.Shell == "fish" {
		return "set -g _rcc_at " + quote(l.Envrc) + "\nset -g _rcc_stamp " + quote(stamp) + "\nset -g _rcc_watch " + strings.Join(words, " ") + "\n"
	}
	return "_rcc_at=" + quote(l.Envrc) + "\n_rcc_stamp=" + quote(stamp) + "\n_rcc_watch=(" + strings.Join(words, " ") + ")\n"
}

// findEnvrc is the nearest .envrc from dir upwards that is a plain file, and
// what is in it. One that cannot be read is empty.
func findEnvrc(dir string) (path string, content []byte) {
	if !filepath.IsAbs(dir) {
		return "", nil
	}
	for dir = filepath.Clean(dir); ; dir = filepath.Dir(dir) {
		path = filepath.Join(dir, ".envrc")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			if f, err := os.Open(path); err == nil {
				content, _ = io.ReadAll(io.LimitReader(f, maxEnvrc+1))
				f.Close()
			}
			return path, content
		}
		if dir == "/" {
			return "", nil
		}
	}
}
