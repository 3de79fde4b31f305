package hostnet

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/dataplane"
)

// perMessage is how many elements go in one netlink message, whose length has 16 bits. It is
// even, so that both ends of a range stand in one.
const perMessage = 500

// dial connects to nftables. A transaction is one send, so that the socket has to hold it.
func dial() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		const enough = 32 << 20 // bytes; 100,000 ports take about 10 MB
		return errors.Join(c.SetWriteBuffer(enough), c.SetReadBuffer(enough))
	}))
	if err != nil {
		return nil, hint(err)
	}
	return c, nil
}

// hint says what a person can do about the kernel's refusal.
func hint(err error) error {
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (nftables needs CAP_NET_ADMIN)", err)
	case errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w (the kernel lacks nftables with NAT: modules nf_tables, nft_chain_nat, nft_masq and nft_nat; Linux 5.2 or later)", err)
	}
	return err
}

func ourTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
}

// writeTable puts the table in the place of the one that is there, in one transaction: no
// packet meets anything between. Connections that are translated go on as they are.
func writeTable(n dataplane.HostNAT) error {
	c, err := dial()
	if err != nil {
		return fmt.Errorf("write nftables table %s: %w", tableName, err)
	}
	t := ourTable()
	c.AddTable(t) // to delete what is not there would be an error
	c.DelTable(t)
	c.AddTable(t)
	ids := map[string]uint32{}
	for _, f := range families() {
		is4 := f.protocol == unix.NFPROTO_IPV4
		for _, set := range f.sets(t) {
			if err := c.AddSet(set, nil); err != nil {
				return fmt.Errorf("write nftables set %s: %w", set.Name, err)
			}
			ids[set.Name] = set.ID
			list := map[string][]nftables.SetElement{
				f.pods: intervals(n.Masquerade, is4), f.keep: intervals(n.Keep, is4), f.ports: portElements(n.Ports, is4), f.arriving: portElements(n.Arriving, is4),
			}[set.Name]
			for part := range slices.Chunk(list, perMessage) {
				if err := c.SetAddElements(set, part); err != nil {
					return fmt.Errorf("write nftables set %s: %w", set.Name, err)
				}
			}
		}
	}
	for _, ch := range chains(t) {
		c.AddChain(&ch.Chain)
		for _, rule := range ch.rules {
			for _, e := range rule {
				if l, ok := e.(*expr.Lookup); ok {
					l.SetID = ids[l.SetName]
				}
			}
			c.AddRule(&nftables.Rule{Table: t, Chain: &ch.Chain, Exprs: rule})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("write nftables table %s: %w", tableName, hint(err))
	}
	return nil
}

// deleteTable is content when there is none, or no nftables.
func deleteTable() error {
	c, err := dial()
	if err != nil {
		return fmt.Errorf("delete nftables table %s: %w", tableName, err)
	}
	there, err := tableIsThere(c)
	if err != nil && lacking(err) {
		return nil
	}
	if err == nil && there {
		c.DelTable(ourTable())
		if err = c.Flush(); errors.Is(err, unix.ENOENT) {
			return nil // somebody else was faster
		}
	}
	if err != nil {
		return fmt.Errorf("delete nftables table %s: %w", tableName, hint(err))
	}
	return nil
}

// lacking tells the errors of a kernel without nftables.
func lacking(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EINVAL)
}

func tableIsThere(c *nftables.Conn) (bool, error) {
	list, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	return slices.ContainsFunc(list, func(t *nftables.Table) bool { return t.Name == tableName }), err
}

// readTable returns what the table says. One that is not as we write it comes back empty, so
// that it differs from every wish.
func readTable() (n dataplane.HostNAT, found bool, err error) {
	c, err := dial()
	if err == nil {
		found, err = tableIsThere(c)
	}
	if err != nil || !found {
		return n, false, err
	}
	whole, err := isWhole(c)
	if err != nil || !whole {
		return n, true, err
	}
	for _, f := range families() {
		for _, set := range f.sets(ourTable()) {
			elements, err := c.GetSetElements(set)
			if err == nil {
				err = take(&n, f, set.Name, elements)
			}
			if err != nil {
				return dataplane.HostNAT{}, true, nil
			}
		}
	}
	slices.SortFunc(n.Ports, dataplane.HostPort.Compare)
	slices.SortFunc(n.Arriving, dataplane.HostPort.Compare)
	return n, true, nil
}

// take adds the elements of a set.
func take(n *dataplane.HostNAT, f family, set string, elements []nftables.SetElement) error {
	if set == f.ports || set == f.arriving {
		list, err := ports(elements)
		if set == f.ports {
			n.Ports = append(n.Ports, list...)
		} else {
			n.Arriving = append(n.Arriving, list...)
		}
		return err
	}
	list, err := prefixes(elements)
	if set == f.pods {
		n.Masquerade = append(n.Masquerade, list...)
	} else {
		n.Keep = append(n.Keep, list...)
	}
	return err
}

// isWhole compares chains and rules with those that we write.
func isWhole(c *nftables.Conn) (bool, error) {
	list, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	have := map[string]*nftables.Chain{}
	for _, ch := range list {
		if ch.Table.Name == tableName {
			have[ch.Name] = ch
		}
	}
	want := chains(ourTable())
	if len(have) != len(want) {
		return false, nil
	}
	for _, w := range want {
		h := have[w.Name]
		if h == nil || h.Type != w.Type || !equal(h.Hooknum, w.Hooknum) || !equal(h.Priority, w.Priority) || !equal(h.Policy, w.Policy) {
			return false, nil
		}
		rules, err := c.GetRules(ourTable(), h)
		if err != nil || len(rules) != len(w.rules) {
			return false, err
		}
		for i, r := range rules {
			if !slices.EqualFunc(r.Exprs, w.rules[i], sameExpr) {
				return false, nil
			}
		}
	}
	return true, nil
}

func equal[T comparable](have, want *T) bool { return have != nil && *have == *want }

// sameExpr leaves out what the kernel counts, and numbers that hold for a transaction only.
func sameExpr(a, b expr.Any) bool {
	if _, counts := a.(*expr.Counter); counts {
		_, both := b.(*expr.Counter)
		return both
	}
	if l, ok := a.(*expr.Lookup); ok {
		one := *l
		one.SetID = 0
		a = &one
	}
	return reflect.DeepEqual(a, b)
}
