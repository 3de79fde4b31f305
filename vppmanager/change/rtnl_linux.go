package change

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ask sends one request to rtnetlink and returns the bodies of the answers of one type.
func ask(kind, flags int, body []byte, answer uint16) ([][]byte, error) {
	r := nl.NewNetlinkRequest(kind, flags)
	r.AddRawData(body)
	return r.Execute(unix.NETLINK_ROUTE, answer)
}

// dump lists all objects of a kind. A list that changed meanwhile is asked for again.
func dump(kind int, body []byte, answer uint16) ([][]byte, error) {
	for tries := 0; ; tries++ {
		list, err := ask(kind, unix.NLM_F_DUMP, body, answer)
		if !errors.Is(err, nl.ErrDumpInterrupted) || tries == 100 {
			return list, err
		}
	}
}

// alter changes something by rtnetlink.
func (h Host) alter(kind, flags int, body []byte) error {
	_, err := ask(kind, flags|unix.NLM_F_ACK, body, 0)
	h.reached("rtnetlink")
	return err
}

// Lengths of the fixed headers, and offsets in them (linux/if_link.h, if_addr.h,
// rtnetlink.h, fib_rules.h, neighbour.h, pkt_sched.h).
const (
	infoLen  = 16 // struct ifinfomsg: family, type, index at 4, flags at 8, change at 12
	addrLen  = 8  // struct ifaddrmsg: family, prefix length, flags, scope, index at 4
	routeLen = 12 // struct rtmsg: family, destination and source length, tos, table, protocol, scope, type, flags at 8
	ruleLen  = 12 // struct fib_rule_hdr
	neighLen = 12 // struct ndmsg: family, index at 4, state at 8, flags, type
	qdiscLen = 20 // struct tcmsg: family, index at 4, handle at 8, parent at 12, info at 16
	nhLen    = 8  // struct nhmsg: family, scope, protocol, flags at 4
)

// link is a link of the kernel at this moment.
type link struct {
	message
}

func (l link) index() int    { return int(int32(binary.NativeEndian.Uint32(l.head[4:]))) }
func (l link) flags() uint32 { return binary.NativeEndian.Uint32(l.head[8:]) }
func (l link) name() string  { return l.text(unix.IFLA_IFNAME) }
func (l link) up() bool      { return l.flags()&unix.IFF_UP != 0 }

// virtual is the kind of a link that was made by software, as `ip -d link` shows it;
// "" = a device, or something the kernel says nothing of.
func (l link) virtual() string {
	info, err := parseAttrs(l.find(unix.IFLA_LINKINFO))
	if err != nil {
		return ""
	}
	return message{attrs: info}.text(unix.IFLA_INFO_KIND)
}

func infoHead(index int, flags, change uint32) []byte {
	head := make([]byte, infoLen)
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	binary.NativeEndian.PutUint32(head[8:], flags)
	binary.NativeEndian.PutUint32(head[12:], change)
	return head
}

// errNoLink is a link that there is not.
var errNoLink = errors.New("there is no link")

func linkByName(name string) (link, error) {
	l, err := oneLink(appendAttrs(infoHead(0, 0, 0), attr{unix.IFLA_IFNAME, cstring(name)}))
	if errors.Is(err, errNoLink) {
		err = fmt.Errorf("%w %s", err, name)
	}
	return l, err
}

func linkByIndex(index int) (link, error) {
	l, err := oneLink(infoHead(index, 0, 0))
	if errors.Is(err, errNoLink) {
		err = fmt.Errorf("%w of index %d", err, index)
	}
	return l, err
}

func oneLink(body []byte) (link, error) {
	list, err := ask(unix.RTM_GETLINK, 0, body, unix.RTM_NEWLINK)
	if errors.Is(err, unix.ENODEV) {
		return link{}, errNoLink
	}
	if err == nil && len(list) != 1 {
		err = fmt.Errorf("%d answers for one link", len(list))
	}
	if err != nil {
		return link{}, fmt.Errorf("read link: %w", err)
	}
	m, err := parseMessage(list[0], infoLen)
	return link{m}, err
}

// setLink changes attributes and flags of a link.
func (h Host) setLink(index int, flags, change uint32, attrs ...attr) error {
	return h.alter(unix.RTM_NEWLINK, 0, appendAttrs(infoHead(index, flags, change), attrs...))
}

func (h Host) setUp(index int) error   { return h.setLink(index, unix.IFF_UP, unix.IFF_UP) }
func (h Host) setDown(index int) error { return h.setLink(index, 0, unix.IFF_UP) }
