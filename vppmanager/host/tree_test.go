package host

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A recorded machine is a text file in testdata, of these lines:
//
//	# a comment
//	path = text           a file with one line
//	path <<               a file with the lines that follow, up to one that is "."
//	path -> target        a symbolic link
//	path/                 an empty directory
//	@cpu ID key=value...  a processor, @node a memory node, @pci a device, @net a link:
//	                      what sysfs shows of them, see below
//
// Paths are relative to the machine's root. Two are not of the machine: "arch", which is
// GOARCH, and "kernel.json", which is what rtnetlink and ethtool answer (type recording).
type machine struct {
	t    testing.TB
	root string
	at   map[string]string // of PCI devices: the directory below /sys/devices
}

// recording is a Kernel that answers what was recorded.
type recording struct {
	Net   Links              `json:"links"`
	Tools map[string]Ethtool `json:"ethtool"`
	Ways  map[string]int     `json:"ways"` // by "source destination"
}

func (r recording) Links() (Links, error) { return r.Net, nil }

func (r recording) Ethtool(link string) (Ethtool, error) { return r.Tools[link], nil }

func (r recording) Way(src, dst netip.Addr) (int, error) {
	return r.Ways[src.String()+" "+dst.String()], nil
}

// recorded lays the machine of a file under a new root.
func recorded(t testing.TB, file string) Node {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := machine{t: t, root: t.TempDir(), at: map[string]string{}}
	lines := strings.Split(string(data), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		path, text, multi := strings.Cut(line, " <<")
		if !multi || text != "" {
			m.line(line)
			continue
		}
		var b strings.Builder
		for i++; lines[i] != "."; i++ {
			b.WriteString(lines[i] + "\n")
		}
		m.file(path, b.String())
	}
	n := Node{Root: m.root, Arch: "amd64"}
	if arch, err := n.word("arch"); err == nil && arch != "" {
		n.Arch = arch
	}
	if text, err := n.read("kernel.json"); err == nil {
		var r recording
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			t.Fatalf("%s: kernel.json: %v", file, err)
		}
		n.Kernel = r
	}
	return n
}

func (m machine) line(line string) {
	m.t.Helper()
	if f := strings.Fields(line); len(f) == 0 || strings.HasPrefix(line, "#") {
		return
	}
	if strings.HasPrefix(line, "@") {
		m.thing(strings.Fields(line))
		return
	}
	if path, text, ok := strings.Cut(line, " = "); ok {
		m.file(path, text+"\n")
		return
	}
	if path, target, ok := strings.Cut(line, " -> "); ok {
		m.link(path, target)
		return
	}
	if !strings.HasSuffix(line, "/") {
		m.t.Fatalf("line %q says nothing", line)
	}
	m.must(os.MkdirAll(filepath.Join(m.root, line), 0o755))
}

// thing lays down what sysfs shows of one thing.
func (m machine) thing(f []string) {
	m.t.Helper()
	v := map[string]string{}
	for _, w := range f[2:] {
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			m.t.Fatalf("%v: %q is no key=value", f, w)
		}
		v[name] = value
	}
	switch f[0] {
	case "@cpu":
		dir := "sys/devices/system/cpu/cpu" + f[1] + "/topology/"
		m.file(dir+"physical_package_id", v["socket"]+"\n")
		m.file(dir+"thread_siblings_list", v["threads"]+"\n")
	case "@node":
		m.memory(f[1], v)
	case "@pci":
		m.pci(f[1], v)
	case "@net":
		m.net(f[1], v)
	default:
		m.t.Fatalf("%v: not known", f)
	}
}

// memory: cpus=0-3 free=KILOBYTES, and pages by size in kB, as total/free: 2048=512/500.
func (m machine) memory(id string, v map[string]string) {
	dir := "sys/devices/system/node/node" + id + "/"
	for key, value := range v {
		switch total, free, _ := strings.Cut(value, "/"); key {
		case "cpus":
			m.file(dir+"cpulist", value+"\n")
		case "free":
			m.file(dir+"meminfo", fmt.Sprintf("Node %s MemTotal:  99999999 kB\nNode %s MemFree:  %s kB\n", id, id, value))
		default:
			m.file(dir+"hugepages/hugepages-"+key+"kB/nr_hugepages", total+"\n")
			m.file(dir+"hugepages/hugepages-"+key+"kB/free_hugepages", free+"\n")
		}
	}
}

// pci: on=PARENT (below /sys/devices; default pci0000:00) id=VENDOR:DEVICE class= driver=
// group= type= (of the group) numa= irq= pf= vfs=NOW/MAX rdma=
func (m machine) pci(address string, v map[string]string) {
	parent := "pci0000:00"
	if v["on"] != "" {
		parent = m.at[v["on"]]
	}
	at := parent + "/" + address
	m.at[address] = at
	dir := "sys/devices/" + at + "/"
	up := strings.Repeat("../", strings.Count(dir, "/")-1)
	m.link("sys/bus/pci/devices/"+address, "../../../devices/"+at)
	m.link(dir+"subsystem", up+"bus/pci")
	vendor, device, _ := strings.Cut(v["id"], ":")
	files := map[string]string{
		"vendor": "0x" + vendor, "device": "0x" + device, "class": "0x" + v["class"],
		"driver_override": "(null)", "numa_node": "-1", "irq": "0",
	}
	for key, value := range v {
		switch key {
		case "driver":
			m.must(os.MkdirAll(filepath.Join(m.root, "sys/bus/pci/drivers", value), 0o755))
			m.link(dir+"driver", up+"bus/pci/drivers/"+value)
		case "group":
			m.must(os.MkdirAll(filepath.Join(m.root, "sys/kernel/iommu_groups", value), 0o755))
			m.link(dir+"iommu_group", up+"kernel/iommu_groups/"+value)
			if v["type"] != "" {
				m.file("sys/kernel/iommu_groups/"+value+"/type", v["type"]+"\n")
			}
		case "numa":
			files["numa_node"] = value
		case "irq":
			files["irq"] = value
		case "pf":
			m.link(dir+"physfn", up+"devices/"+m.at[value])
		case "vfs":
			files["sriov_numvfs"], files["sriov_totalvfs"], _ = strings.Cut(value, "/")
		case "rdma":
			m.must(os.MkdirAll(filepath.Join(m.root, dir, "infiniband", value), 0o755))
		}
	}
	for name, text := range files {
		m.file(dir+name, text+"\n")
	}
}

// net: on=PCI ADDRESS index= port= (phys_port_name) virtio= (its virtio device) usb= (its
// USB interface) wireless=yes; without on, a link of the kernel's own.
func (m machine) net(name string, v map[string]string) {
	device := "virtual"
	if v["on"] != "" {
		device = m.at[v["on"]]
	}
	for _, below := range []string{v["virtio"], v["usb"]} {
		if below != "" {
			device += "/" + below
		}
	}
	dir := "sys/devices/" + device + "/net/" + name + "/"
	up := strings.Repeat("../", strings.Count("sys/devices/"+device, "/"))
	for _, bus := range []string{"virtio", "usb"} {
		if v[bus] != "" {
			m.must(os.MkdirAll(filepath.Join(m.root, "sys/bus", bus, "devices"), 0o755))
			m.link("sys/devices/"+device+"/subsystem", up+"bus/"+bus)
			m.link("sys/bus/"+bus+"/devices/"+v[bus], "../../../devices/"+device)
		}
	}
	m.file(dir+"ifindex", v["index"]+"\n")
	m.link("sys/class/net/"+name, "../../devices/"+device+"/net/"+name)
	if v["on"] != "" {
		m.link(dir+"device", "../..")
	}
	if v["port"] != "" {
		m.file(dir+"phys_port_name", v["port"]+"\n")
	}
	if v["wireless"] != "" {
		m.must(os.MkdirAll(filepath.Join(m.root, dir, "phy80211"), 0o755))
	}
}

func (m machine) file(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	m.must(os.MkdirAll(filepath.Dir(path), 0o755))
	mode := os.FileMode(0o644)
	if filepath.Base(filepath.Dir(path)) == "bin" {
		mode = 0o755
	}
	m.must(os.WriteFile(path, []byte(text), mode))
}

func (m machine) link(path, target string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	m.must(os.MkdirAll(filepath.Dir(path), 0o755))
	m.must(os.Symlink(target, path))
}

func (m machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}
