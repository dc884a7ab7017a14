package worktree

import (
	"os"
	"testing"
	"time"
)

func TestCarryKey(t *testing.T) {
	w := newWorld(t, "sha1")
	w.sh(w.repo, "sh", "-ec", carryMess)
	w.sh(w.repo, "sh", "-ec", "find . -name .git -prune -o -exec touch -h -d 2020-01-02T03:04:05.678 {} +")
	key := func() string {
		return w.find(CarrySpec{Patterns: []string{"node_modules", ".env"}, Tree: "HEAD"}).Key()
	}
	was := key()
	w.write("proj/unrelated.log", "x\n")
	if got := key(); got != was {
		t.Error("the key is another one without a reason")
	}
	back := "touch -h -d 2020-01-02T03:04:05.678 "
	for _, change := range []string{
		"echo 3 > node_modules/a/index.js",
		"echo 4 > node_modules/a/index.js; touch -d 2020-01-02T03:04:05.679 node_modules/a/index.js",
		"chmod 600 node_modules/a/index.js",
		"chmod 700 node_modules/a",
		"cp -p .env .env2; mv .env2 .env",
		"ln -sfn ../b node_modules/.bin/a; " + back + "node_modules/.bin/a",
		"echo 12 > .env; " + back + ".env",
		"mv node_modules/a/index.js node_modules/a/indey.js",
		"mkdir node_modules/new",
		"rm -r node_modules/a/target",
		"git add -f node_modules/a/.env",
	} {
		w.sh(w.repo, "sh", "-ec", change)
		now := key()
		if now == was {
			t.Errorf("the key does not see: %s", change)
		}
		was = now
		// Not young any more; the time itself is part of the key.
		w.sh(w.repo, "sh", "-ec", "find node_modules .env -exec touch -h -d 2020-01-02T03:04:05.678 {} +")
		was = key()
	}
	// As young as its file system can tell, if that counts whole seconds.
	now := time.Now().Truncate(time.Second).Add(time.Second)
	os.Chtimes(w.repo+"/.env", now, now)
	c, again := w.find(CarrySpec{Patterns: []string{".env"}}), w.find(CarrySpec{Patterns: []string{".env"}})
	if one, two := c.Key(), c.Key(); one != two {
		t.Error("one search, two keys")
	}
	if c.Key() == again.Key() {
		t.Error("a file that may change without a trace has a lasting key")
	}
}
