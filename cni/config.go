package cni

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// DefaultSocket is where the plugin finds the agent unless its configuration says otherwise.
const DefaultSocket = "/run/millrace/cni.sock"

// Config is the plugin's network configuration, decoded.
type Config struct {
	CNIVersion string
	Name       string        // of the network
	Type       string        // the file name a runtime finds the plugin by
	Socket     string        // absolute path
	MTU        uint32        // bytes at L3; 0 = the node's default
	Timeout    time.Duration // of one verb
	LogLevel   string        // "debug" prints one line a verb on standard error
	DNS        types.DNS     // handed to the runtime as it stands

	Device         string      // "memif", or a kernel device
	Memif          MemifConfig // of a memif
	Capabilities   []string    // those of the plugin's that a runtime may use
	DeviceInfoFile string      // where to tell of the memif; empty = nowhere

	PrevResult json.RawMessage      // what ADD returned, on CHECK and DEL
	Valid      []types.GCAttachment // what GC keeps
}

func defaultConfig() Config {
	return Config{CNIVersion: "0.1.0", Socket: DefaultSocket, Timeout: time.Minute}
}

// ParseConfig decodes a network configuration strictly: what is unknown, misspelt or out
// of range is an error that begins with the field's path.
func ParseConfig(data []byte) (Config, error) {
	c := defaultConfig()
	all, err := members("", data)
	if err != nil {
		return Config{}, err
	}
	known := fields()
	for _, m := range all {
		read, ok := known[m.Key]
		switch {
		case ok:
			if err := read(&c, m.Key, m.Raw); err != nil {
				return Config{}, err
			}
		case strings.HasPrefix(m.Key, "cni.dev/"): // the specification's name space for runtimes
		default:
			return Config{}, invalid(m.Key, "no such field; known are %s", strings.Join(knownFields(known), ", "))
		}
	}
	return c, c.complete()
}

// ParseForRemoval decodes what DEL and GC need and overlooks the rest: a configuration
// that went bad after pods were made must not keep them from being taken down. The file
// that tells of a memif is such a need; a runtimeConfig that is bad otherwise is not.
func ParseForRemoval(data []byte) (Config, error) {
	c := defaultConfig()
	all, err := members("", data)
	if err != nil {
		return Config{}, err
	}
	known := fields()
	for _, m := range all {
		switch m.Key {
		case "cniVersion", "name", "type", "socket", "timeout", "device", "cni.dev/valid-attachments":
			if err := known[m.Key](&c, m.Key, m.Raw); err != nil {
				return Config{}, err
			}
		case "runtimeConfig":
			var files struct{ CNIDeviceInfoFile string }
			if json.Unmarshal(m.Raw, &files) == nil && filepath.IsAbs(files.CNIDeviceInfoFile) {
				c.DeviceInfoFile = files.CNIDeviceInfoFile
			}
		}
	}
	return c, nil
}

// complete checks what no single field can.
func (c *Config) complete() error {
	if c.Name == "" {
		return invalid("name", "is missing")
	}
	if c.Type == "" {
		return invalid("type", "is missing; want millrace")
	}
	return c.checkMemif()
}

type fieldReader func(c *Config, path string, raw json.RawMessage) error

// fields is every key that a configuration may hold.
func fields() map[string]fieldReader {
	return map[string]fieldReader{
		"cniVersion":    func(c *Config, path string, raw json.RawMessage) error { return decode(path, raw, &c.CNIVersion) },
		"name":          func(c *Config, path string, raw json.RawMessage) error { return decode(path, raw, &c.Name) },
		"type":          readType,
		"socket":        readSocket,
		"mtu":           readMTU,
		"timeout":       readTimeout,
		"logLevel":      readLogLevel,
		"dns":           readDNS,
		"ipam":          readIPAM,
		"ipMasq":        readIPMasq,
		"capabilities":  readCapabilities,
		"runtimeConfig": readRuntimeConfig,
		"args":          readArgs,
		"device":        readDevice,
		"memif":         func(c *Config, path string, raw json.RawMessage) error { c.Memif.Network = raw; return nil },
		"prevResult":    func(c *Config, path string, raw json.RawMessage) error { c.PrevResult = raw; return nil },
		"disableCheck":  readBool,
		"disableGC":     readBool,

		"cni.dev/valid-attachments": func(c *Config, path string, raw json.RawMessage) error { return decode(path, raw, &c.Valid) },
	}
}

func knownFields(known map[string]fieldReader) []string {
	var names []string
	for name := range known {
		if !strings.HasPrefix(name, "cni.dev/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func readType(c *Config, path string, raw json.RawMessage) error {
	if err := decode(path, raw, &c.Type); err != nil {
		return err
	}
	if c.Type != "millrace" && c.Type != "millrace-cni" {
		return invalid(path, "%q is another plugin; want millrace or millrace-cni", c.Type)
	}
	return nil
}

func readSocket(c *Config, path string, raw json.RawMessage) error {
	if err := decode(path, raw, &c.Socket); err != nil {
		return err
	}
	switch {
	case !filepath.IsAbs(c.Socket):
		return invalid(path, "%q: want an absolute path", c.Socket)
	case len(c.Socket) > 107: // sockaddr_un holds 108 bytes with the final zero
		return invalid(path, "%d bytes: a unix socket's path holds 107", len(c.Socket))
	}
	return nil
}

func readMTU(c *Config, path string, raw json.RawMessage) error {
	var mtu int64
	if err := decode(path, raw, &mtu); err != nil {
		return err
	}
	if mtu != 0 && (mtu < 1280 || mtu > 9216) {
		return invalid(path, "%d: want 1280 to 9216, or 0 for the node's default", mtu)
	}
	c.MTU = uint32(mtu)
	return nil
}

func readTimeout(c *Config, path string, raw json.RawMessage) error {
	var text string
	if err := decode(path, raw, &text); err != nil {
		return err
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return invalid(path, "%q: want a duration such as 30s", text)
	}
	if d < time.Second || d > 10*time.Minute {
		return invalid(path, "%s: want 1s to 10m", text)
	}
	c.Timeout = d
	return nil
}

func readLogLevel(c *Config, path string, raw json.RawMessage) error {
	if err := decode(path, raw, &c.LogLevel); err != nil {
		return err
	}
	if !slices.Contains([]string{"", "debug", "info", "warn", "error"}, c.LogLevel) {
		return invalid(path, "%q: want debug, info, warn or error", c.LogLevel)
	}
	return nil
}

func readDNS(c *Config, path string, raw json.RawMessage) error {
	all, err := members(path, raw)
	if err != nil {
		return err
	}
	for _, m := range all {
		at := join(path, m.Key)
		switch m.Key {
		case "nameservers":
			err = decode(at, m.Raw, &c.DNS.Nameservers)
		case "domain":
			err = decode(at, m.Raw, &c.DNS.Domain)
		case "search":
			err = decode(at, m.Raw, &c.DNS.Search)
		case "options":
			err = decode(at, m.Raw, &c.DNS.Options)
		default:
			err = invalid(at, "no such field; known are domain, nameservers, options, search")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readIPAM allows the empty object that some tools always write.
func readIPAM(_ *Config, path string, raw json.RawMessage) error {
	all, err := members(path, raw)
	if err == nil && len(all) > 0 {
		err = unsupported(path, "%s: addresses come from the node's pod ranges; remove it", raw)
	}
	return err
}

func readIPMasq(_ *Config, path string, raw json.RawMessage) error {
	var on bool
	if err := decode(path, raw, &on); err != nil {
		return err
	}
	if on {
		return unsupported(path, "true: the plugin does not masquerade; remove it")
	}
	return nil
}

func readBool(_ *Config, path string, raw json.RawMessage) error {
	var b bool
	return decode(path, raw, &b)
}
