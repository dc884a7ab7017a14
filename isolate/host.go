package isolate

import (
	"os"
	"path"
	"strings"
)

// Host is what NewPlan must know of the machine, as plain data.
type Host struct {
	// Root says that the caller has user id 0.
	Root bool `json:"root"`
	// Kin are /usr and its relatives, Etc the shared files of /etc, each
	// that exists here; Link is set where it is a symbolic link.
	Kin []HostPath `json:"kin"`
	Etc []HostPath `json:"etc"`
	// Certs is the file with the host's trust anchors, "" if there is none.
	Certs string `json:"certs,omitempty"`
	// Path is the caller's PATH.
	Path string `json:"path"`
}

// HostPath is a path of the host and, for a symbolic link, where it leads.
type HostPath struct {
	Path string `json:"path"`
	Link string `json:"link,omitempty"`
}

// kin are the folders that hold the distribution's programs and libraries
// (file-hierarchy(7)).
var kin = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// etcShared are the entries of the host's /etc that are shown. Each is here
// because programs break without it, and holds neither secrets nor users.
var etcShared = []string{
	"alternatives",                                                                     // Debian: what awk, java, editor, … stand for
	"bash.bashrc",                                                                      // the distribution's defaults for bash
	"ca-certificates",                                                                  // trust anchors: Arch, Fedora
	"debian_version",                                                                   // asked by build scripts
	"environment-modules",                                                              // compilers on clusters
	"fonts",                                                                            // fontconfig
	"inputrc",                                                                          // readline
	"java-11-openjdk", "java-17-openjdk", "java-21-openjdk", "java-25-openjdk", "java", // the JVM's own configuration
	"ld.so.cache", "ld.so.conf", "ld.so.conf.d", // the dynamic linker
	"localtime", "timezone", // the clock that users expect
	"locale.alias", "locale.conf",
	"magic", "mime.types",
	"os-release",
	"perl", "python3", "python3.11", "python3.12", "python3.13",
	"pki/ca-trust", "pki/tls/certs", // trust anchors: Fedora; pki itself may hold keys
	"protocols", "services", "rpc",
	"R", "emacs", "vim",
	"shells",
	"ssl/certs", "ssl/openssl.cnf", // trust anchors; not ssl/private
	"terminfo", "xattr.conf",
}

// certBundles are where distributions keep all trust anchors in one file:
// Debian, Arch and NixOS; Fedora; openSUSE; Alpine (crypto/x509/root_linux.go in Go
// has the same list).
var certBundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}

// procMasks would show or move something beyond the sandbox.
var procMasks = []string{
	"/proc/kcore",         // the kernel's memory
	"/proc/keys",          // keyrings of the host's users
	"/proc/latency_stats", // other processes' waits
	"/proc/sched_debug",   // other processes' names
	"/proc/timer_list",    // kernel addresses, other processes
	"/proc/kmsg",          // the kernel's log
	"/proc/sysrq-trigger", // reboots the machine
	"/proc/scsi",          // the host's disks
	"/proc/acpi",          // firmware
}

// procReadOnly are needed to read and dangerous to write.
var procReadOnly = []string{"/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq"}

// LookHost reads what NewPlan must know: it looks at the root's folders and
// /etc, and changes nothing.
func LookHost(environ []string) Host {
	h := Host{Root: os.Geteuid() == 0}
	for _, k := range kin {
		if hp, ok := lookHostPath(k); ok {
			h.Kin = append(h.Kin, hp)
		}
	}
	for _, e := range etcShared {
		hp, ok := lookHostPath("/etc/" + e)
		if !ok {
			continue
		}
		// A link is copied as a link only when it leads to what is shown
		// anyway; else what it leads to is bound in its place.
		if hp.Link != "" && !strings.HasPrefix(linkTarget(hp), "/usr/") {
			hp.Link = ""
		}
		h.Etc = append(h.Etc, hp)
	}
	for _, c := range certBundles {
		if fi, err := os.Stat(c); err == nil && fi.Mode().IsRegular() {
			h.Certs = c
			break
		}
	}
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			h.Path = v
		}
	}
	return h
}

func linkTarget(hp HostPath) string {
	if path.IsAbs(hp.Link) {
		return path.Clean(hp.Link)
	}
	return path.Join(path.Dir(hp.Path), hp.Link)
}

func lookHostPath(p string) (HostPath, bool) {
	fi, err := os.Lstat(p)
	if err != nil {
		return HostPath{}, false
	}
	if fi.Mode()&os.ModeSymlink == 0 {
		return HostPath{Path: p}, true
	}
	link, err := os.Readlink(p)
	if err != nil {
		return HostPath{}, false
	}
	if _, err := os.Stat(p); err != nil {
		return HostPath{}, false // leads nowhere
	}
	return HostPath{Path: p, Link: link}, true
}

// shows tells whether a folder of the host is visible inside by the tools.
func (h Host) shows(dir string) bool {
	for _, k := range h.Kin {
		if dir == k.Path || strings.HasPrefix(dir, k.Path+"/") {
			return true
		}
	}
	return false
}
