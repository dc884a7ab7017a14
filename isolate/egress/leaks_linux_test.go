package egress

import (
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// checkLeaks sees at the end of a test that no goroutine and no descriptor is
// left that was not there at its begin.
func checkLeaks(t testing.TB) {
	t.Helper()
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close() // the poller has descriptors of its own, from its first use on
	}
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	t.Cleanup(func() {
		var g, f int
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			runtime.GC() // the pipes that splice(2) used are in a pool
			if g, f = runtime.NumGoroutine(), descriptors(t); g <= goroutines && f <= files {
				return
			}
		}
		buf := make([]byte, 1<<20)
		t.Errorf("left over: %d goroutines of %d, %d descriptors of %d\n%s", g, goroutines, f, files, buf[:runtime.Stack(buf, true)])
	})
}

func descriptors(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}
