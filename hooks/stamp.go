package hooks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A stamp is a file of the user's that lists files as they were when a shell
// looked at them. Its own time says since when nothing newer has been seen: the
// shells compare with -nt, without a process. It is named by its content, so
// that two shells that have seen different things never share one. All of them
// can be removed at any time; the shells then look again.

const (
	// stampSlack is how much older than its making a stamp is: some file systems
	// and shells count in seconds, one (FAT) in twos.
	stampSlack = 2 * time.Second
	// clockSlack is by how much the time that the kernel gives a file may lag
	// behind the clock: one tick, 10 ms at most (CLOCK_REALTIME_COARSE in clock_gettime(2)).
	clockSlack = 20 * time.Millisecond
	// maxShellWatch is up to how many files the shell itself looks at; above,
	// rcc is asked at each prompt, which costs one start of it.
	maxShellWatch = 500
	// maxWatch bounds the files of a stamp.
	maxWatch = 50_000
)

// A seen is what is compared of a file.
type seen struct {
	path   string
	mark   string // "" for a file that is not there
	unsure bool   // it changed while it was read
}

// stamped is the mark in a stamp. No file has that of an unsure one, which so is read again.
func (s seen) stamped() string {
	if s.unsure {
		return "?"
	}
	return s.mark
}

// look notes how files are now. One that changed after since, when the reading
// began, may have been read before the change.
func look(paths []string, since time.Time) []seen {
	paths = slices.Clone(paths)
	slices.Sort(paths)
	paths = slices.Compact(paths)
	if len(paths) > maxWatch {
		paths = paths[:maxWatch]
	}
	out := make([]seen, 0, len(paths))
	for _, p := range paths {
		if !filepath.IsAbs(p) || strings.IndexByte(p, 0) >= 0 {
			continue
		}
		mark, changed := markOf(p)
		out = append(out, seen{p, mark, mark != "" && !since.IsZero() && changed.After(since.Add(-clockSlack))})
	}
	return out
}

// markOf follows links, as whoever reads the file does. The change time notices
// also what sets the other times back.
func markOf(path string) (mark string, changed time.Time) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return "", time.Time{}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "folder", time.Time{} // what is in it has entries of its own
	}
	field := func(n int64) string { return strconv.FormatInt(n, 36) }
	return field(int64(st.Ino)) + "." + field(st.Size) + "." + field(st.Mtim.Nano()) + "." + field(st.Ctim.Nano()), time.Unix(st.Ctim.Unix())
}

// writeStamp writes the stamp for what was seen, as old as it has to be for a
// look that began at since.
func writeStamp(dir string, list []seen, since time.Time) (name string, err error) {
	var text bytes.Buffer
	for _, s := range list {
		text.WriteString(s.path + "\x00" + s.stamped() + "\x00")
	}
	sum := sha256.Sum256(text.Bytes())
	name = hex.EncodeToString(sum[:])
	f, err := openFolder(dir, true)
	if err != nil {
		return name, err
	}
	defer f.close()
	if have, err := f.read(name); err != nil || !bytes.Equal(have, text.Bytes()) {
		if err := f.write(name, text.Bytes()); err != nil {
			return name, err
		}
	}
	return name, f.touch(name, since.Add(-stampSlack))
}

// readStamp is what a stamp says was seen; false when there is none to be believed.
func readStamp(dir, name string) (list []seen, ok bool) {
	if name == "" {
		return nil, false
	}
	f, err := openFolder(dir, false)
	if err != nil {
		return nil, false
	}
	defer f.close()
	data, err := f.read(name)
	if err != nil || len(data) == 0 {
		return nil, false
	}
	fields := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	if len(fields)%2 != 0 {
		return nil, false
	}
	for i := 0; i < len(fields); i += 2 {
		list = append(list, seen{path: fields[i], mark: fields[i+1]})
	}
	return list, true
}

// unchanged tells whether all files are still as they were seen.
func unchanged(list []seen) bool {
	for _, s := range list {
		if mark, _ := markOf(s.path); mark != s.mark {
			return false
		}
	}
	return true
}

// shellWatch is what a shell compares with the stamp: the files, and the folders
// they are in, whose times tell of files that are gone, renamed or replaced by
// older ones. Nil when they are too many for a shell.
func shellWatch(list []seen) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.path, filepath.Dir(s.path))
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) > maxShellWatch {
		return nil
	}
	return out
}

// PruneStamps removes stamps in dir that no shell has looked at for that long
// and tells how many. A shell that still needs one makes it again.
func PruneStamps(dir string, age time.Duration) (removed int, err error) {
	f, err := openFolder(dir, false)
	if err != nil || f == nil {
		return 0, err
	}
	defer f.close()
	names, err := f.names()
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		var st unix.Stat_t
		if !isHex(name, 64) || unix.Fstatat(int(f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		if time.Since(time.Unix(st.Mtim.Unix())) > age {
			if err := f.remove(name); err != nil {
				return removed, err
			}
			removed++
		}
	}
	return removed, nil
}

// touch sets both times of a file.
func (f *folder) touch(name string, to time.Time) error {
	ts := unix.NsecToTimespec(to.UnixNano())
	if err := unix.UtimesNanoAt(int(f.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("cannot set the time of %s: %w", filepath.Join(f.path, name), err)
	}
	return nil
}
