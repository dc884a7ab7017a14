package isolate

import (
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// someHost is a machine with a merged /usr and two files in /etc.
func someHost() Host {
	return Host{
		Kin:  []HostPath{{Path: "/usr"}, {Path: "/bin", Link: "usr/bin"}, {Path: "/lib64", Link: "usr/lib64"}},
		Etc:  []HostPath{{Path: "/etc/ld.so.cache"}, {Path: "/etc/localtime", Link: "/usr/share/zoneinfo/UTC"}},
		Path: "/home/u/bin:/usr/local/go/bin:relative:/usr/../tmp:/usr/bin:/usr/local/go/bin",
	}
}

func someJob() Job {
	return Job{
		Dir: "/home/u/proj", Home: "/state/home", UID: 1000, GID: 1000, HostUID: 1000, HostGID: 1000, User: "u", Shell: "/bin/bash",
		Binds: []Bind{
			{Source: "/state/tree", Target: "/home/u/proj", Writable: true},
			{Source: "/home/u/proj/.git/objects", Target: "/rcc/objects/0", MapOwner: true},
			{Target: "/rcc/objects/0/info/alternates", Empty: true},
			{Target: "/home/u/other", Lower: []Layer{{"/cache/git/files", true}, {"/cache/base/files", true}}, Upper: "/state/layer"},
		},
	}
}

func TestPlanGolden(t *testing.T) {
	for _, tc := range []struct {
		name string
		root bool
	}{{"user", false}, {"root", true}} {
		t.Run(tc.name, func(t *testing.T) {
			host, job := someHost(), someJob()
			if host.Root = tc.root; tc.root {
				job.HostUID, job.HostGID = 1879048999, 1879048999
			}
			p, err := NewPlan(Policy{Net: "none"}, job, host)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			file := "testdata/plan-" + tc.name + ".json"
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(want) != string(got)+"\n" {
				t.Errorf("plan differs from %s; look at it with go test -update and git diff:\n%s", file, got)
			}
			back, err := DecodePlan(got)
			if err != nil {
				t.Fatalf("a stage would refuse the plan: %v", err)
			}
			if again, _ := json.MarshalIndent(back, "", "  "); string(again) != string(got) {
				t.Error("the plan changes on its way to a stage")
			}
		})
	}
}

func TestPlanSealsLast(t *testing.T) {
	p, err := NewPlan(Policy{Net: "none"}, someJob(), someHost())
	if err != nil {
		t.Fatal(err)
	}
	if last := p.Steps[len(p.Steps)-1]; last.Type != StepSeal || last.Target != "/" {
		t.Errorf("last step is %v, want the seal of /", last)
	}
	for _, s := range p.Steps {
		if s.Type == StepBind && s.Writable && !s.Device && s.Target != Home && s.Target != "/home/u/proj" {
			t.Errorf("%s is writable", s.Target)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*Policy, *Job)
		want string
	}{
		{"an unknown network", func(p *Policy, _ *Job) { p.Net = "all" }, "network"},
		{"no network said", func(p *Policy, _ *Job) { p.Net = "" }, "network"},
		{"the host's root", func(_ *Policy, j *Job) { j.HostUID = 0 }, "root"},
		{"root's group", func(_ *Policy, j *Job) { j.HostGID = 0 }, "root"},
		{"a tree at /usr", func(_ *Policy, j *Job) { j.Dir = "/usr" }, "/usr"},
		{"a tree below /proc", func(_ *Policy, j *Job) { j.Dir = "/proc/x" }, "/proc"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			policy, job := Policy{Net: "none"}, someJob()
			tc.edit(&policy, &job)
			_, err := NewPlan(policy, job, someHost())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error about %s", err, tc.want)
			}
		})
	}
}

func TestCheckTarget(t *testing.T) {
	for _, ok := range []string{"/home/u/p", "/usr/src/linux", "/tmp/x", "/srv/git/p.git", "/root/p", "/work"} {
		if err := CheckTarget(ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "p", "/", "/usr", "/etc", "/tmp", "/home", "/proc", "/proc/1", "/dev/shm/p", "/sys/x", "/rcc/home/p", "/a/../b", "/a/", "/a\x00b"} {
		if err := CheckTarget(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestSearchPath(t *testing.T) {
	got, err := searchPath(someHost(), Job{})
	want := "/usr/local/go/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin"
	if err != nil || got != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestDecodePlanRefuses(t *testing.T) {
	good, err := NewPlan(Policy{Net: "none"}, someJob(), someHost())
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Plan){
		"version":         func(p *Plan) { p.Version++ },
		"root":            func(p *Plan) { p.HostUID = 0 },
		"step":            func(p *Plan) { p.Steps[0].Type = "shell" },
		"relative target": func(p *Plan) { p.Steps[0].Target = "usr" },
		"unclean target":  func(p *Plan) { p.Steps[0].Target = "/usr/../etc" },
	} {
		p := *good
		p.Steps = slices.Clone(good.Steps)
		edit(&p)
		b, _ := json.Marshal(&p)
		if _, err := DecodePlan(b); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	b, _ := json.Marshal(good)
	for name, text := range map[string]string{
		"unknown field": strings.Replace(string(b), `{"version"`, `{"extra":1,"version"`, 1),
		"two plans":     string(b) + string(b),
		"cut off":       string(b[:len(b)/2]),
		"empty":         "",
	} {
		if _, err := DecodePlan([]byte(text)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzDecodePlan(f *testing.F) {
	p, err := NewPlan(Policy{Net: "none"}, someJob(), someHost())
	if err != nil {
		f.Fatal(err)
	}
	b, _ := json.Marshal(p)
	f.Add(b)
	f.Add([]byte(`{"version":1,"hostUID":1,"hostGID":1,"steps":[{"type":"bind","target":"/"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePlan(b)
		if err != nil {
			return
		}
		if p.HostUID <= 0 || p.HostGID <= 0 {
			t.Error("a plan for root was taken")
		}
		for _, s := range p.Steps {
			if !strings.HasPrefix(s.Target, "/") || strings.Contains(s.Target+"/", "/../") {
				t.Errorf("target %q was taken", s.Target)
			}
		}
	})
}

func TestMergeEnv(t *testing.T) {
	got := mergeEnv([]string{"A=1", "B=2"}, []string{"B=3", "C=4", "broken", "=x"})
	if want := []string{"A=1", "B=3", "C=4"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
