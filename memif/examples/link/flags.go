// Package link owns the flags by which the examples of package memif are told what to attach
// to, so that all have the same. It does nothing else, least of all what a network function
// is written for: that stands in each example whole.
package link

import (
	"cmp"
	"flag"
	"log"
	"strconv"

	"github.com/millrace/millrace/memif"
)

// Flags defines the flags of one link, with names that end in suffix, and returns what they
// will say once Parse has been called. Given a mode, there is no flag for it. Changes
// of the link go to the log, which gets no dates.
func Flags(suffix string, mode ...memif.Mode) (*memif.SocketConfig, *memif.Config) {
	log.SetFlags(0)
	at := &memif.SocketConfig{}
	config := &memif.Config{OnChange: func(s memif.Status) { log.Printf("link%s %v", suffix, s) }}
	flag.StringVar(&at.Address, "socket"+suffix, "@millrace/memif"+cmp.Or(suffix, "0"), "`address`: a path, or @name for an abstract socket")
	flag.StringVar(&at.Netns, "netns"+suffix, "", "`path` of the network namespace that an abstract socket is in")
	flag.TextVar(&at.Role, "role"+suffix, memif.Client, "`client` or server")
	if len(mode) > 0 {
		config.Mode = mode[0]
	} else {
		flag.TextVar(&config.Mode, "mode"+suffix, memif.Ethernet, "`ethernet` or ip")
	}
	flag.TextVar(&config.RxMode, "rx-mode"+suffix, memif.Adaptive, "`adaptive`, interrupt or polling")
	flag.StringVar(&config.Secret, "secret"+suffix, "", "`text` that the server asks for")
	flag.Func("id"+suffix, "`number` of the interface on the socket (default 0)", func(s string) error {
		id, err := strconv.ParseUint(s, 0, 32)
		config.ID = uint32(id)
		return err
	})
	flag.Func("queues"+suffix, "`number` of queues each way (default 1)", func(s string) error {
		n, err := strconv.ParseUint(s, 0, 16)
		config.RxQueues, config.TxQueues = int(n), int(n)
		return err
	})
	return at, config
}

// Parse is flag.Parse for programs that take flags only.
func Parse() {
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("unexpected argument %q: all is said by flags, see --help", flag.Arg(0))
	}
}
