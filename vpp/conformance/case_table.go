package conformance

import (
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
)

func tableCases() []Case {
	return []Case{
		{"table-add-del", tables},
		{"table-interface", tableInterface},
		{"table-life", tableLife},
		{"table-replace", tableReplace},
	}
}

func (s *Session) table(add bool, id uint32, six bool, name string) {
	s.T.Helper()
	s.Call(&ip.IPTableAddDelV2{IsAdd: add, CreateMfib: true, Table: ip.IPTable{TableID: id, IsIP6: six, Name: name}})
}

func tables(s *Session) {
	s.Dump(&ip.IPTableDump{})
	s.table(true, 7, false, "seven")
	s.table(true, 7, true, "")
	s.Note("again, with another name")
	s.table(true, 7, false, "seven")
	s.table(true, 7, false, "other")
	s.Dump(&ip.IPTableDump{})
	s.Note("table 0")
	s.table(true, 0, false, "zero")
	s.table(false, 0, false, "")
	s.Note("one deletion is enough, a second finds nothing")
	s.table(false, 7, false, "")
	s.table(false, 7, false, "")
	s.table(false, 99, false, "")
	s.Dump(&ip.IPTableDump{})
	s.Note("the first message still works")
	s.Call(&ip.IPTableAddDel{IsAdd: true, Table: ip.IPTable{TableID: 8}})
	s.Call(&ip.IPTableAddDel{Table: ip.IPTable{TableID: 8}})
	s.Note("the machine chooses an id, and takes a given one")
	s.Call(&ip.IPTableAllocate{Table: ip.IPTable{TableID: 12, Name: "given"}})
	s.Dump(&ip.IPTableDump{})
}

func tableInterface(s *Session) {
	one := s.loopback()
	s.Note("a missing table")
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: one, VrfID: 7})
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: one, IsIPv6: true, VrfID: 7})
	s.table(true, 7, false, "")
	s.table(true, 7, true, "")
	s.table(true, 8, false, "")
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: one, VrfID: 7})
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: one, IsIPv6: true, VrfID: 7})
	s.Call(&interfaces.SwInterfaceGetTable{SwIfIndex: one})
	s.Call(&interfaces.SwInterfaceGetTable{SwIfIndex: one, IsIPv6: true})
	s.Note("with an address: refused to another table, and to the same")
	s.addAddress(one, "10.0.0.1/24")
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: one, VrfID: 8})
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: one, VrfID: 7})
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: one, IsIPv6: true})
	s.addAddress(one, "fd00::1/64")
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: one, IsIPv6: true, VrfID: 7})
	s.routes(7, false)
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: missing, VrfID: 7})
}

func tableLife(s *Session) {
	s.table(true, 7, false, "")
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: inTable(7, route("10.0.0.0/8", drop()))})
	s.Note("a table with a route outlives its deletion")
	s.table(false, 7, false, "")
	s.Dump(&ip.IPTableDump{})
	s.routes(7, false)
	s.Call(&ip.IPRouteAddDel{Route: inTable(7, route("10.0.0.0/8"))})
	s.Dump(&ip.IPTableDump{})
	s.Note("a table with an interface")
	s.table(true, 8, false, "")
	one := s.loopback()
	s.Must(&interfaces.SwInterfaceSetTable{SwIfIndex: one, VrfID: 8})
	s.table(false, 8, false, "")
	s.Dump(&ip.IPTableDump{})
	s.Must(&interfaces.DeleteLoopback{SwIfIndex: one})
	s.Dump(&ip.IPTableDump{})
	s.Note("flush takes the routes of the API and leaves the rest")
	s.table(true, 9, false, "")
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: inTable(9, route("10.0.0.0/8", drop()))})
	s.Call(&ip.IPTableFlush{Table: ip.IPTable{TableID: 9}})
	s.routes(9, false)
	s.Call(&ip.IPTableFlush{Table: ip.IPTable{TableID: 99}})
}

func tableReplace(s *Session) {
	s.table(true, 7, false, "")
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: inTable(7, route("10.0.0.0/8", drop()))})
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: inTable(7, route("11.0.0.0/8", drop()))})
	s.Call(&ip.IPTableReplaceBegin{Table: ip.IPTable{TableID: 7}})
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: inTable(7, route("11.0.0.0/8", drop()))})
	s.Call(&ip.IPTableReplaceEnd{Table: ip.IPTable{TableID: 7}})
	s.routes(7, false)
	s.Call(&ip.IPTableReplaceBegin{Table: ip.IPTable{TableID: 99}})
	s.Call(&ip.IPTableReplaceEnd{Table: ip.IPTable{TableID: 99}})
}
