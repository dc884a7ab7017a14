package devshell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// making is a shell while it is made. The key's lock is held all the time.
type making struct {
	cache   *Cache
	nix     *Nix
	source  Source
	options Options
	key     string
	version string

	dir  string // of the shell to be
	tree string // what is evaluated
	log  *log
}

// make makes a shell beside what there is of that key.
func (c *Cache) make(ctx context.Context, m *making) (_ *Shell, err error) {
	m.sweep()
	number := 1
	if all := c.numbers(m.key); len(all) > 0 {
		number = all[len(all)-1] + 1
	}
	m.dir, m.tree = c.path(m.key, strconv.Itoa(number)), c.path(m.key, treeName)
	if err := os.MkdirAll(m.tree, 0o700); err != nil {
		return nil, cacheError(c.dir, also(err, m.remove()))
	}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return nil, cacheError(c.dir, also(err, m.remove()))
	}
	lock, err := tryLock(filepath.Join(m.dir, lockName), unix.LOCK_SH, unix.O_CREAT)
	if err != nil {
		return nil, cacheError(c.dir, also(err, m.remove()))
	}
	defer func() {
		if err != nil {
			err = also(err, m.remove())
			lock.Close()
		}
	}()
	shell, err := m.run(ctx)
	if err != nil {
		return nil, err
	}
	if err := also(os.RemoveAll(m.tree), os.RemoveAll(filepath.Join(m.dir, dataName))); err != nil {
		return nil, cacheError(c.dir, err)
	}
	if err := shell.writeEntry(m.dir); err != nil {
		return nil, cacheError(c.dir, err)
	}
	shell.lock, shell.Fresh = lock, true
	m.sweep() // the ones before, if nobody uses them
	return shell, nil
}

// sweep removes the shells of this key that are not the newest or not whole and
// that nobody holds, and what a killed maker left.
func (m *making) sweep() { m.cache.sweep(m.key) }

// sweep is for who has the key's lock: nobody makes one there.
func (c *Cache) sweep(key string) {
	_ = os.RemoveAll(c.path(key, treeName))
	newest := c.newest(key)
	for _, n := range c.numbers(key) {
		if dir := c.path(key, strconv.Itoa(n)); dir != newest {
			_ = removeShell(dir)
		}
	}
}

// removeShell removes a shell's folder if nobody holds it. The caller has the
// key's lock, so that nobody makes one there.
func removeShell(dir string) error {
	lock, err := tryLock(filepath.Join(dir, lockName), unix.LOCK_EX, 0)
	if err == nil {
		defer lock.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// First what makes it an entry: whatever happens now, nobody takes it for one.
	if err := os.Remove(filepath.Join(dir, infoName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// remove takes away what was made so far; the log of a failure stays.
func (m *making) remove() error {
	err := also(os.RemoveAll(m.tree), os.RemoveAll(m.dir))
	_ = os.Remove(m.cache.path(m.key)) // if it holds no other shell
	return err
}

// run exports, evaluates and writes all but shell.json.
func (m *making) run(ctx context.Context) (*Shell, error) {
	if !utf8.ValidString(m.tree) {
		return nil, fmt.Errorf("cannot use the cache in %q: Nix takes only names in UTF-8; set XDG_CACHE_HOME", m.cache.dir)
	}
	if err := m.options.Export(ctx, m.tree); err != nil {
		return nil, fmt.Errorf("cannot write the files for Nix: %w", err)
	}
	if err := settle(m.tree); err != nil {
		return nil, cacheError(m.cache.dir, err)
	}
	limit := m.options.Timeout
	if limit == 0 {
		limit = DefaultTimeout
	}
	inTime, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	logFile := m.cache.path(m.key + logSuffix)
	if err := m.openLog(logFile); err != nil {
		return nil, cacheError(m.cache.dir, err)
	}
	if err := m.makeDataHome(); err != nil {
		m.log.close()
		return nil, cacheError(m.cache.dir, also(err, os.Remove(logFile)))
	}
	shell, err := m.evaluate(inTime)
	said := m.log.close()
	switch {
	case err == nil && said:
		shell.Log = filepath.Join(m.dir, logName)
		err = os.Rename(logFile, shell.Log)
	case err == nil || ctx.Err() != nil || !said:
		_ = os.Remove(logFile)
	}
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("cannot make the dev shell of %s: %w", m.source.name(), context.Cause(ctx))
	case err != nil && inTime.Err() != nil:
		return nil, m.tooLong(limit)
	}
	return shell, err
}

func (m *making) openLog(file string) (err error) {
	m.log, err = newLog(file, m.options.progress)
	return err
}

// evaluate asks Nix for the environment and its closure.
func (m *making) evaluate(ctx context.Context) (*Shell, error) {
	m.options.progress("evaluating " + m.source.name())
	args, env, err := m.evaluation(ctx)
	if err != nil {
		return nil, err
	}
	printed := &capped{max: jsonCap}
	if err := m.nixRun(ctx, printed, env, args...); err != nil {
		return nil, m.explain(ctx, err)
	}
	environment, err := parseEnvironment(printed.buf.Bytes())
	if err != nil {
		if text := printed.buf.String(); text != "" {
			fmt.Fprintf(m.log, "\nnix print-dev-env printed: %.4096s\n", text)
		}
		return nil, m.useless(err)
	}
	root, err := m.root()
	if err != nil {
		return nil, m.useless(err)
	}
	closure := &capped{max: jsonCap}
	// Plain path-info prints one path in a line in every version; its JSON has
	// three forms.
	if err := m.nixRun(ctx, closure, nil, "path-info", "--recursive", root); err != nil {
		return nil, m.explain(ctx, err)
	}
	paths, err := parseClosure(closure.buf.String(), root)
	if err != nil {
		return nil, m.useless(err)
	}
	if gone := firstMissing(paths); gone != "" {
		return nil, m.useless(fmt.Errorf("Nix believes that %s exists, and it does not; nix-store --verify --check-contents --repair mends the store", gone))
	}
	return m.shell(environment, paths)
}

// root is the store path that the profile leads to: a link to a link in the same
// folder (profile-1-link), which leads to the store.
func (m *making) root() (string, error) {
	link, err := os.Readlink(filepath.Join(m.dir, profileName))
	if err == nil && filepath.Base(link) == link {
		link, err = os.Readlink(filepath.Join(m.dir, link))
	}
	if err != nil || !isStorePath(link) {
		return "", errors.New("nix made no profile")
	}
	return link, nil
}

// closureCap bounds a closure; a large dev shell has 5,000 paths.
const closureCap = 1 << 20

// parseClosure reads what nix path-info -r prints.
func parseClosure(text, root string) ([]string, error) {
	var paths []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if !isStorePath(line) || filepath.Dir(line) != filepath.Dir(root) || len(paths) == closureCap {
			return nil, fmt.Errorf("what nix path-info prints is no closure: %q is no store path", short(plain(line), 200))
		}
		paths = append(paths, line)
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	if _, ok := slices.BinarySearch(paths, root); !ok {
		return nil, errors.New("what nix path-info prints is no closure: it lacks the dev shell itself")
	}
	return paths, nil
}

// shell makes the values, and the files that go with them.
func (m *making) shell(env *environment, paths []string) (*Shell, error) {
	s := &Shell{Key: m.key, Name: env.all["name"], Paths: paths, RC: filepath.Join(m.dir, rcName)}
	s.Name = strings.TrimSuffix(s.Name, "-env") // print-dev-env's own ending
	if len(s.Name) > 211 {
		s.Name = ""
	}
	s.places = m.places(env)
	s.HasHook = strings.TrimSpace(env.all["shellHook"]) != ""
	for _, v := range env.strings {
		if v.exported || v.name == "PATH" {
			s.exported = append(s.exported, v)
		}
	}
	findBash(s, env)
	if err := os.WriteFile(s.RC, rcText(env, s.places), 0o644); err != nil {
		return nil, cacheError(m.cache.dir, err)
	}
	if env.structured {
		s.Attrs = m.dir
		for name, text := range map[string]string{".attrs.sh": env.attrsSH, ".attrs.json": env.attrsJSON} {
			if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o644); err != nil {
				return nil, cacheError(m.cache.dir, err)
			}
		}
	}
	return s, nil
}

// places lists what is elsewhere where the shell is entered.
func (m *making) places(env *environment) (out []place) {
	for _, o := range env.outputs {
		out = append(out, place{From: o.value, Kind: placeOutput, Name: o.name, Else: o.value})
	}
	if env.structured {
		for name, file := range map[string]string{"NIX_ATTRS_SH_FILE": ".attrs.sh", "NIX_ATTRS_JSON_FILE": ".attrs.json"} {
			if from := env.all[name]; filepath.IsAbs(from) && filepath.Base(from) == file {
				out = append(out, place{From: from, Kind: placeAttrs, Name: file, Else: m.dir})
			}
		}
	}
	if m.source.Kind == KindFile {
		out = append(out, place{From: m.tree, Kind: placeTree, Else: m.tree})
	}
	// The longer ones first: /nix/store/x-shell is the beginning of /nix/store/x-shell-dev.
	slices.SortStableFunc(out, func(a, b place) int {
		if d := len(b.From) - len(a.From); d != 0 {
			return d
		}
		return strings.Compare(a.From, b.From)
	})
	return slices.CompactFunc(out, func(a, b place) bool { return a.From == b.From })
}
