package isolate

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Policy is what the sandbox allows. The zero value is not valid: Net must be
// said.
type Policy struct {
	// Net is the way out: NetNone leaves a loopback device and nothing else;
	// with NetAllow and NetPublic flows leave by Sandbox.Link, and who serves
	// that decides which.
	Net string `json:"net"`
	// Forward are ports of the sandbox's loopback that lead out too, each once;
	// not with NetNone.
	Forward []uint16 `json:"forward,omitempty"`
	// Publish are ports of programs inside that the link may ask for; not with
	// NetNone.
	Publish []uint16 `json:"publish,omitempty"`
}

// What a Policy's Net may be.
const (
	NetNone   = "none"
	NetAllow  = "allow"
	NetPublic = "public"
)

// Job is what a sandbox is made for. Paths of the host are absolute and real
// (no symbolic link in them); paths inside are absolute and clean.
type Job struct {
	// Dir is the working directory of programs, inside.
	Dir string
	// Home is a folder of the host that becomes HOME, writable; empty means a
	// tmpfs that ends with the sandbox.
	Home string
	// Binds are the folders of the host that the job needs besides the tools.
	Binds []Bind
	// UID and GID are what the program sees as its own.
	UID, GID int
	// HostUID and HostGID are what the kernel of the host sees. Only root may
	// choose them; for everybody else they are the caller's own.
	HostUID, HostGID int
	// User is the name in /etc/passwd.
	User string
	// Data bounds what one process may hold in its own memory, in bytes
	// (RLIMIT_DATA in setrlimit(2): heap and private writable mappings, not
	// files that are mapped); 0 is no bound.
	Data uint64
	// Shell is the login shell in /etc/passwd, default /bin/sh.
	Shell string
	// Tools says which programs there are: ToolsHost, which empty means too,
	// ToolsStore or ToolsBoth.
	Tools string
	// Store are paths of Nix's store, StoreDir/HASH-NAME, in any order and each
	// once. They are visible read-only, and nothing else of the store is.
	Store []string
	// StoreSource is the folder of the host that has them, default StoreDir.
	// It is another one where Nix works without root: the store that is
	// /nix/store to programs then lies in a folder of the user's.
	StoreSource string
	// Links are symbolic links to make, as /bin/sh to a shell of the store. None
	// may stand where the host's tools are.
	Links []HostPath
	// Path are folders for PATH, inside. They come first; with ToolsStore they
	// are all.
	Path []string
}

// Bind makes a folder or file of the host visible inside.
type Bind struct {
	Source, Target string
	Writable       bool
	// MapOwner shows what belongs to the caller (root) as the program's own,
	// where the file system can (idmapped mounts, kernel 5.12). Without it
	// a store that only root may read stays closed to the program.
	MapOwner bool
	// Empty covers Target by an empty read-only file; Source is ignored.
	Empty bool
	// Lower makes Target an overlay of these folders, the uppermost first; there
	// are at most MaxLayers. Source is ignored.
	Lower []Layer
	// Upper is the folder that holds the overlay's writable layer, "upper", and
	// an empty folder "work" for the kernel; empty means a read-only overlay,
	// which needs two layers. MapOwner speaks of it.
	Upper string
}

// Layer is a read-only folder that an overlay shows.
type Layer struct {
	Source string `json:"source"`
	// MapOwner is as in Bind; where the file system cannot, there is no overlay.
	MapOwner bool `json:"mapOwner,omitempty"`
}

// MaxLayers bounds the read-only layers of an overlay: their names go into a
// mount option of at most 255 bytes (fsconfig(2), FSCONFIG_SET_STRING).
const MaxLayers = 32

// Home inside. It stands apart from every path that a repository may have, so
// that nothing that is left in HOME can sit on the way to the tree.
const Home = "/rcc/home"

// Hostname inside; it says nothing about the machine.
const Hostname = "rcc"

// StepType names what one step of the file system's set-up does.
type StepType string

const (
	StepBind    StepType = "bind"    // a part of the host
	StepOverlay StepType = "overlay" // layers of the host, and one to write to
	StepTmpfs   StepType = "tmpfs"   // memory, ends with the sandbox
	StepProc    StepType = "proc"    // the processes of this sandbox
	StepDevpts  StepType = "devpts"  // its terminals
	StepMqueue  StepType = "mqueue"  // its message queues
	StepFile    StepType = "file"    // a small file with the given content
	StepDir     StepType = "dir"     // an empty folder
	StepSymlink StepType = "symlink" // Content is where it leads
	StepSeal    StepType = "seal"    // Target, mounted before, becomes read-only
	StepMask    StepType = "mask"    // Target, if it exists, is covered: empty, read-only
	StepStore   StepType = "store"   // Names out of a folder of the host, and nothing else of it
)

// Step is one entry of the root that init builds, in order.
type Step struct {
	Type   StepType `json:"type"`
	Source string   `json:"source,omitempty"`
	Target string   `json:"target"`
	// Content of a file, or where a symlink leads.
	Content  string `json:"content,omitempty"`
	Mode     uint32 `json:"mode,omitempty"`
	Writable bool   `json:"writable,omitempty"`
	NoExec   bool   `json:"noexec,omitempty"`
	// Device leaves device nodes usable: for the few nodes of /dev.
	Device   bool `json:"device,omitempty"`
	MapOwner bool `json:"mapOwner,omitempty"`
	// Lower and Upper of an overlay are as in Bind.
	Lower []Layer `json:"lower,omitempty"`
	Upper string  `json:"upper,omitempty"`
	// Names are what a store step shows of Source, sorted.
	Names nameList `json:"names,omitempty"`
}

// name is what an error calls the step, after "cannot".
func (s Step) name() string {
	if s.Type == StepStore {
		return "show " + s.Target
	}
	return string(s.Type) + " " + s.Target
}

// sources are the parts of the host that a step shows, as bind steps.
func (s Step) sources() []Step {
	switch s.Type {
	case StepBind:
		return []Step{s}
	case StepStore:
		return []Step{{Type: StepBind, Source: s.Source, Target: s.Target}}
	case StepOverlay:
		var list []Step
		for _, l := range s.Lower {
			list = append(list, Step{Type: StepOverlay, Source: l.Source, Target: s.Target, MapOwner: l.MapOwner})
		}
		if s.Upper != "" {
			list = append(list, Step{Type: StepOverlay, Source: s.Upper, Target: s.Target, MapOwner: s.MapOwner, Writable: true})
		}
		return list
	}
	return nil
}

// Plan is everything that keeper and init do. It is data: no descriptor, no
// function, nothing of the machine but what NewPlan was given.
type Plan struct {
	Version  int    `json:"version"`
	Hostname string `json:"hostname"`
	Policy
	Dir     string `json:"dir"`
	UID     int    `json:"uid"`
	GID     int    `json:"gid"`
	HostUID int    `json:"hostUID"`
	HostGID int    `json:"hostGID"`
	// Privileged says that the supervisor is root: it clones the mounts (the
	// program's host uid could not reach them) and drops the groups.
	Privileged bool   `json:"privileged,omitempty"`
	Steps      []Step `json:"steps"`
	// Data is RLIMIT_DATA in bytes, 0 for none.
	Data uint64 `json:"data,omitempty"`
	// UserNamespaces is how many user namespaces the program may make.
	UserNamespaces int `json:"userNamespaces"`
	// Env is where every program's environment starts.
	Env []string `json:"env"`
}

const planVersion = 2

// maxPlan bounds an encoded plan; a store closure of ten thousand paths fits.
const maxPlan = 16 << 20

// reserved are the paths that the sandbox itself stands on: a tree there
// would cover them.
var reserved = []string{"/", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/etc", "/tmp", "/var", "/var/tmp", "/run", "/home", "/root", "/opt", "/nix"}

// reservedTrees are those where nothing beneath can be a tree either.
var reservedTrees = []string{"/proc", "/sys", "/dev", "/rcc", StoreDir}

// CheckTarget tells whether the sandbox can show a tree at this path.
func CheckTarget(target string) error {
	if !path.IsAbs(target) || path.Clean(target) != target || strings.ContainsRune(target, 0) {
		return fmt.Errorf("cannot put the tree at %q: the path must be absolute and clean", target)
	}
	for _, r := range reservedTrees {
		if target == r || strings.HasPrefix(target, r+"/") {
			return fmt.Errorf("cannot put the tree at %s: the sandbox needs %s for itself; move the repository", target, r)
		}
	}
	if slices.Contains(reserved, target) {
		return fmt.Errorf("cannot put the tree at %s: the sandbox needs that path for itself; move the repository", target)
	}
	return nil
}

// NewPlan decides everything that a sandbox consists of. It reads nothing but
// its arguments.
func NewPlan(policy Policy, job Job, host Host) (*Plan, error) {
	if err := checkNet(policy); err != nil {
		return nil, err
	}
	if job.HostUID == 0 || job.HostGID == 0 {
		return nil, errors.New("cannot run a program as the host's root: give it a user id of its own")
	}
	if err := CheckTarget(job.Dir); err != nil && job.Dir != "/" {
		return nil, err
	}
	p := &Plan{
		Version: planVersion, Hostname: Hostname, Policy: policy, Dir: job.Dir,
		UID: job.UID, GID: job.GID, HostUID: job.HostUID, HostGID: job.HostGID,
		Privileged: host.Root, Data: job.Data,
	}
	search, err := searchPath(host, job)
	if err != nil {
		return nil, err
	}
	if err := p.tools(host, job); err != nil {
		return nil, err
	}
	p.system()
	p.etc(host, job)
	if err := p.links(host, job); err != nil {
		return nil, err
	}
	p.home(job)
	for _, b := range job.Binds {
		switch {
		case b.Empty:
			p.add(Step{Type: StepMask, Target: b.Target})
			continue
		case len(b.Lower) > MaxLayers:
			return nil, fmt.Errorf("cannot show %s: it has %d layers, more than %d", b.Target, len(b.Lower), MaxLayers)
		case len(b.Lower) > 0:
			p.add(overlayStep(b, host))
			continue
		}
		p.add(Step{Type: StepBind, Source: b.Source, Target: b.Target, Writable: b.Writable, MapOwner: b.MapOwner && host.Root})
	}
	p.add(Step{Type: StepSeal, Target: "/dev"}, Step{Type: StepSeal, Target: "/"})
	p.Env = []string{"HOME=" + Home, "USER=" + job.User, "LOGNAME=" + job.User, "PATH=" + search, "SHELL=" + shellOr(job.Shell)}
	return p, nil
}

func overlayStep(b Bind, host Host) Step {
	s := Step{Type: StepOverlay, Target: b.Target, Upper: b.Upper, Writable: b.Upper != "", MapOwner: b.MapOwner && host.Root}
	for _, l := range b.Lower {
		s.Lower = append(s.Lower, Layer{Source: l.Source, MapOwner: l.MapOwner && host.Root})
	}
	return s
}

func (p *Plan) add(s ...Step) { p.Steps = append(p.Steps, s...) }

// system makes what every Unix program takes for granted.
func (p *Plan) system() {
	p.add(
		Step{Type: StepTmpfs, Target: "/tmp", Mode: 0o1777, Writable: true},
		Step{Type: StepDir, Target: "/var", Mode: 0o755},
		Step{Type: StepTmpfs, Target: "/var/tmp", Mode: 0o1777, Writable: true},
		Step{Type: StepTmpfs, Target: "/run", Mode: 0o755, Writable: true, NoExec: true},
		Step{Type: StepSymlink, Target: "/var/run", Content: "/run"},
		Step{Type: StepProc, Target: "/proc"},
	)
	for _, m := range procMasks {
		p.add(Step{Type: StepMask, Target: m})
	}
	for _, m := range procReadOnly {
		p.add(Step{Type: StepSeal, Target: m})
	}
	p.add(Step{Type: StepTmpfs, Target: "/dev", Mode: 0o755, Writable: true, NoExec: true})
	for _, n := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		p.add(Step{Type: StepBind, Source: "/dev/" + n, Target: "/dev/" + n, Writable: true, NoExec: true, Device: true})
	}
	p.add(
		Step{Type: StepDevpts, Target: "/dev/pts"},
		Step{Type: StepSymlink, Target: "/dev/ptmx", Content: "pts/ptmx"},
		Step{Type: StepTmpfs, Target: "/dev/shm", Mode: 0o1777, Writable: true, NoExec: true},
		Step{Type: StepMqueue, Target: "/dev/mqueue"},
		Step{Type: StepSymlink, Target: "/dev/fd", Content: "/proc/self/fd"},
		Step{Type: StepSymlink, Target: "/dev/stdin", Content: "/proc/self/fd/0"},
		Step{Type: StepSymlink, Target: "/dev/stdout", Content: "/proc/self/fd/1"},
		Step{Type: StepSymlink, Target: "/dev/stderr", Content: "/proc/self/fd/2"},
	)
}

// etc gives the few files that programs need: those of the host that tell
// nothing about it or its users, and our own where they would.
func (p *Plan) etc(host Host, job Job) {
	p.add(Step{Type: StepDir, Target: "/etc", Mode: 0o755})
	p.etcEntries(host, job)
	file := func(name, content string) {
		p.add(Step{Type: StepFile, Target: "/etc/" + name, Content: content, Mode: 0o444})
	}
	user := job.User
	file("passwd", fmt.Sprintf("%s:x:%d:%d::%s:%s\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n", user, job.UID, job.GID, Home, shellOr(job.Shell)))
	file("group", fmt.Sprintf("%s:x:%d:\nnogroup:x:65534:\n", user, job.GID))
	file("hosts", "127.0.0.1 localhost "+Hostname+"\n::1 localhost ip6-localhost ip6-loopback\n")
	file("hostname", Hostname+"\n")
	file("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n")
	file("resolv.conf", p.resolvConf())
	file("machine-id", strings.Repeat("0", 32)+"\n")
}

func (p *Plan) home(job Job) {
	if job.Home == "" {
		p.add(Step{Type: StepTmpfs, Target: Home, Mode: 0o700, Writable: true})
		return
	}
	p.add(Step{Type: StepBind, Source: job.Home, Target: Home, Writable: true})
}

func shellOr(s string) string {
	if s == "" {
		return "/bin/sh"
	}
	return s
}

// DecodePlan reads a plan as Start wrote it. It refuses unknown versions,
// fields and step types, so that a stage of another build never half-obeys.
func DecodePlan(b []byte) (*Plan, error) {
	if len(b) > maxPlan {
		return nil, errors.New("plan is too large")
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	var p Plan
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("decode plan: %w", err)
	}
	if d.More() {
		return nil, errors.New("decode plan: something follows it")
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return &p, nil
}

// check refuses what NewPlan would not have made.
func (p *Plan) check() error {
	if p.Version != planVersion {
		return fmt.Errorf("plan version %d, want %d", p.Version, planVersion)
	}
	if p.HostUID <= 0 || p.HostGID <= 0 || p.UID < 0 || p.GID < 0 {
		return errors.New("plan has a user id that is not allowed")
	}
	if err := checkNet(p.Policy); err != nil {
		return err
	}
	for _, s := range p.Steps {
		if !slices.Contains(stepTypes, s.Type) {
			return fmt.Errorf("plan has an unknown step %q", s.Type)
		}
		if !path.IsAbs(s.Target) || path.Clean(s.Target) != s.Target || strings.ContainsRune(s.Target, 0) {
			return fmt.Errorf("plan has a target that is not absolute and clean: %q", s.Target)
		}
		if len(s.Lower) > MaxLayers {
			return fmt.Errorf("plan has an overlay of %d layers", len(s.Lower))
		}
		if err := checkStore(s); err != nil {
			return err
		}
	}
	return nil
}

var stepTypes = []StepType{StepBind, StepOverlay, StepTmpfs, StepProc, StepDevpts, StepMqueue, StepFile, StepDir, StepSymlink, StepSeal, StepMask, StepStore}
