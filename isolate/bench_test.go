package isolate

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkSandbox is the whole life of a sandbox that runs true(1).
func BenchmarkSandbox(b *testing.B) { benchmarkLife(b, NetNone, nil, nil) }

// BenchmarkNetwork is the same with a way out.
func BenchmarkNetwork(b *testing.B) { benchmarkLife(b, NetAllow, nil, nil) }

// BenchmarkOverlay is the same with an overlay in it.
func BenchmarkOverlay(b *testing.B) {
	dir := b.TempDir()
	lower, task := filepath.Join(dir, "lower"), filepath.Join(dir, "task")
	for _, path := range []string{lower, task, task + "/upper"} {
		if err := errors.Join(os.Mkdir(path, 0o755), hostOwned(path)); err != nil {
			b.Fatal(err)
		}
	}
	fresh := func() error {
		work := task + "/work"
		return errors.Join(exec.Command("rm", "-rf", work).Run(), os.Mkdir(work, 0o755), hostOwned(work))
	}
	benchmarkLife(b, NetNone, fresh, func(j *Job) {
		j.Binds = []Bind{{Target: "/srv/proj", Lower: []Layer{{lower, true}}, Upper: task}}
	})
}

func benchmarkLife(b *testing.B, net string, before func() error, edit func(*Job)) {
	job := Job{Dir: "/", UID: 1000, GID: 1000, HostUID: os.Getuid(), HostGID: os.Getgid(), User: "agent"}
	if os.Getuid() == 0 {
		job.HostUID, job.HostGID = 1879048200, 1879048200
	}
	if edit != nil {
		edit(&job)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for b.Loop() {
		if before != nil {
			b.StopTimer()
			if err := before(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		p, err := NewPlan(Policy{Net: net}, job, LookHost(os.Environ()))
		if err != nil {
			b.Fatal(err)
		}
		sb, err := Start(context.Background(), p)
		if err != nil {
			b.Fatal(err)
		}
		prog, err := sb.Spawn(Program{Args: []string{"true"}, Files: []*os.File{null, null, null}})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := prog.Wait(); err != nil {
			b.Fatal(err)
		}
		if err := sb.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
