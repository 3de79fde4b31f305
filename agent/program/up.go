package program

import (
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// upExchange sets the administrative state; observeInterfaces reads it.
func (p *Program) upExchange(u dataplane.Up, up bool) (vpp.Exchange, error) {
	index, err := p.index(u.Interface)
	req := &interfaces.SwInterfaceSetFlags{SwIfIndex: interface_types.InterfaceIndex(index)}
	if up {
		req.Flags = interface_types.IF_STATUS_API_FLAG_ADMIN_UP
	}
	return vpp.Exchange{Request: req, Reply: &interfaces.SwInterfaceSetFlagsReply{}}, err
}
