package conformance

import (
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/tapv2"
)

// tapCases hold calls that VPP refuses before it opens /dev/vhost-net, which few test
// machines have. That taps work is shown on the engine by TestIntegrationEngineTaps.
func tapCases() []Case {
	return []Case{{"tap-wrong-calls", tapWrongCalls}}
}

func tapWrongCalls(s *Session) {
	s.loopback()
	s.Dump(&tapv2.SwInterfaceTapV2Dump{SwIfIndex: none})
	s.Note("deletion of what is no tap")
	for _, index := range []interfaceIndex{0, 1, missing, none} {
		s.Call(&tapv2.TapDeleteV2{SwIfIndex: index})
	}
	s.Note("a namespace that is not there")
	s.Call(&tapv2.TapCreateV3{ID: 1, NumRxQueues: 1, NumTxQueues: 1, HostNamespaceSet: true, HostNamespace: "/nonexistent"})
	s.Call(&tapv2.TapCreateV3{ID: 1, NumRxQueues: 1, NumTxQueues: 1, HostNamespaceSet: true, HostNamespace: "pid:999999999"})
	s.Note("the attempts left nothing")
	s.Dump(&tapv2.SwInterfaceTapV2Dump{SwIfIndex: none})
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: none})
}
