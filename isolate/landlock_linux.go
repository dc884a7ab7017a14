package isolate

import (
	"github.com/landlock-lsm/go-landlock/landlock"
	abi "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// landlockGate takes from the gate every file, TCP but to the published ports,
// and signals and abstract sockets of others, as far as the kernel has it
// (landlock(7)); what it lacks is told. The filter of system calls stands before
// all of that.
func landlockGate(publish []uint16) (degraded []string, err error) {
	var rules []landlock.Rule
	for _, port := range publish {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	// Not V10: it would want a rule for each port that a query came from.
	if err := landlock.V9.BestEffort().Restrict(rules...); err != nil {
		return nil, err
	}
	version, err := abi.LandlockGetABIVersion()
	if err != nil {
		version = 0 // turned off, or not built in
	}
	return missingOfLandlock(version), nil
}

// missingOfLandlock tells what an ABI of Landlock does not hold the gate by.
func missingOfLandlock(version int) (out []string) {
	for _, m := range []struct {
		since int
		text  string
	}{
		{1, "Landlock does not keep the gate from files: boot Linux 5.13 or newer with lsm=landlock,..."},
		{4, "Landlock does not keep the gate from TCP ports: boot Linux 6.7 or newer"},
		{6, "Landlock does not keep the gate from signals and abstract sockets: boot Linux 6.12 or newer"},
	} {
		if version < m.since {
			out = append(out, m.text)
		}
	}
	return out
}
