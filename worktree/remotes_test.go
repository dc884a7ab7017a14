package worktree

import (
	"slices"
	"strings"
	"testing"
)

// What Remotes says is what git itself would talk to.
func TestRemotes(t *testing.T) {
	w := newWorld(t, "sha1")
	for _, kv := range [][2]string{
		{"remote.origin.url", "https://git.example/a.git"},
		{"remote.Up.stream.url", "short:b"},
		{"remote.Up.stream.pushurl", "ssh://git@push.example:2222/b"},
		{"remote.local.url", "/srv/c"},
		{"remote.both.url", "https://one.example/d"},
		{"url.git@longer.example:.insteadOf", "https://one.example/d"},
		{"url.https://shorter.example/.insteadOf", "https://one.example/"},
		{"url.https://short.example/.insteadOf", "short:"},
		{"url.ssh://git@git.example/.pushInsteadOf", "https://git.example/"},
		{"remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"},
		{"remote.pushDefault", "origin"},
	} {
		w.g("config", kv[0], kv[1])
	}
	got := w.open().Remotes()
	want := []Remote{
		{"Up.stream", "https://short.example/b"},
		{"Up.stream", "short:b"},
		{"Up.stream", "ssh://git@push.example:2222/b"},
		{"both", "git@longer.example:"},
		{"both", "https://one.example/d"},
		{"local", "/srv/c"},
		{"origin", "https://git.example/a.git"},
		{"origin", "ssh://git@git.example/a.git"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	for _, name := range []string{"origin", "Up.stream", "both", "local"} {
		for _, push := range []string{"", "--push"} {
			args := strings.Fields("remote get-url --all " + push + " " + name)
			for url := range strings.Lines(w.g(args...)) {
				if !slices.Contains(got, Remote{name, strings.TrimSpace(url)}) {
					t.Errorf("git would talk to %s for %s", url, name)
				}
			}
		}
	}
}

func TestSightFile(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		w := newWorld(t, format)
		w.write("proj/plain", "content")
		w.write("proj/dir/file", "x")
		w.sh(w.repo, "ln", "-s", "plain", "link")
		w.commit("files")
		r, s, err := w.git.Look(t.Context(), w.repo, "HEAD", "x")
		if err != nil {
			t.Fatal(err)
		}
		id, ok := s.File("plain")
		if want := strings.TrimSpace(w.g("rev-parse", "HEAD:plain")); id != want || !ok {
			t.Errorf("%s: plain is %s, %v, not %s", format, id, ok, want)
		}
		for _, name := range []string{"link", "dir", "none", ""} {
			if _, ok := s.File(name); ok {
				t.Errorf("%s: %q is a regular file", format, name)
			}
			if s.Has(name) != (name == "link" || name == "dir") {
				t.Errorf("%s: has %q", format, name)
			}
		}
		var sizes []int
		other, _ := s.File("plain")
		if err := r.SmallBlobs(t.Context(), []string{id, other}, 7, 14, func(_ int, b []byte) error {
			sizes = append(sizes, len(b))
			return nil
		}); err != nil || !slices.Equal(sizes, []int{7, 7}) {
			t.Errorf("%s: %v, %v", format, sizes, err)
		}
		for _, tt := range []struct {
			limit, sum int64
			want       []bool
		}{{6, 100, []bool{false, false}}, {7, 13, []bool{true, false}}, {7, 6, []bool{false, false}}} {
			var read []bool
			if err := r.SmallBlobs(t.Context(), []string{id, other}, tt.limit, tt.sum, func(_ int, b []byte) error {
				read = append(read, b != nil)
				return nil
			}); err != nil || !slices.Equal(read, tt.want) {
				t.Errorf("%s: of %d and %d bytes: %v, %v", format, tt.limit, tt.sum, read, err)
			}
		}
	}
}
