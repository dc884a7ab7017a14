package hooks

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestStamp(t *testing.T) {
	dir := t.TempDir()
	stamps, file := filepath.Join(dir, "stamps"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * clockSlack)
	begin := time.Now()
	write := func(since time.Time) (string, []seen) {
		t.Helper()
		list := look([]string{file, filepath.Join(dir, "gone"), file, "relative", dir}, since)
		name, err := writeStamp(stamps, list, since)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := readStamp(stamps, name)
		if !ok || len(got) != 3 || len(list) != 3 {
			t.Fatalf("%+v is read as %+v, %v", list, got, ok)
		}
		return name, got
	}
	name, list := write(begin)
	if !unchanged(list) {
		t.Error("it changed by itself")
	}
	if info, err := os.Stat(filepath.Join(stamps, name)); err != nil || !info.ModTime().Equal(begin.Add(-stampSlack)) {
		t.Errorf("the stamp's time: %v, %v", info, err)
	}
	os.WriteFile(filepath.Join(dir, "other"), nil, 0o600)
	if !unchanged(list) {
		t.Error("another file in the folder changes it")
	}
	// The same size, and the time set back.
	info, _ := os.Stat(file)
	os.WriteFile(file, []byte("two"), 0o600)
	os.Chtimes(file, info.ModTime(), info.ModTime())
	if unchanged(list) {
		t.Error("a change is not noticed")
	}
	// Changed while it was read: never as it was.
	if name2, list := write(begin); unchanged(list) || name2 == name {
		t.Error("what changed while it was read is taken as read")
	}
	time.Sleep(2 * clockSlack)
	if _, list := write(time.Now()); !unchanged(list) {
		t.Error("it changed by itself")
	}
	if n, err := PruneStamps(stamps, time.Hour); n != 0 || err != nil {
		t.Error(n, err)
	}
	old := time.Now().Add(-2 * time.Hour)
	os.Chtimes(filepath.Join(stamps, name), old, old)
	os.WriteFile(filepath.Join(stamps, "other"), nil, 0o600)
	os.Chtimes(filepath.Join(stamps, "other"), old, old)
	if n, err := PruneStamps(stamps, time.Hour); n != 1 || err != nil {
		t.Error(n, err)
	}
	if _, ok := readStamp(stamps, name); ok {
		t.Error("it is still there")
	}
	for _, bad := range []string{"", "../file", "other"} {
		if got, ok := readStamp(stamps, bad); ok {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}
