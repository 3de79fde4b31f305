package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// writableSysctls makes /proc/sys writable for this process, where a container runtime has
// mounted it read-only: for interfaces of pods some settings have to be other than a node's
// defaults. It changes the mount namespace of the container only, and needs CAP_SYS_ADMIN.
func writableSysctls() error {
	const dir = "/proc/sys"
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if errors.Is(err, unix.EINVAL) {
		return errors.New("make /proc/sys writable: it is no mount of its own, but read-only with what it lies in")
	}
	if err != nil {
		return fmt.Errorf("make /proc/sys writable (flag --writable-sysctls; needs CAP_SYS_ADMIN, and no AppArmor profile that denies mount): %w", err)
	}
	return nil
}
