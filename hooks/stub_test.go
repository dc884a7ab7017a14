package hooks

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// stub is what stands for rcc in these tests:
//
//	rcc hook SHELL             the script
//	rcc export SHELL           enters what the folder of the .envrc has in the file
//	                           shell.env (NAME=VALUE lines); a file broken there makes it fail
//	rcc export direnv [NAME]   the same for direnv; files rc and outputs stand for a shellHook
//
// STUB_STATE is the state folder; each start adds a line to the file log in it.
func stub(args []string) int {
	state := os.Getenv("STUB_STATE")
	log, err := os.OpenFile(filepath.Join(state, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	pwd := os.Getenv("PWD")
	fmt.Fprintln(log, strings.Join(args, " ")+" in "+pwd)
	log.Close()
	switch {
	case len(args) == 2 && args[0] == "hook":
		text, err := Script(args[1], filepath.Join(filepath.Dir(state), "bin", "rcc"))
		fmt.Print(text)
		return status(err)
	case len(args) >= 2 && args[0] == "export" && args[1] == "direnv":
		return stubDirenv(pwd, args[2:])
	case len(args) == 2 && args[0] == "export":
		return status(stubExport(args[1], state, pwd))
	}
	return status(fmt.Errorf("no such stub: %q", args))
}

func status(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "rcc:", err)
		return 1
	}
	return 0
}

func stubExport(shell, state, pwd string) error {
	look, err := Prompt{Shell: shell, Dir: pwd, Environ: os.Environ(), Stamps: filepath.Join(state, "stamps")}.Look()
	if err != nil {
		return err
	}
	if look.Load {
		dir := filepath.Dir(look.Envrc)
		vars, watch, fail := stubShell(dir)
		if fail != "" {
			look, err = look.Refused(watch, fail)
		} else {
			look, err = look.Entered(Merge(look.Base, append(vars, "NAMED="+look.Name)), "key", watch, "")
		}
		if err != nil {
			return err
		}
	}
	if look.Notice != "" {
		fmt.Fprintln(os.Stderr, "rcc:", look.Notice)
	}
	fmt.Print(look.Code)
	return nil
}

// stubShell is what stands for an evaluation.
func stubShell(dir string) (vars, watch []string, fail string) {
	file, broken := filepath.Join(dir, "shell.env"), filepath.Join(dir, "broken")
	data, err := os.ReadFile(file)
	if _, missing := os.Stat(broken); missing == nil {
		fail = "cannot evaluate " + filepath.Base(dir)
	} else if err != nil {
		fail = "no shell.env"
	}
	if _, err := os.Stat(filepath.Join(dir, "slow")); err == nil {
		fmt.Fprintln(os.Stderr, "evaluating")
		time.Sleep(time.Minute)
	}
	return strings.Fields(string(data)), []string{file, broken}, fail
}

func stubDirenv(pwd string, names []string) int {
	d := Direnv{Environ: os.Environ(), Since: time.Now()}
	vars, watch, fail := stubShell(pwd)
	d.Watch = watch
	good := filepath.Join(os.Getenv("STUB_STATE"), "good")
	if fail != "" {
		d.Errors = []string{fail}
		if data, err := os.ReadFile(good); err == nil {
			vars = strings.Fields(string(data))
		}
	} else {
		os.WriteFile(good, []byte(strings.Join(vars, "\n")), 0o600)
	}
	d.Vars = append(vars, "NAMED="+strings.Join(names, " "))
	if rc := filepath.Join(pwd, "rc"); fail == "" {
		if _, err := os.Stat(rc); err == nil {
			d.Vars, d.RC, d.Outputs = nil, rc, filepath.Join(pwd, "out puts")
		}
	}
	fmt.Print(d.Text())
	return 0
}
