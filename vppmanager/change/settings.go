package change

import "fmt"

// settings are all that hangs on a link, as the kernel's own messages: nothing is lost
// that this package does not know. Indexes in them are those of the time of saving.
type settings struct {
	Name      string            `json:"name"`
	Index     int               `json:"index"`
	Taken     int64             `json:"taken"`            // seconds since boot, sleep included
	PCI       string            `json:"pci,omitempty"`    // the device it is a link of
	Port      int               `json:"port,omitempty"`   // of a device with several
	Parent    string            `json:"parent,omitempty"` // the link below, of a VLAN
	Master    string            `json:"master,omitempty"` // bond or bridge it is in
	Link      []byte            `json:"link"`             // RTM_NEWLINK
	Addresses [][]byte          `json:"addresses,omitempty"`
	Neighbors [][]byte          `json:"neighbors,omitempty"` // permanent and proxy ones
	Nexthops  [][]byte          `json:"nexthops,omitempty"`  // objects that routes name by number
	Routes    [][]byte          `json:"routes,omitempty"`    // of all tables, what the kernel makes of addresses left out
	Rules     [][]byte          `json:"rules,omitempty"`     // that name the link
	Qdiscs    [][]byte          `json:"qdiscs,omitempty"`    // that somebody set
	Files     map[string]string `json:"files,omitempty"`     // sysctls and attributes; * stands for the link's name
	Hardware  *hardware         `json:"hardware,omitempty"`
}

// valid says whether the messages are what they are said to be: a journal is read from a
// disk.
func (s settings) valid() error {
	if err := checkLink("link", s.Name); err != nil {
		return err
	}
	if s.PCI != "" {
		if err := checkPCI(s.PCI); err != nil {
			return err
		}
	}
	if _, err := parseMessage(s.Link, infoLen); err != nil {
		return fmt.Errorf("link %s: %w", s.Name, err)
	}
	for _, part := range []struct {
		what string
		list [][]byte
		head int
	}{
		{"address", s.Addresses, addrLen}, {"neighbour", s.Neighbors, neighLen}, {"nexthop", s.Nexthops, nhLen},
		{"route", s.Routes, routeLen}, {"rule", s.Rules, ruleLen}, {"qdisc", s.Qdiscs, qdiscLen},
	} {
		for _, body := range part.list {
			if _, err := parseMessage(body, part.head); err != nil {
				return fmt.Errorf("%s of link %s: %w", part.what, s.Name, err)
			}
		}
	}
	for name := range s.Files {
		if err := checkFile(name); err != nil {
			return err
		}
	}
	return nil
}
