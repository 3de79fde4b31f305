package vpp

import (
	"maps"
	"slices"
	"strings"

	"go.fd.io/govpp/api"
)

// Supports returns those of msgs that the peer's message table lacks, as name_crc, with
// the peer's own name_crc behind it where it has another version of the message. Empty
// means that all can be used. Ask for requests; their replies come with them.
func (c *Conn) Supports(msgs ...api.Message) (missing []string) {
	for _, msg := range msgs {
		if _, ok := c.table[tableName(msg)]; ok {
			continue
		}
		text := tableName(msg)
		if other := c.otherVersion(msg.GetMessageName()); other != "" {
			text += " (it has " + other + ")"
		}
		missing = append(missing, text)
	}
	return missing
}

// Capabilities lists the peer's message table, sorted, each as name_crc.
func (c *Conn) Capabilities() []string { return slices.Sorted(maps.Keys(c.table)) }

// otherVersion finds name with whatever CRC.
func (c *Conn) otherVersion(name string) string {
	for entry := range c.table {
		if i := strings.LastIndexByte(entry, '_'); i >= 0 && entry[:i] == name {
			return entry
		}
	}
	return ""
}
