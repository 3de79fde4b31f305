package change

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/millrace/millrace/vppmanager/startup"
)

// moduleName is the kernel's own spelling; file names may have dashes.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// library is what depmod found out of the modules of a kernel.
type library struct {
	files map[string]string   // by module: below the library's directory
	needs map[string][]string // by module: files that have to be there before, the first one last
	soft  map[string][2][]string
	built map[string]bool
}

// loadedModules returns the use count of each loaded module; -1 says that it cannot be
// unloaded.
func (h Host) loadedModules() (map[string]int, error) {
	text, err := h.read("proc/modules")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("this kernel has no modules")
	}
	if err != nil {
		return nil, err
	}
	loaded := map[string]int{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("read /proc/modules: line %q", line)
		}
		uses := -1
		if _, err := fmt.Sscan(fields[2], &uses); err != nil {
			uses = -1 // "-": built without unloading
		}
		loaded[fields[0]] = uses
	}
	return loaded, nil
}

// present says whether a module is there, be it loaded or built in.
func (h Host) present(module string) bool { return h.there("sys/module", moduleName(module)) }

// needed are the modules that loading one may load, itself included, the first to be
// loaded first. Without a library of modules it is itself.
func (h Host) needed(module string) []string {
	l, err := h.library()
	if err != nil {
		return []string{moduleName(module)}
	}
	return l.order(moduleName(module))
}

func lookModule(h Host, c startup.Change) (state, error) {
	if h.present(c.Module) && !h.there("proc/modules") {
		return state{Modules: []string{moduleName(c.Module)}}, nil
	}
	loaded, err := h.loadedModules()
	if err != nil {
		return state{}, err
	}
	var before []string
	for _, m := range h.needed(c.Module) {
		if _, ok := loaded[m]; ok || h.present(m) {
			before = append(before, m)
		}
	}
	return state{Modules: before}, nil
}

func doModule(ctx context.Context, h Host, s *step) (*state, error) {
	if slices.Contains(s.Before.Modules, moduleName(s.Change.Module)) {
		return &state{}, nil
	}
	if err := h.load(ctx, s.Change.Module); err != nil {
		return nil, err
	}
	came, err := h.came(s)
	return &state{Modules: came}, err
}

// came are the modules that are loaded now and were not before.
func (h Host) came(s *step) ([]string, error) {
	loaded, err := h.loadedModules()
	if err != nil {
		return nil, err
	}
	var list []string
	for _, m := range h.needed(s.Change.Module) {
		if _, ok := loaded[m]; ok && !slices.Contains(s.Before.Modules, m) {
			list = append(list, m)
		}
	}
	return list, nil
}

// undoModule unloads what the step loaded, as far as nobody uses it.
func undoModule(_ context.Context, h Host, _ *Journal, s *step) error {
	if slices.Contains(s.Before.Modules, moduleName(s.Change.Module)) {
		return nil
	}
	came, err := h.came(s)
	if err != nil {
		return err
	}
	if s.Done && s.After != nil {
		came = slices.DeleteFunc(came, func(m string) bool { return !slices.Contains(s.After.Modules, m) })
	}
	for {
		loaded, err := h.loadedModules()
		if err != nil {
			return err
		}
		free := slices.IndexFunc(came, func(m string) bool { n, ok := loaded[m]; return ok && n == 0 })
		if free < 0 {
			break
		}
		if err := h.moduleCalls().remove(came[free]); err != nil && !inUse(err) {
			return fmt.Errorf("unload %s: %w", came[free], err)
		}
		h.reached("unload")
		came = slices.Delete(came, free, free+1)
	}
	if loaded, err := h.loadedModules(); err == nil {
		came = slices.DeleteFunc(came, func(m string) bool { _, ok := loaded[m]; return !ok })
	}
	if len(came) > 0 {
		h.tell("modules that others use by now stay: %s", strings.Join(came, " "))
	}
	return nil
}

// library reads the lists of modules.
func (h Host) library() (library, error) {
	release, err := h.read("proc/sys/kernel/osrelease")
	if err != nil {
		return library{}, err
	}
	dir := path.Join("lib/modules", release)
	l := library{map[string]string{}, map[string][]string{}, map[string][2][]string{}, map[string]bool{}}
	err = h.lines(path.Join(dir, "modules.dep"), func(line string) {
		if file, needs, ok := strings.Cut(line, ":"); ok {
			name := fileModule(file)
			l.files[name] = path.Join(dir, file)
			for _, n := range strings.Fields(needs) {
				l.needs[name] = append(l.needs[name], fileModule(n))
			}
		}
	})
	if err != nil {
		return library{}, err
	}
	// The other lists may be missing.
	err = h.lines(path.Join(dir, "modules.softdep"), func(line string) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "softdep" {
			l.soft[moduleName(fields[1])] = softNeeds(fields[2:])
		}
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return library{}, err
	}
	err = h.lines(path.Join(dir, "modules.builtin"), func(line string) { l.built[fileModule(line)] = true })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return library{}, err
	}
	return l, nil
}

// softNeeds splits "pre: a b post: c".
func softNeeds(words []string) (needs [2][]string) {
	at := 0
	for _, w := range words {
		switch w {
		case "pre:":
			at = 0
		case "post:":
			at = 1
		default:
			needs[at] = append(needs[at], moduleName(w))
		}
	}
	return needs
}

// fileModule is the module in a file such as kernel/drivers/vfio/vfio-pci.ko.xz.
func fileModule(file string) string {
	name, _, _ := strings.Cut(path.Base(strings.TrimSpace(file)), ".ko")
	return moduleName(name)
}

// order is the module with all it needs, as they have to be loaded: what it cannot do
// without, what it wants before, itself, what it wants after.
func (l library) order(module string) []string {
	var list []string
	seen := map[string]bool{}
	var visit func(string)
	visit = func(m string) {
		if seen[m] || l.built[m] {
			return
		}
		seen[m] = true
		for _, n := range l.soft[m][0] {
			visit(n)
		}
		for _, n := range slices.Backward(l.needs[m]) {
			visit(n)
		}
		list = append(list, m)
		for _, n := range l.soft[m][1] {
			visit(n)
		}
	}
	visit(module)
	return list
}

func (h Host) lines(name string, f func(string)) error {
	file, err := os.Open(h.path(name))
	if err != nil {
		return err
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	for s.Scan() {
		f(s.Text())
	}
	return s.Err()
}
