package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// config is what the stand-in takes from VPP's configuration file.
type config struct {
	api, stats string   // sockets
	devices    []device // of the section dpdk, by address
}

// device is a NIC that the dataplane opens.
type device struct{ pci, name string }

var words = regexp.MustCompile(`[{}]|[^\s{}]+`)

// parseConf reads a start-up configuration as VPP's own format has it: words, and groups
// of words in braces.
func parseConf(text string) (config, error) {
	var lines []string
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, "#")
		lines = append(lines, code)
	}
	var c config
	var path []string // of the group that the word is in
	last := ""        // the word before
	for _, w := range words.FindAllString(strings.Join(lines, " "), -1) {
		switch w {
		case "{":
			path = append(path, last)
		case "}":
			if len(path) == 0 {
				return config{}, errors.New("read configuration: a } without its {")
			}
			path = path[:len(path)-1]
		default:
			c.take(strings.Join(path, " "), last, w)
		}
		last = w
	}
	return c, c.check(len(path))
}

// take keeps a word that follows a key in a group, if it is one that matters here.
func (c *config) take(group, key, word string) {
	switch {
	case group == "socksvr" && key == "socket-name":
		c.api = word
	case group == "statseg" && key == "socket-name":
		c.stats = word
	case group == "dpdk" && key == "dev" && word != "default":
		c.devices = append(c.devices, device{pci: word})
	case strings.HasPrefix(group, "dpdk ") && key == "name" && len(c.devices) > 0:
		c.devices[len(c.devices)-1].name = word
	}
}

func (c *config) check(open int) error {
	if open != 0 {
		return fmt.Errorf("read configuration: %d { without }", open)
	}
	if c.api == "" || c.stats == "" {
		return errors.New("read configuration: socksvr or statseg names no socket-name")
	}
	for _, d := range c.devices {
		if d.name == "" {
			return fmt.Errorf("read configuration: device %s has no name, and VPP's own naming is not known here", d.pci)
		}
	}
	slices.SortFunc(c.devices, func(a, b device) int { return strings.Compare(a.pci, b.pci) })
	return nil
}
