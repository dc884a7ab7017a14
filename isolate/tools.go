package isolate

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// What a Job's Tools may be.
const (
	// ToolsHost shows the host's programs: /usr and its kin, and of /etc what
	// they read.
	ToolsHost = "host"
	// ToolsStore shows Job.Store and nothing else: there is no /usr, no /bin
	// and no /lib but what Job.Links makes, and PATH is Job.Path.
	ToolsStore = "store"
	// ToolsBoth shows both; Job.Path comes first in PATH.
	ToolsBoth = "both"
)

// tools shows the programs that the job asks for, read-only.
func (p *Plan) tools(host Host, job Job) error {
	if err := checkTools(job); err != nil {
		return err
	}
	if job.Tools != ToolsStore {
		for _, k := range host.Kin {
			if k.Link != "" {
				p.add(Step{Type: StepSymlink, Target: k.Path, Content: k.Link})
			} else {
				p.add(Step{Type: StepBind, Source: k.Path, Target: k.Path})
			}
		}
	}
	if len(job.Store) == 0 {
		return nil
	}
	names, err := storeNames(job.Store)
	if err != nil {
		return err
	}
	source := job.StoreSource
	if source == "" {
		source = StoreDir
	}
	p.add(Step{Type: StepStore, Source: source, Target: StoreDir, Names: names})
	return nil
}

func checkTools(job Job) error {
	switch job.Tools {
	case "", ToolsHost:
		if len(job.Store) > 0 {
			return fmt.Errorf("cannot show store paths with the host's tools alone: ask for %s or %s", ToolsStore, ToolsBoth)
		}
	case ToolsStore, ToolsBoth:
	default:
		return fmt.Errorf("cannot show the tools %q: known are %s, %s and %s", job.Tools, ToolsHost, ToolsStore, ToolsBoth)
	}
	if job.StoreSource != "" && (!path.IsAbs(job.StoreSource) || path.Clean(job.StoreSource) != job.StoreSource || job.StoreSource == "/") {
		return fmt.Errorf("cannot use the store at %q: the path must be absolute and clean", job.StoreSource)
	}
	return nil
}

// links makes the job's symbolic links, after everything that they could
// stand in the way of: what exists already is an error when the root is built.
func (p *Plan) links(host Host, job Job) error {
	for _, l := range job.Links {
		if err := checkLink(l, host, job); err != nil {
			return err
		}
		p.add(Step{Type: StepSymlink, Target: l.Path, Content: l.Link})
	}
	return nil
}

func checkLink(l HostPath, host Host, job Job) error {
	if !path.IsAbs(l.Path) || path.Clean(l.Path) != l.Path || l.Path == "/" || l.Link == "" || strings.ContainsRune(l.Path+l.Link, 0) {
		return fmt.Errorf("cannot make a link at %q to %q: its path must be absolute and clean", l.Path, l.Link)
	}
	for _, r := range reservedTrees {
		if l.Path == r || strings.HasPrefix(l.Path, r+"/") {
			return fmt.Errorf("cannot make a link at %s: the sandbox needs %s for itself", l.Path, r)
		}
	}
	if job.Tools != ToolsStore && host.shows(l.Path) {
		return fmt.Errorf("cannot make a link at %s: the host's tools are there", l.Path)
	}
	return nil
}

// etcStore are the entries of the host's /etc that programs of the store read
// and that hold nothing but data. They are bound themselves, also where they
// are links into /usr, which does not exist with ToolsStore.
var etcStore = []string{
	"inputrc",               // readline
	"localtime", "timezone", // the clock that users expect
	"protocols", "services", "rpc", // getservbyname(3) and kin
	"terminfo", // ncurses, before its own
}

// certTargets are where programs of the store look for trust anchors: OpenSSL
// and curl of nixpkgs, Go (root_linux.go in crypto/x509), and those of Fedora.
var certTargets = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt", "/etc/pki/tls/certs/ca-bundle.crt"}

// etcEntries shows what the tools read in /etc.
func (p *Plan) etcEntries(host Host, job Job) {
	if job.Tools != ToolsStore {
		for _, e := range host.Etc {
			if e.Link != "" {
				p.add(Step{Type: StepSymlink, Target: e.Path, Content: e.Link})
			} else {
				p.add(Step{Type: StepBind, Source: e.Path, Target: e.Path, NoExec: true})
			}
		}
		return
	}
	for _, e := range host.Etc {
		if slices.Contains(etcStore, strings.TrimPrefix(e.Path, "/etc/")) {
			p.add(Step{Type: StepBind, Source: e.Path, Target: e.Path, NoExec: true})
		}
	}
	if host.Certs == "" {
		return
	}
	for _, target := range certTargets {
		p.add(Step{Type: StepBind, Source: host.Certs, Target: target, NoExec: true})
	}
}

// searchPath is PATH inside: the job's own folders, and with the host's tools
// the folders of the caller's PATH that exist inside, in their order, and the
// usual ones.
func searchPath(host Host, job Job) (string, error) {
	var out []string
	keep := func(d string) {
		if !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	for _, d := range job.Path {
		if !path.IsAbs(d) || path.Clean(d) != d || strings.ContainsAny(d, ":\x00") {
			return "", fmt.Errorf("cannot put %q in PATH: it must be absolute and clean, without a colon", d)
		}
		keep(d)
	}
	if job.Tools == ToolsStore {
		return strings.Join(out, ":"), nil
	}
	for _, d := range strings.Split(host.Path, ":") {
		if path.IsAbs(d) && path.Clean(d) == d && host.shows(d) {
			keep(d)
		}
	}
	for _, d := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		keep(d)
	}
	return strings.Join(out, ":"), nil
}
