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
		Kin:   []HostPath{{Path: "/usr"}, {Path: "/bin", Link: "usr/bin"}, {Path: "/lib64", Link: "usr/lib64"}},
		Etc:   []HostPath{{Path: "/etc/ld.so.cache"}, {Path: "/etc/localtime", Link: "/usr/share/zoneinfo/UTC"}, {Path: "/etc/services"}, {Path: "/etc/shells"}},
		Certs: "/etc/pki/tls/certs/ca-bundle.crt",
		Path:  "/home/u/bin:/usr/local/go/bin:relative:/usr/../tmp:/usr/bin:/usr/local/go/bin",
	}
}

var someStore = []string{StoreDir + "/0c0gd5fdqsjx7kzz1nqw2yk0zc2xvjps-bash-5.2", StoreDir + "/xxgd5fdqsjx7kzz1nqw2yk0zc2xvjps9-coreutils-9.5"}

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
	storeOnly := func(j *Job) {
		j.Tools, j.Shell = ToolsStore, someStore[0]+"/bin/bash"
		j.Store, j.Path = []string{someStore[1], someStore[0]}, []string{someStore[0] + "/bin"}
		j.Links = []HostPath{{"/bin/sh", j.Shell}, {"/usr/bin/env", someStore[1] + "/bin/env"}}
	}
	both := func(j *Job) {
		storeOnly(j)
		j.Tools, j.Links, j.StoreSource = ToolsBoth, nil, "/home/u/.local/share/nix/root/nix/store"
	}
	for _, tc := range []struct {
		name string
		root bool
		edit func(*Job)
	}{{"user", false, func(*Job) {}}, {"root", true, func(*Job) {}}, {"store", false, storeOnly}, {"both", true, both}} {
		t.Run(tc.name, func(t *testing.T) {
			host, job := someHost(), someJob()
			if host.Root = tc.root; tc.root {
				job.HostUID, job.HostGID = 1879048999, 1879048999
			}
			tc.edit(&job)
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
		{"a tree in the store", func(_ *Policy, j *Job) { j.Dir = StoreDir + "/proj" }, StoreDir},
		{"unknown tools", func(_ *Policy, j *Job) { j.Tools = "nix" }, "known are"},
		{"store paths with the host's tools", func(_ *Policy, j *Job) { j.Store = someStore }, "host's tools alone"},
		{"a store path twice", inStore(func(j *Job) { j.Store = append(j.Store, someStore[0]) }), "twice"},
		{"a relative store", inStore(func(j *Job) { j.StoreSource = "nix/store" }), "nix/store"},
		{"the root as store", inStore(func(j *Job) { j.StoreSource = "/" }), "clean"},
		{"too many store paths", inStore(func(j *Job) { j.Store = make([]string, maxStorePaths+1) }), "at most"},
		{"a relative link", inStore(func(j *Job) { j.Links = []HostPath{{"bin/sh", "x"}} }), "link"},
		{"a link that leads nowhere", inStore(func(j *Job) { j.Links = []HostPath{{"/bin/sh", ""}} }), "link"},
		{"the root as link", inStore(func(j *Job) { j.Links = []HostPath{{"/", "/x"}} }), "link"},
		{"a link in the store", inStore(func(j *Job) { j.Links = []HostPath{{someStore[0], "/x"}} }), StoreDir},
		{"a link in /proc", inStore(func(j *Job) { j.Links = []HostPath{{"/proc/x", "/x"}} }), "/proc"},
		{"a link where the host's tools are", func(_ *Policy, j *Job) { j.Links = []HostPath{{"/bin/sh", "/x"}} }, "host's tools"},
		{"a folder of PATH with a colon", func(_ *Policy, j *Job) { j.Path = []string{"/a:/usr/bin"} }, "PATH"},
		{"a relative folder of PATH", func(_ *Policy, j *Job) { j.Path = []string{"bin"} }, "PATH"},
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

func inStore(edit func(*Job)) func(*Policy, *Job) {
	return func(_ *Policy, j *Job) {
		j.Tools, j.Store = ToolsStore, slices.Clone(someStore)
		edit(j)
	}
}

func TestStoreNames(t *testing.T) {
	hash := strings.Repeat("0", 32)
	for _, ok := range []string{hash + "-a", hash + "-bash-5.2-p15.drv", hash + "-._?=+X", "xxgd5fdqsjx7kzz1nqw2yk0zc2xvjps9-c", hash + "-" + strings.Repeat("n", 211)} {
		if _, err := storeNames([]string{StoreDir + "/" + ok}); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{
		"", "/", "/etc/passwd", "/nix/store", "/nix/store/", "/nix/store/.links", "/nix/store/.", "/nix/store/..", "nix/store/" + hash + "-a", "/nix/store//" + hash + "-a",
		StoreDir + "/" + hash, StoreDir + "/" + hash + "-", StoreDir + "/" + hash + "-a/bin", StoreDir + "/" + hash + "-a/", StoreDir + "/" + hash + "-a b", StoreDir + "/" + hash + "-a\x00",
		StoreDir + "/" + hash + "-" + strings.Repeat("n", 212), StoreDir + "/" + strings.Repeat("e", 32) + "-a", StoreDir + "/" + strings.Repeat("A", 32) + "-a",
		StoreDir + "/" + hash + "0-a", "/nix/store/../../etc/" + hash + "-a", StoreDir + "/" + hash + "-ä",
	} {
		if _, err := storeNames([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestCheckTarget(t *testing.T) {
	for _, ok := range []string{"/home/u/p", "/usr/src/linux", "/tmp/x", "/srv/git/p.git", "/root/p", "/work"} {
		if err := CheckTarget(ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "p", "/", "/usr", "/etc", "/tmp", "/home", "/proc", "/proc/1", "/dev/shm/p", "/sys/x", "/rcc/home/p", "/nix", "/nix/store", "/nix/store/x", "/a/../b", "/a/", "/a\x00b"} {
		if err := CheckTarget(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestSearchPath(t *testing.T) {
	const host = "/usr/local/go/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin"
	own := []string{"/nix/store/x/bin", "/usr/bin", "/nix/store/x/bin"}
	for _, tc := range []struct {
		job  Job
		want string
	}{
		{Job{}, host},
		{Job{Tools: ToolsStore}, ""},
		{Job{Tools: ToolsStore, Path: own}, "/nix/store/x/bin:/usr/bin"},
		{Job{Tools: ToolsBoth, Path: own[:1]}, "/nix/store/x/bin:" + host},
		{Job{Path: own}, "/nix/store/x/bin:/usr/bin:" + strings.Replace(host, ":/usr/bin", "", 1)},
	} {
		if got, err := searchPath(someHost(), tc.job); err != nil || got != tc.want {
			t.Errorf("%q %v:\ngot  %s, %v\nwant %s", tc.job.Tools, tc.job.Path, got, err, tc.want)
		}
	}
}

func TestDecodePlanRefuses(t *testing.T) {
	policy, job := Policy{Net: "none"}, someJob()
	inStore(func(*Job) {})(&policy, &job)
	good, err := NewPlan(policy, job, someHost())
	if err != nil {
		t.Fatal(err)
	}
	store := slices.IndexFunc(good.Steps, func(s Step) bool { return s.Type == StepStore })
	names := func(names ...string) func(*Plan) { return func(p *Plan) { p.Steps[store].Names = names } }
	a, b := good.Steps[store].Names[0], good.Steps[store].Names[1]
	for name, edit := range map[string]func(*Plan){
		"version":                func(p *Plan) { p.Version++ },
		"root":                   func(p *Plan) { p.HostUID = 0 },
		"step":                   func(p *Plan) { p.Steps[0].Type = "shell" },
		"relative target":        func(p *Plan) { p.Steps[0].Target = "usr" },
		"store elsewhere":        func(p *Plan) { p.Steps[store].Target = "/usr" },
		"relative store":         func(p *Plan) { p.Steps[store].Source = "nix" },
		"store paths in a bind":  func(p *Plan) { p.Steps[store].Type = StepBind },
		"store path of another":  names("../../etc"),
		"links of the store":     names(".links"),
		"store path in a folder": names(a + "/bin"),
		"store path with space":  names(a + " "),
		"store path twice":       names(a, a),
		"store paths unsorted":   names(b, a),
		"unclean target":         func(p *Plan) { p.Steps[0].Target = "/usr/../etc" },
	} {
		p := *good
		p.Steps = slices.Clone(good.Steps)
		edit(&p)
		text, _ := json.Marshal(&p)
		if _, err := DecodePlan(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	encoded, _ := json.Marshal(good)
	for name, text := range map[string]string{
		"unknown field": strings.Replace(string(encoded), `{"version"`, `{"extra":1,"version"`, 1),
		"two plans":     string(encoded) + string(encoded),
		"cut off":       string(encoded[:len(encoded)/2]),
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
	f.Add([]byte(`{"version":2,"net":"none","hostUID":1,"hostGID":1,"steps":[{"type":"store","source":"/nix/store","target":"/nix/store","names":"00000000000000000000000000000000-a 00000000000000000000000000000000-b"}]}`))
	f.Add([]byte(`{"version":2,"net":"none","hostUID":1,"hostGID":1,"steps":[{"type":"bind","target":"/"}]}`))
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
			for _, name := range s.Names {
				if strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/ \x00") {
					t.Errorf("store path %q was taken", name)
				}
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
