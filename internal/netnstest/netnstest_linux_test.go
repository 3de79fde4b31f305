package netnstest

import (
	"errors"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestIntegrationNamespaceLivesAsLongAsItsTest(t *testing.T) {
	var path string
	t.Run("inner", func(t *testing.T) {
		CheckLeaks(t)
		n := New(t)
		path = n.Path
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		outside := net.JoinHostPort("127.0.0.1", "0")
		var l net.Listener
		n.Run(t, func() (err error) {
			l, err = net.Listen("tcp4", outside)
			return err
		})
		defer l.Close()
		if c, err := net.Dial("tcp4", l.Addr().String()); err == nil {
			c.Close()
			t.Error("a listener of the namespace is reached from outside")
		}
		n.Run(t, func() error {
			c, err := net.Dial("tcp4", l.Addr().String())
			if err != nil {
				return err
			}
			return c.Close()
		})
	})
	if path == "" {
		t.Skip("the inner test was skipped")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func TestIntegrationVethIsUpAtBothEnds(t *testing.T) {
	CheckLeaks(t)
	a, b := New(t), New(t)
	Veth(t, a, "left", b, "right")
	for n, name := range map[*Namespace]string{a: "left", b: "right"} {
		n.Netlink(t, func(h *netlink.Handle) error {
			l, err := h.LinkByName(name)
			if err == nil && l.Attrs().Flags&net.FlagUp == 0 {
				t.Errorf("%s is down", name)
			}
			return err
		})
	}
}

func TestIntegrationNamespacesOfKilledTestsAreSwept(t *testing.T) {
	NeedRoot(t)
	// No process has a number beyond the kernel's limit of 2^22.
	left := &Namespace{Name: prefix + "99999999-00000001"}
	if err := left.make(); err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	mine, second := New(t), New(t)
	for name, want := range map[string]bool{left.Name: false, mine.Name: true, second.Name: true} {
		if _, err := os.Stat("/run/netns/" + name); (err == nil) != want {
			t.Errorf("%s exists: %v, want %v", name, err == nil, want)
		}
	}
}
