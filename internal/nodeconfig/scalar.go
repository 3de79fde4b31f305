package nodeconfig

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Dataplane names the machine that forwards packets.
type Dataplane string

// The dataplanes.
const (
	Auto      Dataplane = "auto"
	UseVPP    Dataplane = "vpp"
	UseEngine Dataplane = "engine"
)

// UnmarshalText accepts the three names.
func (d *Dataplane) UnmarshalText(text []byte) error {
	return oneOf(d, text, Auto, UseVPP, UseEngine)
}

// LogLevel is the least severe level that is logged.
type LogLevel string

// The log levels.
const (
	Debug LogLevel = "debug"
	Info  LogLevel = "info"
	Warn  LogLevel = "warn"
	Error LogLevel = "error"
)

// UnmarshalText accepts the four names.
func (l *LogLevel) UnmarshalText(text []byte) error { return oneOf(l, text, Debug, Info, Warn, Error) }

// HugePages says whether VPP's buffers use huge pages.
type HugePages string

// The ways to use huge pages.
const (
	HugePagesAuto HugePages = "auto"
	HugePagesOn   HugePages = "on"
	HugePagesOff  HugePages = "off"
)

// UnmarshalText accepts the three names. YAML reads a bare on or off as true or false,
// so these two are accepted as well.
func (h *HugePages) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true":
		text = []byte(HugePagesOn)
	case "false":
		text = []byte(HugePagesOff)
	}
	return oneOf(h, text, HugePagesAuto, HugePagesOn, HugePagesOff)
}

// Driver is how the dataplane drives an uplink.
type Driver string

// The drivers.
const (
	DriverAuto     Driver = "auto"
	DriverDPDK     Driver = "dpdk"      // VPP's dpdk plugin on vfio-pci or uio; takes the NIC from the kernel
	DriverVirtio   Driver = "virtio"    // VPP's own virtio driver, likewise
	DriverAVF      Driver = "avf"       // VPP's own driver of Intel's adaptive virtual functions, likewise
	DriverRDMA     Driver = "rdma"      // VPP's own driver of Mellanox NICs; the kernel keeps the NIC
	DriverAFXDP    Driver = "af_xdp"    // the kernel's driver hands packets over
	DriverAFPacket Driver = "af_packet" // a packet socket: any link, slow
)

// UnmarshalText accepts the seven names.
func (d *Driver) UnmarshalText(text []byte) error {
	return oneOf(d, text, DriverAuto, DriverDPDK, DriverVirtio, DriverAVF, DriverRDMA, DriverAFXDP, DriverAFPacket)
}

// Mode is whose a NIC is.
type Mode string

// The modes.
const (
	ModeAuto  Mode = "auto"
	ModeShare Mode = "share" // Linux's, but for what is steered to the dataplane
	ModeOwn   Mode = "own"   // the dataplane's
)

// UnmarshalText accepts the three names.
func (m *Mode) UnmarshalText(text []byte) error {
	return oneOf(m, text, ModeAuto, ModeShare, ModeOwn)
}

// Encapsulation says which nodes are reached by a tunnel.
type Encapsulation string

// The choices.
const (
	EncapsulationCrossSubnet Encapsulation = "CrossSubnet"
	EncapsulationAlways      Encapsulation = "Always"
	EncapsulationNever       Encapsulation = "Never"
)

// UnmarshalText accepts the three names.
func (e *Encapsulation) UnmarshalText(text []byte) error {
	return oneOf(e, text, EncapsulationCrossSubnet, EncapsulationAlways, EncapsulationNever)
}

// PCIDriver is the kernel's driver that hands a PCI device to the dataplane's process.
type PCIDriver string

// The kernel's drivers.
const (
	PCIDriverAuto PCIDriver = "auto"
	PCIDriverVFIO PCIDriver = "vfio-pci"
	PCIDriverUIO  PCIDriver = "uio_pci_generic"
)

// UnmarshalText accepts the three names.
func (d *PCIDriver) UnmarshalText(text []byte) error {
	return oneOf(d, text, PCIDriverAuto, PCIDriverVFIO, PCIDriverUIO)
}

func oneOf[T ~string](into *T, text []byte, names ...T) error {
	if !slices.Contains(names, T(text)) {
		list := make([]string, len(names))
		for i, n := range names {
			list[i] = string(n)
		}
		return fmt.Errorf("%q is not one of %s", text, strings.Join(list, ", "))
	}
	*into = T(text)
	return nil
}

// Size is an amount of memory in bytes. Its text is a whole number with Ki, Mi or Gi.
type Size uint64

var sizeUnits = []struct {
	suffix string
	shift  uint
}{{"Gi", 30}, {"Mi", 20}, {"Ki", 10}}

// String prints the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%(1<<u.shift) == 0 {
			return strconv.FormatUint(uint64(s>>u.shift), 10) + u.suffix
		}
	}
	return strconv.FormatUint(uint64(s), 10)
}

// MarshalText is String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what String prints.
func (s *Size) UnmarshalText(text []byte) error {
	digits, shift := string(text), uint(0)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, shift = d, u.shift
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > math.MaxInt64>>shift {
		return fmt.Errorf("%q is not a size: want a whole number with Ki, Mi or Gi, such as 512Mi", text)
	}
	*s = Size(n << shift)
	return nil
}
