package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/millrace/millrace/cni/cnipb"
)

// deviceInfo is what the Network Plumbing Working Group's Device Information Specification
// (version 1.1.0) has a plugin tell of a memif. The role is the pod's.
type deviceInfo struct {
	Type    string     `json:"type"`
	Version string     `json:"version"`
	Memif   *memifInfo `json:"memif"`
}

type memifInfo struct {
	Role string `json:"role"`
	Path string `json:"path"`
	Mode string `json:"mode"`
}

func readDeviceInfoFile(c *Config, path string, raw json.RawMessage) error {
	if err := decode(path, raw, &c.DeviceInfoFile); err != nil {
		return err
	}
	if !filepath.IsAbs(c.DeviceInfoFile) {
		return invalid(path, "%q: want an absolute path", c.DeviceInfoFile)
	}
	return nil
}

// writeDeviceInfo leaves the file whole or not at all. One that an earlier ADD of the
// same interface wrote is replaced.
func (c *Config) writeDeviceInfo(m *cnipb.Memif, socket string) error {
	if c.DeviceInfoFile == "" || m == nil {
		return nil
	}
	data, err := json.Marshal(deviceInfo{Type: "memif", Version: "1.1.0", Memif: &memifInfo{Role: "slave", Path: socket, Mode: m.Mode}})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(c.DeviceInfoFile), 0o755)
	}
	if err == nil {
		err = replaceFile(c.DeviceInfoFile, data)
	}
	if err != nil {
		return Errorf(types.ErrIOFailure, "write %s of runtimeConfig: %v", capabilityDeviceInfo, err)
	}
	return nil
}

func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".millrace-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o444)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// removeDeviceInfo is done when there is none.
func (c *Config) removeDeviceInfo() error {
	if c.DeviceInfoFile == "" || c.Device != DeviceMemif {
		return nil
	}
	if err := os.Remove(c.DeviceInfoFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Errorf(types.ErrIOFailure, "%v", fmt.Errorf("remove %s of runtimeConfig: %w", capabilityDeviceInfo, err))
	}
	return nil
}
