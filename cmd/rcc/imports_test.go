package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rules of the house, kept by reading the source:
//
//   - Imports flow one way: cmd/rcc joins the rooms, and no room knows another.
//   - Each dependency has one importing package, which is the place to replace it.
//   - Only worktree starts git, and only devshell Nix: there the environment and
//     the options that keep hostile input from running code are set, once.
//   - No regular expression is compiled at start: rcc starts in milliseconds.

const modulePath = "rcc"

// rooms are the top-level folders that never import each other.
var rooms = []string{"worktree", "isolate", "devshell", "hooks"}

// startedBy are the programs that one room alone starts, through its one runner.
var startedBy = map[string]string{
	"git": "worktree",
	"nix": "devshell", "nix-store": "devshell", "nix-instantiate": "devshell", "nix-build": "devshell", "nix-shell": "devshell", "nix-env": "devshell",
}

// freeImports may be imported anywhere.
var freeImports = map[string]string{
	"golang.org/x/sys": "the kernel's numbers and calls: a supplement to the standard library",
}

// A sourceFile is a Go file of this module.
type sourceFile struct {
	name   string // with slashes, from the top of the repository
	syntax *ast.File
}

func TestImportRules(t *testing.T) {
	files := moduleSource(t)
	if len(files) < 10 || !slices.ContainsFunc(files, func(f sourceFile) bool { return f.name == "cmd/rcc/imports_test.go" }) {
		t.Fatalf("found only %d Go files", len(files))
	}
	for _, problem := range houseProblems(files) {
		t.Error(problem)
	}
}

// What the rules forbid is noticed, one case for each.
func TestImportRulesNotice(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"allowed", map[string]string{
			"cmd/rcc/a.go":          `package main; import ("rcc/worktree"; "rcc/isolate/egress"; "golang.org/x/sys/unix"; "example.org/x/one"; "example.org/x/one/sub")`,
			"cmd/rcc/a_test.go":     `package main; import "os/exec"; func f() { exec.Command("git") }`,
			"isolate/a.go":          `package isolate; import ("rcc/isolate/egress"; "golang.org/x/sys/unix"; "os/exec"); func f() { exec.Command("true", "git") }`,
			"isolate/egress/a.go":   `package egress; import "fmt"`,
			"worktree/a.go":         `package worktree; import "os/exec"; var c = exec.Command("git")`,
			"worktree/deep/deep.go": `package deep; import "regexp"; func f() { regexp.MustCompile("x") }`,
		}, nil},
		{
			"sibling",
			map[string]string{"worktree/a.go": `package worktree; import "rcc/isolate"`},
			[]string{"worktree/a.go: worktree imports rcc/isolate"},
		},
		{
			"sibling's part",
			map[string]string{"hooks/a_test.go": `package hooks; import "rcc/isolate/egress"`},
			[]string{"hooks/a_test.go: hooks imports rcc/isolate/egress"},
		},
		{
			"cmd",
			map[string]string{"devshell/a.go": `package devshell; import "rcc/cmd/rcc"`},
			[]string{"devshell/a.go: devshell imports rcc/cmd/rcc"},
		},
		{"two importers", map[string]string{
			"cmd/rcc/a.go": `package main; import "github.com/alecthomas/kong"`,
			"isolate/a.go": `package isolate; import "github.com/alecthomas/kong"`,
		}, []string{"github.com/alecthomas/kong is imported by cmd/rcc and isolate"}},
		{"two importers of one module", map[string]string{
			"worktree/a.go":       `package worktree; import "github.com/go-git/go-git/v5"`,
			"worktree/deep/a.go":  `package deep; import "github.com/go-git/go-git/v5/plumbing"`,
			"worktree/deep2/a.go": `package deep; import "golang.org/x/term"`,
			"cmd/rcc/a.go":        `package main; import "golang.org/x/text/width"`,
		}, []string{"github.com/go-git/go-git is imported by worktree and worktree/deep"}},
		{
			"git",
			map[string]string{"cmd/rcc/a.go": `package main; import e "os/exec"; func f() { e.CommandContext(nil, "git", "status") }`},
			[]string{"cmd/rcc/a.go:1: git is started outside worktree"},
		},
		{
			"git by path",
			map[string]string{"isolate/a.go": `package isolate; import "os/exec"; func f() { exec.Command("/usr/bin/git") }`},
			[]string{"isolate/a.go:1: git is started outside worktree"},
		},
		{
			"git by name",
			map[string]string{"isolate/a.go": "package isolate\nimport \"os/exec\"\nconst program = \"git\"\nfunc f() { exec.LookPath(program) }"},
			[]string{"isolate/a.go:4: git is started outside worktree"},
		},
		{
			"git by system call",
			map[string]string{"hooks/a.go": `package hooks; import "syscall"; func f() { syscall.Exec("/bin/git", nil, nil) }`},
			[]string{"hooks/a.go:1: git is started outside worktree"},
		},
		{
			"nix",
			map[string]string{"cmd/rcc/a.go": `package main; import "os/exec"; func f() { exec.Command("nix-store", "-q") }`, "devshell/a.go": `package devshell; import "os/exec"; func f() { exec.Command("nix") }`},
			[]string{"cmd/rcc/a.go:1: nix-store is started outside devshell"},
		},
		{
			"regexp",
			map[string]string{"isolate/a.go": "package isolate\nimport \"regexp\"\nvar (\n a = 1\n b = regexp.MustCompile(\"x\")\n)"},
			[]string{"isolate/a.go:5: a regular expression is compiled at start"},
		},
	} {
		var files []sourceFile
		for name, text := range tt.files {
			syntax, err := parser.ParseFile(sourcePlaces, name, text, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, sourceFile{name, syntax})
		}
		if got := houseProblems(files); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

var sourcePlaces = token.NewFileSet()

// moduleSource parses the Go files of the module.
func moduleSource(t *testing.T) (files []sourceFile) {
	t.Helper()
	const top = "../.."
	err := filepath.WalkDir(top, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, file)
		if err != nil {
			return err
		}
		if entry.IsDir() && rel != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if entry.IsDir() || filepath.Ext(file) != ".go" {
			return nil
		}
		syntax, err := parser.ParseFile(sourcePlaces, file, nil, 0)
		if err != nil {
			return err
		}
		files = append(files, sourceFile{filepath.ToSlash(rel), syntax})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// houseProblems tells, in order, what breaks the rules.
func houseProblems(files []sourceFile) []string {
	var out []string
	importers := map[string][]string{} // module → packages of ours
	for _, f := range files {
		pkg := path.Dir(f.name)
		room, _, _ := strings.Cut(f.name, "/")
		for _, spec := range f.syntax.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if own, ok := strings.CutPrefix(imported, modulePath+"/"); ok {
				target, _, _ := strings.Cut(own, "/")
				if slices.Contains(rooms, room) && target != room && (target == "cmd" || slices.Contains(rooms, target)) {
					out = append(out, fmt.Sprintf("%s: %s imports %s", f.name, room, imported))
				}
				continue
			}
			if m := moduleOf(imported); m != "" && freeImports[m] == "" && !slices.Contains(importers[m], pkg) {
				importers[m] = append(importers[m], pkg)
			}
		}
		if !strings.HasSuffix(f.name, "_test.go") {
			out = append(out, startProblems(f, room)...)
		}
	}
	for m, pkgs := range importers {
		if len(pkgs) > 1 {
			slices.Sort(pkgs)
			out = append(out, fmt.Sprintf("%s is imported by %s", m, strings.Join(pkgs, " and ")))
		}
	}
	slices.Sort(out)
	return out
}

// moduleOf guesses the module of an import path; empty for the standard library.
func moduleOf(imported string) string {
	parts := strings.Split(imported, "/")
	n := 3
	switch {
	case !strings.Contains(parts[0], "."):
		return ""
	case parts[0] == "gopkg.in" || parts[0] == "go.uber.org":
		n = 2
	}
	return strings.Join(parts[:min(n, len(parts))], "/")
}

// startProblems looks for programs started and for work done at start.
func startProblems(f sourceFile, room string) (out []string) {
	place := func(n ast.Node) string {
		return fmt.Sprintf("%s:%d", f.name, sourcePlaces.Position(n.Pos()).Line)
	}
	names := map[string]string{} // how the file calls a package → its path
	for _, spec := range f.syntax.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	called := func(call *ast.CallExpr) string {
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok {
				return names[id.Name] + "." + sel.Sel.Name
			}
		}
		return ""
	}
	for _, decl := range f.syntax.Decls {
		if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.VAR {
			ast.Inspect(gen, func(n ast.Node) bool {
				if _, ok := n.(*ast.FuncLit); ok {
					return false // not at start
				}
				if call, ok := n.(*ast.CallExpr); ok && strings.HasPrefix(called(call), "regexp.MustCompile") {
					out = append(out, place(call)+": a regular expression is compiled at start")
				}
				return true
			})
		}
	}
	starters := map[string]int{ // function → the argument that is the program
		"os/exec.Command": 0, "os/exec.CommandContext": 1, "os/exec.LookPath": 0,
		"os.StartProcess": 0, "syscall.Exec": 0, "syscall.ForkExec": 0, "syscall.StartProcess": 0,
		"golang.org/x/sys/unix.Exec": 0,
	}
	constants := stringConstants(f.syntax)
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		i, ok := starters[called(call)]
		if !ok || i >= len(call.Args) {
			return true
		}
		program := ""
		switch arg := call.Args[i].(type) {
		case *ast.BasicLit:
			program, _ = strconv.Unquote(arg.Value)
		case *ast.Ident:
			program = constants[arg.Name]
		}
		if owner := startedBy[path.Base(program)]; owner != "" && owner != room {
			out = append(out, fmt.Sprintf("%s: %s is started outside %s", place(call), path.Base(program), owner))
		}
		return true
	})
	return out
}

// stringConstants are the names in a file that stand for a string.
func stringConstants(f *ast.File) map[string]string {
	out := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for i, v := range spec.Values {
				if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING && i < len(spec.Names) {
					out[spec.Names[i].Name], _ = strconv.Unquote(lit.Value)
				}
			}
		}
		return true
	})
	return out
}
