package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is one that matters to the plan: it manages links, serves SSH, or has a device
// open.
type process struct {
	pid   int
	name  string
	args  []string // of those that manage links
	files []string // open ones that matter: devices; sockets of SSH servers
}

// hostProcesses is what /proc/self/ns/pid names in the namespace that the kernel starts
// with (PROC_PID_INIT_INO in linux/proc_ns.h): all processes of the machine are in it.
const hostProcesses = "pid:[4026531836]"

// scanProcesses looks through /proc once. A process that ends meanwhile is no error.
func (r *reading) scanProcesses() {
	ns, err := os.Readlink(r.path("/proc/self/ns/pid"))
	if r.seesHost = ns == hostProcesses; !r.seesHost && err == nil {
		r.note(errors.New("list /proc: this process sees only those of its container: who manages links, has devices open or came by SSH is not known (hostPID: true shows them)"))
	}
	names, err := r.names("/proc")
	r.note(err)
	closed := 0
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		p := process{pid: pid}
		if p.name, err = r.word("/proc/" + name + "/comm"); err != nil || p.name == "" {
			continue // it ended
		}
		p.files, err = r.openFiles(p)
		if errors.Is(err, fs.ErrPermission) {
			closed++
		} else if !errors.Is(err, unix.ESRCH) {
			r.note(err)
		}
		if slices.Contains(linkManagers(), p.name) {
			p.args = r.arguments(name)
		}
		if p.args != nil || p.files != nil || servesSSH(p.name) {
			r.processes = append(r.processes, p)
		}
	}
	r.seesAll = r.seesHost && closed == 0
	if closed > 0 {
		r.note(fmt.Errorf("read /proc/PID/fd of %d processes: permission denied: who has devices open or came by SSH is not fully known", closed))
	}
}

// openFiles are those open files of a process that matter.
func (r *reading) openFiles(p process) ([]string, error) {
	dir := fmt.Sprintf("/proc/%d/fd", p.pid)
	names, err := r.names(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, name := range names {
		target, err := os.Readlink(r.path(dir + "/" + name))
		if err != nil {
			continue // it was closed
		}
		if matters(target) || servesSSH(p.name) && strings.HasPrefix(target, "socket:[") {
			files = append(files, target)
		}
	}
	return files, nil
}

func matters(file string) bool {
	return strings.HasPrefix(file, "/dev/vfio/") || strings.HasPrefix(file, "/dev/uio") ||
		strings.HasPrefix(file, "/sys/") && strings.Contains(file, "/resource")
}

// servesSSH knows the servers by name. OpenSSH has processes of other names for sessions.
func servesSSH(name string) bool {
	return strings.HasPrefix(name, "sshd") || slices.Contains([]string{"dropbear", "tinysshd"}, name)
}

func (r *reading) arguments(pid string) []string {
	data, err := r.read("/proc/" + pid + "/cmdline")
	if err != nil || len(data) == 0 {
		return []string{}
	}
	return strings.Split(strings.TrimRight(string(data), "\x00"), "\x00")
}

// linkManagers are the programs that configure links, by the name the kernel keeps (15
// bytes).
func linkManagers() []string {
	return []string{
		"systemd-network", "NetworkManager", "dhclient", "dhcpcd", "udhcpc", "connmand", "wickedd", "netifd",
	}
}
