package cni

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/millrace/millrace/cni/cnipb"
	"github.com/millrace/millrace/internal/memifspec"
)

// DeviceMemif is the value of the field "device" that makes an attachment a memif instead
// of a kernel device.
const DeviceMemif = "memif"

// MemifConfig is what a configuration says of its memif, each a JSON object with the fields
// of an element of the millrace.io/memif annotation. Later ones win, field by field.
type MemifConfig struct {
	Network json.RawMessage // memif: for all pods of the network
	Args    json.RawMessage // args.cni.memif: of one pod, for example by Multus' cni-args
	Runtime json.RawMessage // runtimeConfig.memif: of one pod, by the capability "memif"
}

// The capabilities of an attachment that is a memif.
const (
	capabilityMemif      = "memif"
	capabilityDeviceInfo = "CNIDeviceInfoFile"
)

// memif returns what the agent is asked for; nil for a kernel device.
func (c *Config) memif(ifName string) (*cnipb.Memif, error) {
	if c.Device != DeviceMemif {
		return nil, nil
	}
	s := memifspec.Default()
	s.Name = ifName
	for _, layer := range []struct {
		path string
		raw  json.RawMessage
	}{{"memif", c.Memif.Network}, {"args.cni.memif", c.Memif.Args}, {"runtimeConfig.memif", c.Memif.Runtime}} {
		if layer.raw == nil {
			continue
		}
		var err error
		if s, err = s.With(layer.path, layer.raw); err == nil {
			// Each is checked where it stands, so that the error names the right one.
			err = s.Check(layer.path)
		}
		if err != nil {
			return nil, Errorf(types.ErrInvalidNetworkConfig, "%v", err)
		}
	}
	if err := s.Check("memif"); err != nil {
		return nil, Errorf(types.ErrInvalidNetworkConfig, "%v (it is CNI_IFNAME unless the field says otherwise)", err)
	}
	return &cnipb.Memif{
		Name: s.Name, Mode: s.Mode.String(), RxQueues: uint32(s.RxQueues), TxQueues: uint32(s.TxQueues),
		RingSize: s.RingSize, BufferSize: uint32(s.BufferSize), Secret: s.Secret.String(),
	}, nil
}

// checkMemif checks the parts of a configuration that speak of a memif against each other.
func (c *Config) checkMemif() error {
	if c.Device == DeviceMemif {
		const anyName = "net1"
		_, err := c.memif(anyName)
		return err
	}
	if len(c.Capabilities) > 0 {
		return unsupported("capabilities."+c.Capabilities[0], `true: the plugin has it for networks with "device": "memif" only`)
	}
	const why = `belongs to a network with "device": "memif"`
	switch {
	case c.Memif.Network != nil:
		return unsupported("memif", why)
	case c.Memif.Args != nil:
		return unsupported("args.cni.memif", why)
	case c.Memif.Runtime != nil:
		return unsupported("runtimeConfig.memif", why)
	case c.DeviceInfoFile != "":
		return unsupported("runtimeConfig."+capabilityDeviceInfo, why)
	}
	return nil
}

func readDevice(c *Config, path string, raw json.RawMessage) error {
	if err := decode(path, raw, &c.Device); err != nil {
		return err
	}
	if !slices.Contains([]string{"", "kernel", DeviceMemif}, c.Device) {
		return invalid(path, "%q: want kernel or memif", c.Device)
	}
	return nil
}

// readCapabilities refuses what a runtime would then take for granted.
func readCapabilities(c *Config, path string, raw json.RawMessage) error {
	all, err := members(path, raw)
	if err != nil {
		return err
	}
	for _, m := range all {
		var on bool
		if err := decode(join(path, m.Key), m.Raw, &on); err != nil {
			return err
		}
		switch {
		case on && (m.Key == capabilityMemif || m.Key == capabilityDeviceInfo):
			c.Capabilities = append(c.Capabilities, m.Key)
		case on:
			return unsupported(join(path, m.Key), "true: the plugin does not have it; name a plugin that has after it in the list")
		}
	}
	return nil
}

func readRuntimeConfig(c *Config, path string, raw json.RawMessage) error {
	all, err := members(path, raw)
	if err != nil {
		return err
	}
	for _, m := range all {
		switch m.Key {
		case capabilityMemif:
			c.Memif.Runtime = m.Raw
		case capabilityDeviceInfo:
			err = readDeviceInfoFile(c, join(path, m.Key), m.Raw)
		default:
			err = unsupported(join(path, m.Key), "%s: the plugin does not have this capability", m.Raw)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readArgs takes what is ours out of the arguments; others are other plugins'.
func readArgs(c *Config, path string, raw json.RawMessage) error {
	all, err := members(path, raw)
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.Key != "cni" {
			continue
		}
		inner, err := members(join(path, m.Key), m.Raw)
		if err != nil {
			return err
		}
		for _, m := range inner {
			if m.Key == "memif" {
				c.Memif.Args = m.Raw
			}
		}
	}
	return nil
}

// socketPath is where a result says that an interface of the container listens, "" for
// one that is no memif.
func socketPath(reply *cnipb.AddReply, ifName string) (string, error) {
	for _, i := range reply.GetInterfaces() {
		if i.GetName() == ifName && i.GetSandbox() != "" {
			return i.GetSocketPath(), nil
		}
	}
	return "", fmt.Errorf("read agent's answer: it lacks %s", ifName)
}
