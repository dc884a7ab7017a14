package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const userConfig = `
default_agent = "claude"

[agent.claude]
command = ["claude", "-p", "{prompt}"]

[agent.script]
command = ["sh", "-c", "echo {prompt} {prompt}", "sh", "{prompt}"]

[defaults]
tree = "checkout"
net = "none"
timeout = "30m"
detach = true
dirty = true
`

func TestLoadConfig(t *testing.T) {
	c, err := LoadConfig("config.toml", []byte(userConfig), "rcc.toml", []byte(`
agent = { claude = { command = ["evil"] }, team = { command = ["team-agent"] } }
default_agent = "team"
defaults = { timeout = "10m", tree = "auto", detach = false }
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.DefaultAgent; got != (Setting[string]{"claude", "config.toml:2"}) {
		t.Errorf("default agent %+v", got)
	}
	if got := c.Agents["claude"]; !slices.Equal(got.Command, []string{"claude", "-p", "{prompt}"}) || got.From != "config.toml:5" {
		t.Errorf("the repository replaced the user's agent: %+v", got)
	}
	if got := c.Agents["team"]; got.Command[0] != "team-agent" || got.From != "rcc.toml:2" || got.Name != "team" {
		t.Errorf("the repository's agent: %+v", got)
	}
	if c.Tree != (Setting[string]{"checkout", "config.toml:11"}) || c.User.Net != (Setting[string]{"none", "config.toml:12"}) {
		t.Errorf("tree %+v, net %+v", c.Tree, c.User.Net)
	}
	if c.Timeout != (Setting[time.Duration]{10 * time.Minute, "rcc.toml:4"}) {
		t.Errorf("timeout %+v", c.Timeout)
	}
	if c.Detach != (Setting[bool]{true, "config.toml:14"}) || c.Dirty != (Setting[bool]{true, "config.toml:15"}) {
		t.Errorf("detach %+v, dirty %+v", c.Detach, c.Dirty)
	}
}

// Hooks of both files stand side by side, the user's first: a repository cannot
// replace one, and where it runs follows from the file alone.
func TestLoadConfigHooks(t *testing.T) {
	c, err := LoadConfig("u", []byte("[hooks]\nafter_task = 'a'\nbefore_task = \"b\"\n"), "r", []byte("hooks.before_task = 'c'\nhooks.after_merge = 'd'\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []hook{
		{Name: "before_task", Run: "b", From: "u:3"},
		{Name: "after_task", Run: "a", From: "u:2"},
		{Name: "before_task", Run: "c", From: "r:1", Inside: true},
		{Name: "after_merge", Run: "d", From: "r:2", Inside: true},
	}
	if !slices.Equal(c.Hooks, want) {
		t.Errorf("hooks %+v\nwant %+v", c.Hooks, want)
	}
}

func TestLoadConfigBuiltIn(t *testing.T) {
	c, err := LoadConfig("config.toml", nil, "rcc.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Tree.Value != "auto" || c.User.Net.From != "" || c.Timeout.Value != 0 || c.Detach.Value || c.Dirty.Value {
		t.Errorf("%+v", c)
	}
	if c.Tree.Origin() != "built in" {
		t.Errorf("origin %q", c.Tree.Origin())
	}
}

// What a repository says about the time limit holds only when it is stricter.
func TestTimeoutOnlyTightens(t *testing.T) {
	file := func(timeout string) []byte {
		if timeout == "" {
			return nil
		}
		return []byte("[defaults]\ntimeout = \"" + timeout + "\"\n")
	}
	for _, tt := range []struct {
		user, repo string
		want       time.Duration
		from       string
	}{
		{"", "", 0, ""},
		{"30m", "", 30 * time.Minute, "u:2"},
		{"", "10m", 10 * time.Minute, "r:2"},
		{"30m", "10m", 10 * time.Minute, "r:2"},
		{"10m", "30m", 10 * time.Minute, "u:2"},
		{"10m", "10m", 10 * time.Minute, "u:2"},
	} {
		c, err := LoadConfig("u", file(tt.user), "r", file(tt.repo))
		if err != nil {
			t.Fatal(err)
		}
		if c.Timeout.Value != tt.want || c.Timeout.From != tt.from {
			t.Errorf("user %q, repository %q: %+v", tt.user, tt.repo, c.Timeout)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"\n\ncolour = 1\n", `c:3: unknown key "colour"; known here: default_agent, agent, defaults, shell, hooks, net, allow, deny, forward, publish`},
		{"Default_Agent = 'x'\n", `c:1: unknown key "Default_Agent"; known here:`},
		{"[agent.a]\ncommand = ['x']\nargs = 1\n", `c:3: unknown key "args" in [agent.a]; known here: command, allow, env`},
		{"[defaults]\nmemory = '4G'\n", `c:2: unknown key "memory" in [defaults]; known here: tree, net, timeout, detach, dirty`},
		{"defaults = { tree = 'auto',\n  x = 1 }\n", `c:2: unknown key "x" in [defaults]`},
		{"defaults.x.y.z = 1\n", `c:1: unknown key "x" in [defaults]`},
		{"z = 1\na = 1\n", `c:1: unknown key "z"`},
		{"\"a\\u001b]0;x\\u0007\" = 1\n", `c:1: unknown key "a\x1b]0;x\x07"`},
		{"'" + strings.Repeat("k", 500) + "' = 1\n", `c:1: unknown key "kkk`},

		{"default_agent = 3\n", `c:1: default_agent must be the name of an agent, such as "claude", not 3`},
		{"default_agent = ''\n", `c:1: default_agent must be the name`},
		{"default_agent = 'x'\n", `c:1: default_agent names "x", and no agent has that name; no agent is configured`},
		{"default_agent = 'x'\nagent.y.command = ['z']\n", `c:1: default_agent names "x", and no agent has that name; known: y`},
		{"hooks = 'x'\n", `c:1: hooks must be a table: [hooks]`},
		{"[hooks]\nbefore = 'x'\n", `c:2: unknown key "before" in [hooks]; known here: before_task, after_task, before_merge, after_merge`},
		{"[hooks]\nafter_task = ['x']\n", `c:2: after_task must be a command line, such as "make lint"`},
		{"[hooks]\nafter_task = ''\n", `c:2: after_task must be a command line, such as "make lint", not ""`},
		{"[hooks]\nafter_task = \"a\\u0000b\"\n", `c:2: after_task has a NUL byte in it`},
		{"[hooks]\nafter_task = '" + strings.Repeat("x", 64<<10+1) + "'\n", `c:2: after_task is over 64 KiB`},

		{"agent = 3\n", `c:1: agent must be a table: [agent.claude]`},
		{"[[agent]]\n", `c:1: agent must be a table`},
		{"[agent]\na = ['x']\n", `c:2: a must be a table: [agent.a]`},
		{"\n[agent.a]\n", `c:2: [agent.a] has no command; command must be a list of strings`},
		{"[agent.a]\ncommand = 'x'\n", `c:2: command must be a list of strings, such as ["claude", "-p", "{prompt}"]`},
		{"[agent.a]\ncommand = ['x', 1]\n", `c:2: command must be a list of strings`},
		{"[agent.a]\ncommand = []\n", `c:2: command is empty`},
		{"[agent.a]\ncommand = ['', 'x']\n", `c:2: command is empty`},
		{"[agent.a]\ncommand = ['{prompt}']\n", `c:2: command starts with {prompt}`},
		{"[agent.a]\ncommand = [\"x\\u0000\"]\n", `c:2: command has a NUL byte`},
		{"[agent.'../x']\ncommand = ['x']\n", `c:1: "../x" cannot be an agent's name`},
		{"[agent.'']\ncommand = ['x']\n", `c:1: "" cannot be an agent's name`},

		{"[defaults]\ntree = 'copy'\n", `c:2: tree must be "auto", "overlay" or "checkout", not "copy"`},
		{"[defaults]\nnet = 'public'\n", `c:2: net stands at the top of the file, above [defaults]: net = "allow"`},
		{"[defaults]\ntimeout = 30\n", `c:2: timeout must be a duration such as "30m" or "1h30m", not 30`},
		{"[defaults]\ntimeout = '-1m'\n", `c:2: timeout must be a duration`},
		{"[defaults]\ntimeout = '0s'\n", `c:2: timeout must be a duration`},
		{"[defaults]\ntimeout = 'soon'\n", `c:2: timeout must be a duration such as "30m" or "1h30m", not "soon"`},
		{"[defaults]\ntimeout = 1979-05-27\n", `c:2: timeout must be a duration`},
		{"[defaults]\ndetach = 'yes'\n", `c:2: detach must be true or false, not "yes"`},
		{"[defaults]\ndirty = 1\n", `c:2: dirty must be true or false, not 1`},

		{"default_agent\n", `c:1: expected '=' after key`},
		{"x = \n", `c:1: `},
		{"\n\nx = 'a\n", `c:3: literal strings cannot have new lines`},
		{"a = 1\n\na = 2\n", `c:3: key a is already defined`},
		{"[a]\n[a]\n", `c:2: table a already exists`},
		{"a = [1, 2\n", `c:`},
		{"\xff\n", `c:1: invalid character`},
		{"x = '\xff'\n", `c:1: invalid UTF-8`},
		{strings.Repeat("#", maxConfigSize+1), `c:1: the file is over 256 KiB`},
		{"x = " + strings.Repeat("[", 20000) + "\n", `c:1: `},
		{strings.Repeat("a.", 60000) + "a = 1\n", `c:1: unknown key "a"`},
	} {
		_, err := LoadConfig("c", []byte(tt.in), "r", nil)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%.60q:\n got %v\nwant %s", tt.in, err, tt.want)
			continue
		}
		checkOneLine(t, err)
		if len(err.Error()) > 300 {
			t.Errorf("%.60q: an error of %d bytes", tt.in, len(err.Error()))
		}
	}
}

func TestRepositoryConfigMayNotWiden(t *testing.T) {
	_, err := LoadConfig("c", nil, "rcc.toml", []byte("[defaults]\n\ndirty = false\n"))
	if err == nil || !strings.HasPrefix(err.Error(), "rcc.toml:3: dirty cannot be set by a repository") {
		t.Errorf("dirty in rcc.toml: %v", err)
	}
}

// Many keys and deep keys take time in proportion to the file.
func TestConfigLargeFileIsQuick(t *testing.T) {
	var b strings.Builder
	for i := 0; b.Len() < maxConfigSize-100; i++ {
		b.WriteString("[agent.a" + strings.Repeat("b", i%30) + strings.Repeat("c", i/30%30) + "]\n")
	}
	start := time.Now()
	LoadConfig("c", []byte(b.String()), "r", []byte(strings.Repeat("a.", maxConfigSize/2-10)+"b=1"))
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestAgentCommand(t *testing.T) {
	c, err := LoadConfig("config.toml", []byte(userConfig), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	const prompt = "fix 'it' {prompt} $(id)\nnow"
	for _, tt := range []struct {
		name string
		want []string
	}{
		{"", []string{"claude", "-p", prompt}},
		{"claude", []string{"claude", "-p", prompt}},
		{"script", []string{"sh", "-c", "echo " + prompt + " " + prompt, "sh", prompt}},
	} {
		got, err := c.AgentCommand(tt.name, prompt)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("agent %q: %q, %v", tt.name, got, err)
		}
	}
	if got := c.Agents["claude"].Command[2]; got != promptMark {
		t.Errorf("the configuration was changed: %q", got)
	}

	empty, _ := LoadConfig("", nil, "", nil)
	noDefault, _ := LoadConfig("", []byte("agent.a.command = ['a']"), "", nil)
	for _, tt := range []struct {
		c                  *Config
		name, prompt, want string
	}{
		{c, "nope", "", "cannot find agent \"nope\"; known: claude, script"},
		{c, "", "a\x00b", "NUL"},
		{empty, "", "", "none is configured; put [agent.NAME] command ="},
		{empty, "x", "", "none is configured; put [agent.NAME] command ="},
		{noDefault, "", "", "use --agent NAME or set default_agent (known: a)"},
	} {
		_, err := tt.c.AgentCommand(tt.name, tt.prompt)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("agent %q: %v, want %q", tt.name, err, tt.want)
			continue
		}
		checkOneLine(t, err)
	}
}

// A repository may choose an agent of its own, or one of the user's that has
// nothing to give away.
func TestBorrowedAgent(t *testing.T) {
	const plain, env, hosts = "[agent.a]\ncommand = ['x']\n", "[agent.a]\ncommand = ['x']\nenv = ['KEY']\n", "[agent.a]\ncommand = ['x']\nallow = ['api.example']\n"
	const chosen = "default_agent = 'a'\n"
	for _, tt := range []struct{ user, repo, want string }{
		{plain, chosen, ""},
		{env, chosen, "a"},
		{hosts, chosen, "a"},
		{env, chosen + plain, "a"},
		{"", chosen + hosts, ""},
		{chosen + env, chosen, ""},
		{chosen + env, "", ""},
		{env, "", ""},
	} {
		c, err := LoadConfig("u", []byte(tt.user), "r", []byte(tt.repo))
		if err != nil {
			t.Fatal(err)
		}
		asks := strings.Contains(c.repoAsks(), "default_agent a of yours")
		if got := c.borrowedAgent(); got != tt.want || asks != (got != "") {
			t.Errorf("%q, %q: %q, asked for %v", tt.user, tt.repo, got, asks)
		}
	}
}

func TestUserConfigPath(t *testing.T) {
	env := func(kv ...string) func(string) string {
		return func(key string) string {
			for i := 0; i < len(kv); i += 2 {
				if kv[i] == key {
					return kv[i+1]
				}
			}
			return ""
		}
	}
	for _, tt := range []struct {
		getenv func(string) string
		want   string
	}{
		{env("XDG_CONFIG_HOME", "/x", "HOME", "/h"), "/x/rcc/config.toml"},
		{env("XDG_CONFIG_HOME", "relative", "HOME", "/h"), "/h/.config/rcc/config.toml"},
		{env("HOME", "/h"), "/h/.config/rcc/config.toml"},
		{env(), ""},
	} {
		if got, err := UserConfigPath(tt.getenv); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("got %q, %v, want %q", got, err, tt.want)
		}
	}
}

func TestReadUserConfig(t *testing.T) {
	dir := t.TempDir()
	if data, err := ReadUserConfig(filepath.Join(dir, "none")); data != nil || err != nil {
		t.Errorf("a file that does not exist: %q, %v", data, err)
	}
	if _, err := ReadUserConfig(dir); err == nil {
		t.Error("a folder was read")
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadUserConfig(pipe); err == nil {
		t.Error("a pipe was read")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte(strings.Repeat("#", maxConfigSize+10)), 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := ReadUserConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(file, data, "", nil); err == nil {
		t.Error("an oversized file was accepted")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(userConfig))
	for _, s := range []string{
		"", "a", "=", "[", "[[agent]]", "agent.a.command=['x']", "defaults={timeout='1m',tree='auto'}",
		"\"\\u001b\"=1", "a=[[[[", "a={b={c={d=1}}}", "\xef\xbb\xbfa=1", "x=\"\"\"\n\n\"\"\"\ny=2", "a=1\r\nb=2\r\n",
		"[agent.a]\ncommand=['{prompt}','']", "default_agent='a'\n[agent.a]\ncommand=['x','{prompt}']",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, isRepo := range []bool{false, true} {
			user, repo := data, []byte(nil)
			if isRepo {
				user, repo = repo, user
			}
			c, err := LoadConfig("config.toml", user, "rcc.toml", repo)
			if err != nil {
				checkOneLine(t, err)
				name := "config.toml:"
				if isRepo {
					name = "rcc.toml:"
				}
				rest, ok := strings.CutPrefix(err.Error(), name)
				if !ok || rest[0] < '1' || rest[0] > '9' {
					t.Errorf("the error does not tell the place: %v", err)
				}
				continue
			}
			if isRepo && c.Dirty.Value {
				t.Error("a repository set dirty")
			}
			for name, agent := range c.Agents {
				if strings.HasSuffix(agent.From, ":0") {
					t.Errorf("agent %s has no line: %s", name, agent.From)
				}
				command, err := c.AgentCommand(name, "the prompt")
				if err != nil || len(command) != len(agent.Command) || command[0] == "" {
					t.Errorf("agent %s: %q, %v", name, command, err)
				}
			}
			for _, from := range []string{c.DefaultAgent.From, c.Tree.From, c.User.Net.From, c.Timeout.From, c.Detach.From, c.Dirty.From} {
				if strings.HasSuffix(from, ":0") {
					t.Errorf("a setting has no line: %s", from)
				}
			}
		}
	})
}
