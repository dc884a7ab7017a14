package hooks

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	hashA = strings.Repeat("a", 64)
	hashB = strings.Repeat("0b", 32)
)

func TestTrust(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "allowed")
	trust := OpenTrust(dir)
	check := func(kind, hash string, want bool) Grant {
		t.Helper()
		g, ok, err := trust.Allowed(kind, hash)
		if ok != want || err != nil {
			t.Fatalf("allowed %s %s: %v, %v, want %v", kind, hash, ok, err, want)
		}
		return g
	}
	check(KindFlake, hashA, false)
	if err := trust.Deny(KindFlake, hashA); err != nil {
		t.Error(err)
	}
	if err := trust.DenyAll(KindFlake); err != nil {
		t.Error(err)
	}
	if _, _, ok := trust.Last(KindFlake); ok {
		t.Error("there is a last one of none")
	}
	grant := Grant{Files: []File{{"flake.nix", "100644", hashA[:40]}, {"odd \n\xff\"\\", "100755", hashB[:40]}}, ImportFromDerivation: true, When: time.Unix(1e9, 5).UTC()}
	if err := trust.Allow(KindFlake, hashA, grant); err != nil {
		t.Fatal(err)
	}
	if got := check(KindFlake, hashA, true); !reflect.DeepEqual(got, grant) {
		t.Errorf("the grant is %+v, want %+v", got, grant)
	}
	check(KindFlake, hashB, false)
	check(KindPolicy, hashA, false)
	if err := trust.Allow(KindFlake, hashB, Grant{}); err != nil {
		t.Fatal(err)
	}
	if hash, g, ok := trust.Last(KindFlake); !ok || hash != hashB || time.Since(g.When) > time.Minute {
		t.Errorf("the last is %s, %+v, %v", hash, g, ok)
	}
	if err := trust.Allow(KindPolicy, hashA, Grant{}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, trust.Path(KindFlake, hashA)} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if err := trust.Deny(KindFlake, hashB); err != nil {
		t.Error(err)
	}
	check(KindFlake, hashB, false)
	check(KindFlake, hashA, true)
	if err := trust.DenyAll(KindFlake); err != nil {
		t.Error(err)
	}
	check(KindFlake, hashA, false)
	check(KindPolicy, hashA, true)
	for _, bad := range [][2]string{{"", hashA}, {"../flake", hashA}, {"flake", "../" + hashA}, {"flake", hashA[1:]}, {"flake", strings.ToUpper(hashA)}, {"flake", ""}, {"Flake", hashA}} {
		if _, ok, err := trust.Allowed(bad[0], bad[1]); ok || err == nil {
			t.Errorf("%q is looked up: %v, %v", bad, ok, err)
		}
		if trust.Allow(bad[0], bad[1], Grant{}) == nil || trust.Deny(bad[0], bad[1]) == nil || trust.Path(bad[0], bad[1]) != "" {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Whatever is wrong with the folder or the file is a no that says so.
func TestTrustNotBelieved(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, dir, file string) error{
		"control":        nil,
		"folder is link": func(t *testing.T, dir, file string) error { return swapForLink(dir) },
		"file is link":   func(t *testing.T, dir, file string) error { return swapForLink(file) },
		"folder is file": func(t *testing.T, dir, file string) error { os.RemoveAll(dir); return os.WriteFile(dir, nil, 0o600) },
		"file is pipe":   func(t *testing.T, dir, file string) error { os.Remove(file); return unix.Mkfifo(file, 0o600) },
		"file is folder": func(t *testing.T, dir, file string) error { os.Remove(file); return os.Mkdir(file, 0o700) },
		"folder for all": func(t *testing.T, dir, file string) error { return os.Chmod(dir, 0o777) },
		"file for group": func(t *testing.T, dir, file string) error { return os.Chmod(file, 0o620) },
		"empty":          func(t *testing.T, dir, file string) error { return os.Truncate(file, 0) },
		"garbage":        func(t *testing.T, dir, file string) error { return os.WriteFile(file, []byte("yes\n"), 0o600) },
		"too large":      func(t *testing.T, dir, file string) error { return os.Truncate(file, maxPrivate+1) },
		"another's name": func(t *testing.T, dir, file string) error { return os.Rename(filepath.Join(dir, "flake-"+hashB), file) },
		"another's kind": func(t *testing.T, dir, file string) error {
			return os.Rename(filepath.Join(dir, "policy-"+hashA), file)
		},
		"cut off":         func(t *testing.T, dir, file string) error { return os.Truncate(file, 40) },
		"file of another": func(t *testing.T, dir, file string) error { return giveAway(t, file) },
		"folder of another": func(t *testing.T, dir, file string) error {
			return giveAway(t, dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "allowed")
			trust := OpenTrust(dir)
			for _, what := range [][2]string{{KindFlake, hashA}, {KindFlake, hashB}, {KindPolicy, hashA}} {
				if err := trust.Allow(what[0], what[1], Grant{Files: []File{{"f", "100644", "id"}}}); err != nil {
					t.Fatal(err)
				}
			}
			if harm != nil {
				if err := harm(t, dir, trust.Path(KindFlake, hashA)); err != nil {
					t.Fatal(err)
				}
			}
			_, ok, err := trust.Allowed(KindFlake, hashA)
			if harm == nil {
				if !ok || err != nil {
					t.Fatalf("the control is not allowed: %v", err)
				}
				return
			}
			if ok || err == nil || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
				t.Errorf("allowed: %v, %v", ok, err)
			}
		})
	}
}

func swapForLink(path string) error {
	if err := os.Rename(path, path+".real"); err != nil {
		return err
	}
	return os.Symlink(path+".real", path)
}

func giveAway(t *testing.T, path string) error {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can give files away")
	}
	return os.Chown(path, 12345, 12345)
}

// Readers see the old or the new file, never a part.
func TestTrustAtomic(t *testing.T) {
	trust := OpenTrust(filepath.Join(t.TempDir(), "allowed"))
	grant := Grant{Files: make([]File, 2000)}
	if err := trust.Allow(KindFlake, hashA, grant); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 30 {
				if err := trust.Allow(KindFlake, hashA, grant); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 200 {
		if _, ok, err := trust.Allowed(KindFlake, hashA); !ok || err != nil {
			t.Fatalf("allowed: %v, %v", ok, err)
		}
	}
	writers.Wait()
	names, _ := os.ReadDir(trust.dir)
	if len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestChanges(t *testing.T) {
	got := Changes(
		[]File{{"same", "100644", "1"}, {"flake.lock", "100644", "2"}, {"z", "100644", "3"}, {"mode", "100644", "4"}},
		[]File{{"same", "100644", "1"}, {"flake.lock", "100644", "5"}, {"a.nix", "100644", "6"}, {"mode", "120000", "4"}},
	)
	if want := []string{"new a.nix", "changed flake.lock", "mode mode", "gone z"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Changes(nil, nil); got != nil {
		t.Errorf("nothing differs by %q", got)
	}
}

func TestGood(t *testing.T) {
	good := OpenGood(filepath.Join(t.TempDir(), "good"))
	if key, ok := good.Get("/p", ""); ok {
		t.Errorf("there is %q", key)
	}
	for _, put := range [][3]string{{"/p", "", "k1"}, {"/p", "x", "k2"}, {"/p", "", "k3"}, {"/p\x00x", "", "k4"}} {
		if err := good.Put(put[0], put[1], put[2]); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range [][3]string{{"/p", "", "k3"}, {"/p", "x", "k2"}} {
		if key, ok := good.Get(want[0], want[1]); !ok || key != want[2] {
			t.Errorf("%q: %q, %v", want, key, ok)
		}
	}
	if keys, err := good.Keys(); err != nil || len(keys) != 3 {
		t.Errorf("keys: %q, %v", keys, err)
	}
	if good.Put("/p", "", "a\nb") == nil || good.Put("/p", "", "") == nil {
		t.Error("a key with a line end is taken")
	}
	if err := swapForLink(good.dir); err != nil {
		t.Fatal(err)
	}
	if key, ok := good.Get("/p", ""); ok {
		t.Errorf("through a link: %q", key)
	}
}
