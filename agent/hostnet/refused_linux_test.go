package hostnet

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/dataplane"
)

// TestIntegrationWithoutPrivilege: who may not gets an error that says what is missing, and
// sees nothing.
func TestIntegrationWithoutPrivilege(t *testing.T) {
	ns := needNFT(t)
	nat := parse(t, someNAT)
	ns.Run(t, func() error { // on a thread that ends with it
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			return err
		}
		data[unix.CAP_NET_ADMIN/32].Effective &^= 1 << (unix.CAP_NET_ADMIN % 32)
		if err := unix.Capset(&header, &data[0]); err != nil {
			return err
		}
		h, err := Open(t.TempDir())
		if err != nil {
			return err
		}
		err = h.carry(dataplane.Step{Verb: dataplane.Create, Object: nat})
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") || !strings.Contains(err.Error(), "millrace") {
			return fmt.Errorf("error %w, want one that names the table and CAP_NET_ADMIN", err)
		}
		var s dataplane.State
		if h.Observe(&s); s.Len() > 0 {
			return fmt.Errorf("observed:\n%s", s)
		}
		return nil
	})
	if got := written(t, ns); got != "" {
		t.Errorf("half applied: %s", got)
	}
}

// TestMissingNFTables: the errors by which kernels without it are known.
func TestMissingNFTables(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.ENOENT} {
		if err := hint(fmt.Errorf("dial: %w", errno)); !errors.Is(err, errno) || !strings.Contains(err.Error(), "nft_chain_nat") {
			t.Errorf("%v: want the modules named", err)
		}
	}
	if err := hint(unix.EBUSY); err != unix.EBUSY {
		t.Errorf("%v: want it as it is", err)
	}
}
