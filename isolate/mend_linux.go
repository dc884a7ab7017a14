package isolate

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Mends for the reasons that keep namespaces from an ordinary user. They are
// commands, as rcc doctor prints them.
const (
	mendClone    = "sudo sysctl kernel.unprivileged_userns_clone=1"
	mendMax      = "sudo sysctl user.max_user_namespaces=15000"
	mendAppArmor = "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
)

// userNamespaceMend names the setting that stands in the way, or "".
func userNamespaceMend() string {
	switch {
	case sysctl("kernel/unprivileged_userns_clone") == "0":
		return mendClone
	case sysctl("user/max_user_namespaces") == "0":
		return mendMax
	case sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return mendAppArmor
	}
	return ""
}

func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// cloneError explains why the keeper could not be started.
func cloneError(err error) error {
	return withMend(stepError("make a user namespace", err))
}

// withMend adds to a refusal what to do about it, where that is known.
func withMend(err error) error {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w; rcc needs Linux 5.12 or newer", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSPC):
		if mend := userNamespaceMend(); mend != "" {
			return fmt.Errorf("%w; try: %s", err, mend)
		}
		return fmt.Errorf("%w; rcc doctor tells what is missing", err)
	}
	return err
}
