package program

import (
	"errors"
	"strings"
	"testing"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/fib"
	interfaces "go.fd.io/govpp/binapi/interface"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vpp/vpptest"
)

// TestApplyHoldsBackOnlyWhatDepends runs plans on a machine that refuses some steps.
func TestApplyHoldsBackOnlyWhatDepends(t *testing.T) {
	loop := func(name string) dataplane.Interface {
		return dataplane.Interface{Name: name, Device: dataplane.Loopback{}, MTU: 1500}
	}
	create := func(o dataplane.Object) dataplane.Step { return dataplane.Step{Verb: dataplane.Create, Object: o} }
	remove := func(o dataplane.Object) dataplane.Step { return dataplane.Step{Verb: dataplane.Delete, Object: o} }
	unknown := dataplane.Unnumbered{Interface: "a", Lender: "nowhere"}
	tests := []struct {
		name      string
		plan      dataplane.Plan
		postponed map[dataplane.Key]error
		want      string // verb, object and fate of each step
	}{
		{"all well", dataplane.Plan{create(dataplane.Up{Interface: "a"}), create(dataplane.Up{Interface: "b"})}, nil,
			"create up a: done, create up b: done"},
		{"one refused", dataplane.Plan{create(dataplane.Up{Interface: "a"}), create(dataplane.Up{Interface: "refused"})}, nil,
			"create up a: done, create up refused: failed"},
		{"no such lender", dataplane.Plan{create(unknown), create(dataplane.Up{Interface: "b"})}, nil,
			"create unnumbered a: failed, create up b: done"},
		{"postponed", dataplane.Plan{create(loop("a")), create(dataplane.Up{Interface: "a"}), create(dataplane.Up{Interface: "b"})},
			map[dataplane.Key]error{dataplane.InterfaceKey("a"): errors.New("later")},
			"create interface a: blocked, create up a: blocked, create up b: done"},
		{"what stays holds its ground", dataplane.Plan{remove(dataplane.Up{Interface: "refused"}), remove(loop("refused"))}, nil,
			"delete up refused: failed, delete interface refused: blocked"},
		{"not made anew while the old one stays", dataplane.Plan{remove(dataplane.Up{Interface: "refused"}), create(dataplane.Up{Interface: "refused"})}, nil,
			"delete up refused: failed, create up refused: blocked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := refuser(t)
			var got []string
			p.Apply(t.Context(), tt.plan, tt.postponed, func(s dataplane.Step, err error) {
				fate := "done"
				switch {
				case errors.Is(err, ErrBlocked):
					fate = "blocked"
				case err != nil:
					fate = "failed"
				}
				got = append(got, s.Verb.String()+" "+s.Object.Key().String()+": "+fate)
			})
			if text := strings.Join(got, ", "); text != tt.want {
				t.Errorf("got  %s\nwant %s", text, tt.want)
			}
		})
	}
}

// refuser is a Program on a machine with the interfaces a, b and refused; the last cannot
// be set up or down.
func refuser(t *testing.T) *Program {
	t.Helper()
	server := vpptest.New(t)
	const refused = 3
	vpptest.Handle(server, func(peer *vpptest.Peer, context uint32, _ *fib.FibSourceDump) {
		peer.Reply(context, &fib.FibSourceDetails{Src: fib.FibSource{Name: Agent("").Source, ID: 23}})
	}, &fib.FibSourceDetails{})
	vpptest.Handle(server, func(peer *vpptest.Peer, context uint32, req *interfaces.SwInterfaceSetFlags) {
		reply := &interfaces.SwInterfaceSetFlagsReply{}
		if req.SwIfIndex == refused {
			reply.Retval = int32(api.INVALID_VALUE)
		}
		peer.Reply(context, reply)
	}, &interfaces.SwInterfaceSetFlagsReply{})
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: server.Socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	p := program(t, conn)
	for i, name := range []string{"a", "b", "refused"} {
		p.ports[name] = port{index: uint32(i + 1), driver: driverLoopback}
	}
	return p
}

func TestAliasText(t *testing.T) {
	for _, a := range []alias{{"worker-1", "eth0", "/run/netns/a"}, {"n", "net1", "/run/netns/with a space"}, {"n", "millrace0", ""}} {
		got, ok := parseAlias(a.String())
		if !ok || got != a {
			t.Errorf("%q gives %+v, want %+v", a, got, a)
		}
	}
	for _, foreign := range []string{"", "uplink", "millrace eth0", "someone else's link here"} {
		if a, ok := parseAlias(foreign); ok {
			t.Errorf("%q is taken for ours: %+v", foreign, a)
		}
	}
}
