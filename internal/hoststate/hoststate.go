// Package hoststate reads, for tests, what a host is like as text that can be compared: all
// that the manager may change and has to put back, without what differs from one look to the
// next.
//
// It asks iproute2 and ethtool, the judges that users ask too. It never changes anything.
package hoststate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// State is lines by aspect: links, routes, drivers, features, sysctls and more.
type State map[string][]string

// Read returns the state of the machine, and of the network namespace that the calling
// thread is in.
func Read() (State, error) {
	s, err := Network()
	if err != nil {
		return nil, err
	}
	s["drivers"] = drivers()
	s["huge pages"] = files("/proc/sys/vm/nr_hugepages", "/sys/devices/system/node/node*/hugepages/*/nr_hugepages")
	s["modules"] = firstWords("/proc/modules")
	s["mounts"] = files("/proc/self/mounts")
	return s.sorted(), nil
}

// Network returns what lies in the network namespace of the calling thread.
func Network() (State, error) {
	s := State{}
	for name, command := range map[string]string{
		"links":      "ip -j -d address show",
		"routes":     "ip -j -d -4 route show table all",
		"routes6":    "ip -j -d -6 route show table all",
		"rules":      "ip -j -4 rule show",
		"rules6":     "ip -j -6 rule show",
		"neighbours": "ip -j neighbour show nud permanent",
		"multicast":  "ip -j maddress show",
		"vlans":      "bridge -j vlan show",
	} {
		out, err := output(command)
		if err == nil {
			s[name], err = iproute(out)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
	}
	out, err := output("tc qdisc show")
	if err != nil {
		return nil, err
	}
	s["queueing"] = queueing(string(out))
	if out, err := output("nft list ruleset"); err == nil { // nft(8) may be missing
		s["filters"] = strings.Split(string(out), "\n")
	}
	links, err := linkNames()
	if err != nil {
		return nil, err
	}
	s["features"] = features(links)
	s["sysctls"] = sysctls(links)
	return s.sorted(), nil
}

func (s State) sorted() State {
	for _, lines := range s {
		slices.Sort(lines)
	}
	return s
}

// linkNames asks rtnetlink: sysfs shows the links of the namespace it was mounted in.
func linkNames() ([]string, error) {
	out, err := output("ip -j link show")
	if err != nil {
		return nil, err
	}
	var list []struct {
		Name string `json:"ifname"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("ip link show: %w", err)
	}
	var names []string
	for _, l := range list {
		names = append(names, l.Name)
	}
	return names, nil
}

func (s State) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "== %s\n%s\n", name, strings.Join(s[name], "\n"))
	}
	return b.String()
}

// Difference says what is other in have than in want, line by line; "" = nothing.
func Difference(want, have State) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(want)) {
		var lines []string
		for _, l := range want[name] {
			if !slices.Contains(have[name], l) {
				lines = append(lines, "  - "+l+"\n")
			}
		}
		for _, l := range have[name] {
			if !slices.Contains(want[name], l) {
				lines = append(lines, "  + "+l+"\n")
			}
		}
		if len(lines) == 0 && len(want[name]) != len(have[name]) {
			lines = append(lines, fmt.Sprintf("  %d lines instead of %d, some are there twice\n", len(have[name]), len(want[name])))
		}
		if len(lines) > 0 {
			b.WriteString(name + ":\n" + strings.Join(lines, ""))
		}
	}
	return b.String()
}

func output(command string) ([]byte, error) {
	words := strings.Fields(command)
	cmd := exec.Command(words[0], words[1:]...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, &errors)
	}
	return out, nil
}

// queueing takes the text of tc apart, whose JSON is none for some disciplines
// ("priomap" of pfifo_fast). The handle is a number that the kernel may give.
func queueing(text string) (lines []string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) > 2 {
			words = slices.Delete(words, 2, 3)
		}
		if i := slices.Index(words, "refcnt"); i >= 0 && i+1 < len(words) {
			words = slices.Delete(words, i, i+2)
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines
}

// volatile are fields that differ from one look to the next, or by the number that the
// kernel gives a link.
var volatile = []string{"ifindex", "link_index", "preferred_life_time", "valid_life_time", "expires", "handle", "promiscuity", "allmulti"}

// iproute takes the JSON of iproute2 apart into lines, one a property.
func iproute(text []byte) ([]string, error) {
	var list []map[string]any
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	var lines []string
	for _, object := range list {
		prune(object)
		link, named := object["ifname"]
		if !named {
			lines = append(lines, line(object))
			continue
		}
		for key, value := range object {
			values, isList := value.([]any)
			if !isList {
				values = []any{value}
			}
			for _, v := range values {
				lines = append(lines, fmt.Sprintf("%v %s %s", link, key, line(v)))
			}
		}
	}
	return lines, nil
}

// line is the value on one line, keys in order.
func line(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// prune removes what is volatile at every depth.
func prune(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range volatile {
			delete(v, name)
		}
		for _, inner := range v {
			prune(inner)
		}
	case []any:
		for _, inner := range v {
			prune(inner)
		}
	}
}

// features are offloads, rings, channels, coalescing and pause of links.
func features(links []string) []string {
	var lines []string
	for _, l := range links {
		if l == "lo" {
			continue
		}
		for _, what := range []string{"-k", "-g", "-l", "-c", "-a"} {
			out, err := output("ethtool " + what + " " + l)
			if err != nil {
				continue // the driver has none of that kind
			}
			section := ""
			for text := range strings.Lines(string(out)) {
				text = strings.TrimSpace(text)
				if strings.HasSuffix(text, ":") {
					section = text
				} else if text != "" && !strings.Contains(text, "[fixed]") && !strings.Contains(text, "n/a") {
					lines = append(lines, fmt.Sprintf("%s %s %s", l, section, strings.Join(strings.Fields(text), " ")))
				}
			}
		}
	}
	return lines
}

// drivers are those of the devices of the PCI bus, with their overrides and links.
func drivers() []string {
	devices, _ := filepath.Glob("/sys/bus/pci/devices/*") // an error is one of the pattern only
	var lines []string
	for _, d := range devices {
		driver, err := os.Readlink(filepath.Join(d, "driver"))
		if err != nil {
			driver = "none"
		}
		override, _ := os.ReadFile(filepath.Join(d, "driver_override"))
		direct, _ := filepath.Glob(d + "/net/*")
		virtio, _ := filepath.Glob(d + "/virtio*/net/*")
		line := fmt.Sprintf("%s driver %s override %s", filepath.Base(d), filepath.Base(driver), bytes.TrimSpace(override))
		for _, l := range append(direct, virtio...) {
			line += " link " + filepath.Base(l)
		}
		lines = append(lines, line)
	}
	return lines
}

func sysctls(links []string) []string {
	var patterns []string
	for _, family := range []string{"ipv4", "ipv6"} {
		for _, kind := range []string{"conf", "neigh"} {
			for _, name := range []string{"all", "default"} {
				patterns = append(patterns, fmt.Sprintf("/proc/sys/net/%s/%s/%s/*", family, kind, name))
			}
			for _, l := range links {
				patterns = append(patterns, fmt.Sprintf("/proc/sys/net/%s/%s/%s/*", family, kind, l))
			}
		}
	}
	return files(append(patterns, "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/core/*")...)
}

// files are the lines of files, each with its path before it. What cannot be read, such as
// a secret that is not set, is none.
func files(patterns ...string) []string {
	var lines []string
	for _, pattern := range patterns {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			for l := range strings.Lines(string(text)) {
				lines = append(lines, path+" "+strings.TrimSpace(l))
			}
		}
	}
	return lines
}

func firstWords(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return []string{err.Error()}
	}
	var words []string
	for l := range strings.Lines(string(text)) {
		words = append(words, strings.Fields(l)[0])
	}
	return words
}
