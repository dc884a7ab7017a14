package worktree

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// victimName is the argv[0] of a process that applies a merge until it is
// killed. Its arguments are a checkout and an intent.
const victimName = "rcc-victim"

func victim() int {
	var in MergeIntent
	if err := json.Unmarshal([]byte(os.Args[2]), &in); err != nil {
		return 2
	}
	g, err := NewGit(os.Environ())
	if err != nil {
		return 2
	}
	r, err := g.Open(context.Background(), os.Args[1])
	if err != nil {
		return 2
	}
	fmt.Println("open")
	if err := r.ApplyMerge(context.Background(), &in); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Real kills at random moments, of the merging process alone (its git goes on
// for a moment) or with its git. Whatever state that leaves, recovery ends at
// exactly the old or exactly the new one.
func TestKilledMerges(t *testing.T) {
	w := newWorld(t, "sha1")
	for i := range 150 {
		w.write(fmt.Sprintf("proj/many/f%d", i), strings.Repeat(fmt.Sprintln(i), 500))
	}
	r, in := w.bigTaskWith("for f in many/*; do echo more >> $f; done; mkdir more; for i in $(seq 100); do echo $i > more/$i; done")
	rounds, seed := 24, uint64(time.Now().UnixNano())
	if testing.Short() {
		rounds = 6
	}
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	before := w.stable()
	ends := map[bool]int{}
	for n := range rounds {
		w.killOne(in, time.Duration(dice.IntN(400000))*time.Microsecond, n%2 == 0)
		done, err := r.RecoverMerge(t.Context(), in)
		if err != nil {
			t.Fatalf("round %d: %v", n, err)
		}
		w.checkSettled(in, done, before)
		if t.Failed() {
			t.Fatalf("round %d, done %v", n, done)
		}
		ends[done]++
		if done {
			if err := r.UndoMerge(t.Context(), in); err != nil {
				t.Fatalf("round %d: undo: %v", n, err)
			}
		}
		// The index is written anew by undo, and refreshed by git status: the same
		// entries, other times.
		before = w.stable()
	}
	t.Logf("ended old %d times, new %d times", ends[false], ends[true])
}

func (w *world) killOne(in *MergeIntent, after time.Duration, group bool) {
	w.t.Helper()
	arg, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(self, w.repo, string(arg))
	cmd.Args[0], cmd.Env = victimName, w.environ
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 8)) // it has begun
	time.Sleep(after)
	if group {
		// Its git processes are in groups of their own; they are its children.
		for _, pid := range children(cmd.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// children lists the child processes of pid (proc(5)).
func children(pid int) []int {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	var pids []int
	for _, task := range tasks {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, f := range strings.Fields(string(data)) {
			var child int
			if _, err := fmt.Sscan(f, &child); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}
