package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"rcc/isolate/egress"
)

// planOf joins layers that are given as files, with a worked-out list of one host.
func planOf(t *testing.T, system, user, repo string, trusted bool, flags netFlags, agent string) (*netPlan, error) {
	t.Helper()
	c, err := LoadConfig("u", []byte(user), "r", []byte(repo))
	if err != nil {
		t.Fatal(err)
	}
	in := netInputs{User: c.User, Repo: c.Repo, Trusted: trusted, Flags: flags, Agent: c.Agents[agent]}
	if system != "" {
		if in.System, err = decodeSystemPolicy("s", []byte(system)); err != nil {
			t.Fatal(err)
		}
	}
	in.Project = func(context.Context) (worked, error) {
		r, err := egress.ParseRule("remote.example:443")
		r.From = "remote origin"
		return worked{Rules: []egress.Rule{r}, LeftOut: []netLine{{"ignored", "localhost:99 left out", "x.lock"}}}, err
	}
	return buildNet(t.Context(), in)
}

func shownPlan(p *netPlan) string {
	var lines []string
	for _, l := range p.Lines {
		lines = append(lines, l.Kind+" "+l.Text+" <"+l.From+">")
	}
	return strings.Join(lines, "\n")
}

func TestBuildNet(t *testing.T) {
	const asks = "net = 'public'\nallow = ['a.example:443', '@project']\nforward = [5432]\npublish = ['0:3000']\ndeny = ['bad.example']\n"
	for _, tt := range []struct {
		name, system, user, repo string
		trusted                  bool
		flags                    netFlags
		agent                    string
		want                     string // lines
	}{
		{
			name: "nothing is said",
			want: "net allow <built in>\nallow remote.example:443 <@project: remote origin>\nignored localhost:99 left out <x.lock>",
		},
		{
			name: "the user's list replaces the worked-out one",
			user: "allow = ['b.example']\n",
			want: "net allow <built in>\nallow b.example <u:1>",
		},
		{
			name: "each entry has its own line, and is there once",
			user: "allow = [\n 'b.example', # one\n\n '@project',\n 'B.example.',\n]\ndeny = ['c.b.example']\n",
			want: "net allow <built in>\nallow b.example <u:2>\nallow remote.example:443 <@project: remote origin>\nignored localhost:99 left out <x.lock>\ndeny c.b.example <u:7>",
		},
		{
			name: "an empty list denies everything",
			user: "net = 'allow'\nallow = []\n",
			want: "net allow <u:1>\nallow nothing <u:2>",
		},
		{
			name:  "flags add to an empty list",
			user:  "allow = []\n",
			flags: netFlags{Allow: []string{"x.example:443"}, Forward: []uint16{5432}, Publish: []publish{{0, 3000}}},
			want:  "net allow <built in>\nallow x.example:443 <--allow>\nforward 5432 <--forward>\npublish 0:3000 <--publish>",
		},
		{
			name: "a repository that is not trusted widens nothing",
			repo: asks,
			want: "ignored net public: not allowed yet (rcc allow) <r:1>\nnet allow <built in>\nignored allow a.example:443: not allowed yet (rcc allow) <r:2>\n" +
				"allow remote.example:443 <@project: remote origin>\nignored localhost:99 left out <x.lock>\ndeny bad.example <r:5>\n" +
				"ignored forward 5432: not allowed yet (rcc allow) <r:3>\nignored publish 0:3000: not allowed yet (rcc allow) <r:4>",
		},
		{
			name: "one that is trusted does",
			repo: asks, trusted: true,
			want: "net public <r:1>\nallow a.example:443 <r:2>\ndeny bad.example <r:5>\nforward 5432 <r:3>\npublish 0:3000 <r:4>",
		},
		{
			name: "it adds to the user's list",
			user: "allow = ['b.example']\nforward = [1234]\n", repo: "allow = ['a.example']\nforward = [1234, 4321]\n", trusted: true,
			want: "net allow <built in>\nallow b.example <u:1>\nallow a.example <r:1>\nforward 1234 <u:2>\nforward 4321 <r:2>",
		},
		{
			name: "a repository tightens without trust",
			user: "net = 'public'\n", repo: "net = 'none'\n",
			want: "net none <r:1>",
		},
		{
			name: "its empty list denies all",
			user: "net = 'public'\nallow = ['10.0.0.0/8']\n[agent.a]\ncommand = ['x']\nallow = ['api.example']\n", repo: "\nallow = []\n", agent: "a",
			want: "net allow <r:2>\nallow nothing <r:2>",
		},
		{
			name: "also when it is trusted", trusted: true,
			user: "allow = ['b.example']\n", repo: "\nallow = []\n",
			want: "net allow <built in>\nallow nothing <r:2>",
		},
		{
			name: "but for flags",
			user: "net = 'public'\n", repo: "\nallow = []\n", flags: netFlags{Allow: []string{"x.example"}},
			want: "net allow <r:2>\nallow x.example <--allow>",
		},
		{
			name: "a flag is the user's last word",
			user: "net = 'none'\n", repo: "net = 'none'\n", flags: netFlags{Net: "public"},
			want: "net public <--net>",
		},
		{
			name: "an agent's own list, when it is used",
			user: "allow = []\n[agent.a]\ncommand = ['x']\nallow = ['api.example:443']\n", agent: "a",
			want: "net allow <built in>\nallow api.example:443 <u:4>",
		},
		{
			name: "and not when it is not",
			user: "allow = []\n[agent.a]\ncommand = ['x']\nallow = ['api.example:443']\n",
			want: "net allow <built in>\nallow nothing <u:1>",
		},
		{
			name: "that of a repository's agent needs trust",
			user: "allow = []\n", repo: "[agent.a]\ncommand = ['x']\nallow = ['api.example:443']\n", agent: "a",
			want: "net allow <built in>\nignored allow api.example:443: not allowed yet (rcc allow) <r:3>\nallow nothing <u:1>",
		},
		{
			name: "with which it counts", trusted: true,
			user: "allow = []\n", repo: "[agent.a]\ncommand = ['x']\nallow = ['api.example:443']\n", agent: "a",
			want: "net allow <built in>\nallow api.example:443 <r:3>",
		},
		{
			name:   "the ceiling",
			system: "net = 'allow'\nallow = ['*.corp.example']\ndeny = ['evil.corp.example']\nforward = [5432]\npublish = ['0:3000', '8080:80']\n",
			user:   "net = 'public'\nallow = ['b.example']\ndeny = ['c.example']\nforward = [5432, 22]\npublish = ['3000', '8080:80', '9090:80']\n",
			want: "ignored net public: s:1 lets \"allow\" be the widest <u:1>\nnet allow <s:1>\nallow b.example <u:2>\ndeny evil.corp.example <s:3>\ndeny c.example <u:3>\n" +
				"forward 5432 <u:4>\nignored forward 22: s:4 does not list it <u:4>\npublish 3000:3000 <u:5>\npublish 8080:80 <u:5>\nignored publish 9090:80: s:5 does not list it <u:5>\n" +
				"ceiling allow *.corp.example <s:2>",
		},
		{
			name:   "a ceiling with empty lists",
			system: "allow = []\nforward = []\npublish = []\n",
			user:   "allow = ['b.example']\nforward = [22]\npublish = [3000]\n",
			want: "net allow <built in>\nallow b.example <u:1>\nignored forward 22: s:2 does not list it <u:2>\n" +
				"ignored publish 3000:3000: s:3 does not list it <u:3>\nceiling allow nothing <s:1>",
		},
		{
			name: "a ceiling that narrows what nobody asked for", system: "net = 'none'\n",
			want: "net none <s:1>",
		},
	} {
		p, err := planOf(t, tt.system, tt.user, tt.repo, tt.trusted, tt.flags, tt.agent)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := shownPlan(p); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
		checkPlan(t, tt.name, p)
	}
}

// checkPlan holds the policy against its lines.
func checkPlan(t *testing.T, name string, p *netPlan) {
	t.Helper()
	var want, got []string
	for _, l := range p.Lines {
		if l.Kind != "ignored" && l.Text != "nothing" && l.Text != "allow nothing" {
			want = append(want, l.Kind+" "+l.Text)
		}
	}
	pol := p.Policy
	got = append(got, "net "+pol.Net)
	for _, r := range pol.Allow {
		got = append(got, "allow "+r.String())
	}
	for _, r := range pol.Deny {
		got = append(got, "deny "+r.String())
	}
	for _, port := range pol.Forward {
		got = append(got, "forward "+itoa(port))
	}
	for _, pub := range p.Publish {
		got = append(got, "publish "+pub.String())
	}
	for above := pol.Above; above != nil; above = above.Above {
		if strings.HasPrefix(above.NetFrom, "r:") { // a repository that denies all but what the policy has
			if !slices.Equal(above.Allow, pol.Allow) {
				t.Errorf("%s: above it is %v", name, above.Allow)
			}
			continue
		}
		for _, r := range above.Allow {
			got = append(got, "ceiling allow "+r.String())
		}
		for _, port := range pol.Forward {
			if v := pol.MayForward(port); !v.OK {
				t.Errorf("%s: forward %d: %+v", name, port, v)
			}
		}
		if above.Net != netAllow {
			t.Errorf("%s: the ceiling is %+v", name, above)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the policy has\n%q, its lines say\n%q", name, got, want)
	}
}

func itoa(n uint16) string { b, _ := json.Marshal(n); return string(b) }

func TestBuildNetAboveOnlyWithAList(t *testing.T) {
	p, err := planOf(t, "deny = ['x.example']\n", "allow = ['10.0.0.0/8']\n", "", false, netFlags{}, "")
	if err != nil || p.Policy.Above != nil {
		t.Errorf("%+v, %v: what is not bounded must stay open", p, err)
	}
	p, err = planOf(t, "allow = []\n", "", "", false, netFlags{}, "")
	if err != nil || p.Policy.Above == nil || len(p.Policy.Above.Allow) != 0 {
		t.Errorf("%+v, %v: an empty list of the ceiling denies everything", p, err)
	}
}

func TestBuildNetNote(t *testing.T) {
	p, err := planOf(t, "", "", "allow = ['a.example', 'b.example', 'c.example', 'd.example', 'e.example', 'f.example', 'g.example']\n", false, netFlags{}, "")
	if err != nil {
		t.Fatal(err)
	}
	want := "rcc.toml asks for more than the task has: allow a.example, allow b.example, allow c.example, allow d.example, allow e.example, more; rcc allow would add it"
	if !slices.Equal(p.Notes, []string{want}) {
		t.Errorf("notes %q", p.Notes)
	}
}

// What only lock files name is told, unless the lists decide about it by themselves.
func TestBuildNetNamed(t *testing.T) {
	named := func(list ...string) (out []egress.Rule) {
		for _, text := range list {
			r, err := egress.ParseRule(text)
			if err != nil {
				t.Fatal(err)
			}
			r.From = "x.lock"
			out = append(out, r)
		}
		out[len(out)-1].From = "y.lock"
		return out
	}
	for _, tt := range []struct {
		user, system string
		named        []egress.Rule
		want         string // of the note
		ignored      int
	}{
		{named: named("a.example:443"), want: "y.lock names a.example; rcc allow would add it", ignored: 1},
		{named: named("a.example:443", "b.example:80", "1.2.3.4:443"), want: "x.lock names a.example, b.example:80; y.lock names 1.2.3.4; rcc allow would add them", ignored: 3},
		{named: named("a.example:443", "a.example:80"), user: "allow = ['@project', 'a.example:80']", want: "x.lock names a.example; rcc allow would add it", ignored: 1},
		{named: named("a.b.example:443"), user: "allow = ['*.b.example', '@project']"},
		{named: named("a.example:443"), user: "deny = ['a.example']"},
		{named: named("1.2.3.4:443"), user: "allow = ['@project', '1.2.3.0/24']"},
		{named: named("a.example:443"), user: "allow = ['b.example']"},
		{named: named("a.example:443"), user: "net = 'public'"},
		{named: named("a.example:443"), system: "allow = ['b.example']"},
		{named: named("1.example:443", "2.example:443", "3.example:443", "4.example:443", "5.example:443", "6.example:443", "y.example:443"), want: "x.lock names 1.example, 2.example, 3.example, 4.example, 5.example and 1 more; y.lock names y.example; rcc allow would add them", ignored: 7},
	} {
		c, err := LoadConfig("u", []byte(tt.user), "r", nil)
		if err != nil {
			t.Fatal(err)
		}
		in := netInputs{User: c.User, Project: func(context.Context) (worked, error) { return worked{Named: tt.named}, nil }}
		if tt.system != "" {
			if in.System, err = decodeSystemPolicy("s", []byte(tt.system)); err != nil {
				t.Fatal(err)
			}
		}
		p, err := buildNet(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		ignored := 0
		for _, l := range p.Lines {
			if l.Kind == "ignored" {
				ignored++
			}
		}
		if got := strings.Join(p.Notes, "\n"); got != tt.want || ignored != tt.ignored {
			t.Errorf("%s, %s: %q, %d lines\n%s", tt.user, tt.system, got, ignored, shownPlan(p))
		}
		for _, r := range p.Policy.Allow {
			if strings.HasSuffix(r.From, ".lock") {
				t.Errorf("%s counts", r)
			}
		}
	}
}

// Where a repository denies everything, no entry of the user's would help, and none
// is offered; a flag's word stands.
func TestBuildNetNoMend(t *testing.T) {
	p, err := planOf(t, "", "allow = ['b.example']\n", "allow = []\n", false, netFlags{Allow: []string{"x.example", "10.0.0.0/8"}, Forward: []uint16{5432}}, "")
	if err != nil {
		t.Fatal(err)
	}
	if v := p.Policy.MayConnect("b.example", 443); v.OK || v.Mend != "" || !strings.Contains(v.Rule, "r:1") {
		t.Errorf("%+v", v)
	}
	if v := p.Policy.MayReach(netip.MustParseAddr("10.1.2.3"), 22); !p.Policy.MayConnect("x.example", 443).OK || !v.OK || !p.Policy.MayForward(5432).OK {
		t.Errorf("a flag does not count: %+v", v)
	}
	p, err = planOf(t, "allow = ['x.example']\n", "", "allow = []\n", false, netFlags{Allow: []string{"x.example", "y.example"}}, "")
	if err != nil {
		t.Fatal(err)
	}
	if !p.Policy.MayConnect("x.example", 443).OK || p.Policy.MayConnect("y.example", 443).OK {
		t.Error("the ceiling does not hold above a repository that denies everything")
	}
	if p, err = planOf(t, "", "", "allow = []\n", false, netFlags{Net: "public"}, ""); err != nil || !p.Policy.MayConnect("z.example", 443).OK {
		t.Errorf("--net public: %v", err)
	}
}

func TestBuildNetErrors(t *testing.T) {
	for _, tt := range []struct {
		system, user string
		flags        netFlags
		want         string
	}{
		{"net = 'allow'\n", "", netFlags{Net: "public"}, `cannot use --net public: s:1 lets "allow" be the widest`},
		{"forward = [1234]\n", "", netFlags{Forward: []uint16{22}}, `cannot forward port 22: s:1 does not list it`},
		{"publish = ['0:3000']\n", "", netFlags{Publish: []publish{{0, 80}}}, `cannot publish 0:80: s:1 does not list it`},
		{"", "net = 'none'\n", netFlags{Allow: []string{"x.example"}}, `cannot open anything for a task that has no way out: net is "none" (u:1); add --net allow`},
		{"", "", netFlags{Net: "none", Publish: []publish{{0, 80}}}, `cannot open anything for a task that has no way out: net is "none" (--net)`},
		{"", "", netFlags{Allow: []string{"https://x.example/"}}, `cannot use --allow "https://x.example/": `},
		{"", "", netFlags{Allow: []string{"@all"}}, `cannot use --allow "@all": the only word with an @ is @project`},
		{"", "", netFlags{Forward: []uint16{53}}, `cannot forward port 53: in the sandbox it is rcc's own`},
		{"", "publish = ['80:3000']\n", netFlags{Publish: []publish{{80, 3001}}}, `cannot publish 80:3001 (--publish): port 80 of the host is that of 80:3000; 0:3001 picks a free one`},
		{"", "forward = [5432]\n", netFlags{Publish: []publish{{5432, 5432}}}, `cannot publish 5432:5432 (--publish): port 5432 of the sandbox is the host's own, since it is forwarded`},
	} {
		_, err := planOf(t, tt.system, tt.user, "", false, tt.flags, "")
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%+v:\n got %v\nwant %s", tt, err, tt.want)
			continue
		}
		checkOneLine(t, err)
	}
}

func TestPolicyErrors(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		repo     bool
	}{
		{"net = 'all'\n", `c:1: net must be "none", "allow" or "public", not "all"`, false},
		{"net = 3\n", `c:1: net must be "none", "allow" or "public", not 3`, false},
		{"allow = 'x.example'\n", `c:1: allow must be a list of HOST, *.HOST, ADDRESS or CIDR`, false},
		{"allow = [\n  'ok.example',\n  '*',\n]\n", `c:3: allow has "*": `, false},
		{"allow = ['@repo']\n", `c:1: allow has "@repo": the only word with an @ is @project`, false},
		{"allow = [\"x\\u001b[0m.example\"]\n", `c:1: allow has "x\x1b[0m.example": `, false},
		{"deny = [\n'a.example',\n'@project']\n", `c:3: deny cannot have @project`, false},
		{"forward = 5432\n", `c:1: forward must be a list of ports on the host's loopback, such as [5432], not 5432`, false},
		{"forward = [\n5432,\n70000]\n", `c:3: forward must be a list of ports`, false},
		{"forward = ['x']\n", `c:1: forward must be a list of ports`, false},
		{"forward = [53]\n", `c:1: cannot forward port 53`, false},
		{"publish = ['0']\n", `c:1: cannot publish port 0: 0:3000 picks a free port`, false},
		{"publish = [0]\n", `c:1: cannot publish port 0`, false},
		{"publish = [true]\n", `c:1: publish must be a list of ports of the task`, false},
		{"publish = ['a:b']\n", `c:1: cannot publish "a:b": it is PORT, HOSTPORT:PORT or 0:PORT`, false},
		{"[agent.a]\ncommand = ['x']\nallow = ['*']\n", `c:3: allow has "*": `, false},
		{"[agent.a]\ncommand = ['x']\nenv = ['A B']\n", `c:3: env has "A B", which is not the name of a variable`, false},
		{"[agent.a]\ncommand = ['x']\nenv = ['PATH']\n", `c:3: env has "PATH", which the sandbox sets by itself`, false},
		{"[agent.a]\ncommand = ['x']\nenv = ['KEY']\n", `c:3: env cannot be set by a repository`, true},
		{"allow = ['10.0.0.0/8:5432']\n", `c:1: allow has 10.0.0.0/8:5432, and a repository cannot open a private address`, true},
		{"allow = [\n'x.example',\n'192.168.1.1']\n", `c:3: allow has 192.168.1.1, and a repository cannot open a private address`, true},
		{"[agent.a]\ncommand = ['x']\nallow = ['10.0.0.0/8']\n", `c:3: allow has 10.0.0.0/8, and a repository cannot open`, true},
		{"net = 'none'\n[defaults]\nnet = 'none'\n", `c:3: net stands at the top of the file, above [defaults]`, false},
		{"allow = [" + strings.Repeat("'x.example',", maxRules+1) + "]\n", `c:1: allow has 1025 entries; 1024 at most`, false},
	} {
		_, err := decodeConfig("c", []byte(tt.in), tt.repo)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%.60q:\n got %v\nwant %s", tt.in, err, tt.want)
			continue
		}
		checkOneLine(t, err)
	}
	// The same is no error where it may stand.
	if _, err := decodeConfig("c", []byte("allow = ['10.0.0.0/8:5432']\n[agent.a]\ncommand = ['x']\nallow = ['10.0.0.0/8']\nenv = ['KEY']\n"), false); err != nil {
		t.Error(err)
	}
	if _, err := decodeConfig("c", []byte("deny = ['10.0.0.0/8']\n"), true); err != nil {
		t.Error(err)
	}
}

func TestSystemPolicyErrors(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"default_agent = 'x'\n", `s:1: unknown key "default_agent"; known here: net, allow, deny, forward, publish`},
		{"allow = ['@project']\n", `s:1: allow cannot have @project here`},
		{"net = ''\n", `s:1: net must be`},
	} {
		if _, err := decodeSystemPolicy("s", []byte(tt.in)); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %s", tt.in, err, tt.want)
		}
	}
}

// The ceiling is believed only where nobody but its owner could have written it.
func TestReadSystemPolicy(t *testing.T) {
	me := os.Geteuid()
	top, err := os.MkdirTemp("", "policy") // whose folders up to / are root's, or sticky
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	dir := filepath.Join(top, "rcc")
	path := filepath.Join(dir, "policy.toml")
	read := func() (*netLayer, error) { return readSystemPolicy(path, me) }

	if l, err := read(); l != nil || err != nil {
		t.Fatalf("no file: %v, %v", l, err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir, 0o755))
	must(os.WriteFile(path, []byte("net = 'allow'\n"), 0o644))
	if l, err := read(); err != nil || l.Net != (Setting[string]{"allow", path + ":1"}) {
		t.Fatalf("%+v, %v", l, err)
	}
	refused := func(what, want string) {
		t.Helper()
		_, err := read()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
			return
		}
		checkOneLine(t, err)
	}
	for _, tt := range []struct {
		path      string
		bad, good os.FileMode
	}{
		{path, 0o664, 0o644},
		{path, 0o646, 0o644},
		{dir, 0o775, 0o755},
		{top, 0o757, 0o700},
	} {
		must(os.Chmod(tt.path, tt.bad))
		refused(tt.path, "others can write it")
		must(os.Chmod(tt.path, tt.good))
	}
	if _, err := read(); err != nil {
		t.Fatal(err)
	}
	if me != 0 {
		if _, err := readSystemPolicy(path, 0); err == nil || !strings.Contains(err.Error(), "it belongs to user") {
			t.Errorf("somebody else's file: %v", err)
		}
	} else {
		must(os.Chown(path, 12345, 0))
		refused("somebody else's file", "it belongs to user 12345")
		must(os.Chown(path, 0, 0))
		must(os.Chown(dir, 12345, 0))
		refused("somebody else's folder", "it belongs to user 12345")
		must(os.Chown(dir, 0, 0))
	}

	// Behind a link it is the same.
	must(os.Mkdir(filepath.Join(top, "open"), 0o755))
	must(os.Rename(path, filepath.Join(top, "open", "real.toml")))
	must(os.Symlink("../open/real.toml", path))
	if _, err := read(); err != nil {
		t.Errorf("a link: %v", err)
	}
	must(os.Chmod(filepath.Join(top, "open"), 0o777))
	refused("a link into a folder of everybody's", "others can write it")

	must(os.Remove(path))
	must(syscall.Mkfifo(path, 0o644))
	refused("a pipe", "not an ordinary file")
	must(os.Remove(path))
	must(os.WriteFile(path, []byte("nets = 1\n"), 0o644))
	refused("an unknown key", `policy.toml:1: unknown key "nets"`)
}

func TestPublishText(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want publish
	}{
		{"3000", publish{3000, 3000}},
		{"8080:3000", publish{8080, 3000}},
		{"0:3000", publish{0, 3000}},
		{"65535:65535", publish{65535, 65535}},
		{"0", publish{}},
		{"", publish{}},
		{":3000", publish{}},
		{"3000:", publish{}},
		{"3000:0", publish{}},
		{"0:53", publish{}},
		{"1", publish{}},
		{"53:3000", publish{53, 3000}},
		{"1:2:3", publish{}},
		{"65536", publish{}},
		{"-1", publish{}},
		{"+80", publish{}},
		{"080", publish{}},
		{" 80", publish{}},
	} {
		got, err := parsePublish(tt.in)
		if got != tt.want || (err == nil) != (tt.want.Port != 0) {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
		if err != nil {
			checkOneLine(t, err)
			continue
		}
		if again, err := parsePublish(got.String()); again != got || err != nil {
			t.Errorf("%q does not read back: %v, %v", got, again, err)
		}
	}
	want := netFlags{Net: "allow", Allow: []string{"x.example"}, Forward: []uint16{1234}, Publish: []publish{{0, 80}}}
	b, err := json.Marshal(want)
	var got netFlags
	if err := errors.Join(err, json.Unmarshal(b, &got)); err != nil || !slices.Equal(got.Publish, want.Publish) || !slices.Equal(got.Forward, want.Forward) {
		t.Errorf("%s: %+v, %v", b, got, err)
	}
}
