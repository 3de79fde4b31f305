package startup

import (
	"fmt"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// bondModes are the modes of kernel bonds that VPP has too (bond_api_mode in
// vnet/bonding/bond.api).
var bondModes = map[string]bool{"balance-rr": true, "active-backup": true, "balance-xor": true, "broadcast": true, "802.3ad": true}

// bondMode says why VPP cannot be such a bond; "" when it can.
func bondMode(b inventory.Bond) string {
	if !bondModes[b.Mode] {
		return fmt.Sprintf("VPP has no bonds of mode %s: choose 802.3ad or active-backup", b.Mode)
	}
	switch b.XmitHash {
	case "", "layer2", "layer2+3", "layer3+4": // VPP: l2, l23, l34
		return ""
	}
	if b.Mode == "active-backup" || b.Mode == "broadcast" || b.Mode == "balance-rr" {
		return "" // they ask for no hash
	}
	return fmt.Sprintf("VPP has no transmit hash %s: choose layer2, layer2+3 or layer3+4", b.XmitHash)
}
