package change

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/millrace/millrace/vppmanager/startup"
)

// check refuses a change that names nothing, or something that is no name: they become
// parts of paths. A journal is checked the same way.
func check(c startup.Change) error {
	switch c.Kind {
	case startup.LoadModule:
		return checkName("module", c.Module)
	case startup.AddHugePages:
		if c.NUMA < 0 || c.Pages <= 0 || c.PageSize < 4096 || c.PageSize%1024 != 0 {
			return errors.New("want a NUMA node, a page size and a number of pages above 0")
		}
		return nil
	case startup.SetSysctl:
		return checkSysctl(c)
	case startup.OverrideDriver, startup.Probe:
		return errors.Join(checkPCI(c.PCI), checkName("driver", c.Driver))
	case startup.Unbind:
		return checkPCI(c.PCI)
	case startup.RenameLink:
		return errors.Join(checkLink("link", c.Link), checkLink("new name", c.Name))
	case startup.SaveLink, startup.ReleaseMember, startup.LinkDown, startup.FlushLink, startup.HostTap, startup.XDPProgram:
		return checkLink("link", c.Link)
	}
	return fmt.Errorf("kind of change %q: there is none", c.Kind)
}

func checkName(what, name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '/' || r > '~' }) {
		return fmt.Errorf("%s %q: want a name", what, name)
	}
	return nil
}

// checkLink takes what the kernel takes as the name of a link (dev_valid_name).
func checkLink(what, name string) error {
	if len(name) > 15 || strings.Contains(name, ":") {
		return fmt.Errorf("%s %q: want a name of at most 15 bytes, without a colon", what, name)
	}
	return checkName(what, name)
}

// checkPCI takes the form of sysfs: domain:bus:device.function in lower-case hexadecimal.
func checkPCI(address string) error {
	fail := fmt.Errorf("PCI address %q: want one like 0000:03:00.0", address)
	parts := strings.Split(address, ":")
	if len(parts) != 3 {
		return fail
	}
	device, function, _ := strings.Cut(parts[2], ".")
	hex := func(s string, least, most int) bool {
		return len(s) >= least && len(s) <= most && strings.Trim(s, "0123456789abcdef") == ""
	}
	if !hex(parts[0], 4, 8) || !hex(parts[1], 2, 2) || !hex(device, 2, 2) || !hex(function, 1, 1) {
		return fail
	}
	return nil
}

// checkSysctl takes paths below /proc/sys and, since a module's parameter is the same
// thing elsewhere, whole paths of such.
func checkSysctl(c startup.Change) error {
	rel, absolute := strings.CutPrefix(c.Path, "/")
	if rel == "" || path.Clean(rel) != rel || rel == "." || strings.HasPrefix(rel, "..") || strings.ContainsAny(rel, "\x00\n") {
		return fmt.Errorf("sysctl %q: want a path below /proc/sys", c.Path)
	}
	if ok, err := path.Match("sys/module/*/parameters/*", rel); absolute && (!ok || err != nil) {
		return fmt.Errorf("sysctl %q: want a path below /proc/sys, or a parameter of a module", c.Path)
	}
	if strings.ContainsAny(c.Value, "\x00\n") || c.Value == "" {
		return fmt.Errorf("value %q: want one line", c.Value)
	}
	return nil
}
