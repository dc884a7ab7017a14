package isolate

import (
	"context"
	"os"
	"testing"
)

// BenchmarkSandbox is the whole life of a sandbox that runs true(1).
func BenchmarkSandbox(b *testing.B) {
	job := Job{Dir: "/", UID: 1000, GID: 1000, HostUID: os.Getuid(), HostGID: os.Getgid(), User: "agent"}
	if os.Getuid() == 0 {
		job.HostUID, job.HostGID = 1879048200, 1879048200
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for b.Loop() {
		p, err := NewPlan(Policy{Net: "none"}, job, LookHost(os.Environ()))
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
