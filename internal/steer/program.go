package steer

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// Registers while the program runs: the context, the packet's begin and end, and the verdict.
const (
	regCtx     = asm.R6
	regData    = asm.R7
	regEnd     = asm.R8
	regVerdict = asm.R9
)

// Places on the stack, below the frame pointer: a key of an array, then those of the tries,
// which share a place, then that of a port.
const (
	stackIndex  = -4
	stackPrefix = -40 // 20 bytes: length, address
	stackPort   = -64 // 20 bytes: address, port, protocol, zero
)

// Offsets in a packet without a VLAN tag, and values there.
const (
	ethLen    = 14
	ethTypeAt = 12
	ip4FragAt = ethLen + 6
	ip4Proto  = ethLen + 9
	ip4Dst    = ethLen + 16
	ip4End    = ethLen + 20
	ip6Next   = ethLen + 6
	ip6Dst    = ethLen + 24
	ip6End    = ethLen + 40

	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
	typeQinQ = 0x88a8

	nextHop     = 0
	nextRouting = 43
	nextPart    = 44
	nextICMP6   = 58
	nextOptions = 60

	firstDiscovery, lastDiscovery = 133, 137 // ICMPv6: router and neighbour discovery, redirect

	maxExtensions = 4

	xdpPass     = 2
	xdpRedirect = 4
)

// program is the whole of it. Each piece ends by a jump or falls into the next.
func program() asm.Instructions {
	var p asm.Instructions
	for _, piece := range []asm.Instructions{
		parseEthernet(), parseIPv4(), parseIPv6(), matchPort(), take(), pass(), count(),
	} {
		p = append(p, piece...)
	}
	return p
}

// programAll takes all that comes in.
func programAll() asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(regCtx, asm.R1),
		asm.Mov.Imm(regVerdict, int32(TakenAll)),
	}
	return append(append(p, take()...), count()...)
}

// verdict sets what is counted and goes to a label.
func verdict(v Verdict, label string) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(regVerdict, int32(v)),
		asm.Ja.Label(label),
	}
}

// whole goes to pass unless the packet has n bytes from at on.
func whole(at asm.Register, n int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R2, at),
		asm.Add.Imm(asm.R2, n),
		asm.JGT.Reg(asm.R2, regEnd, "pass"),
	}
}

// find looks the key at the stack's place up: R0 is its value or null.
func find(name string, place int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, 0).WithReference(name),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, place),
		asm.FnMapLookupElem.Call(),
	}
}

// parseEthernet compares the MAC address and goes by the type.
func parseEthernet() asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(regCtx, asm.R1),
		asm.LoadMem(regData, regCtx, 0, asm.Word),
		asm.LoadMem(regEnd, regCtx, 4, asm.Word),
		asm.Mov.Imm(regVerdict, int32(Passed)),
	}
	p = append(p, whole(regData, ethLen)...)
	p = append(p, asm.StoreImm(asm.RFP, stackIndex, 0, asm.Word))
	p = append(p, find(mapConfig, stackIndex)...)
	return append(p,
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(regVerdict, int32(PassedAlien)),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
		asm.LoadMem(asm.R2, regData, 0, asm.Word),
		asm.JNE.Reg(asm.R1, asm.R2, "pass"),
		asm.LoadMem(asm.R1, asm.R0, 4, asm.Half),
		asm.LoadMem(asm.R2, regData, 4, asm.Half),
		asm.JNE.Reg(asm.R1, asm.R2, "pass"),
		asm.LoadMem(asm.R1, regData, ethTypeAt, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.Mov.Imm(regVerdict, int32(PassedTagged)),
		asm.JEq.Imm(asm.R1, typeVLAN, "pass"),
		asm.JEq.Imm(asm.R1, typeQinQ, "pass"),
		asm.Mov.Imm(regVerdict, int32(Passed)),
		asm.JEq.Imm(asm.R1, typeIPv6, "ipv6"),
		asm.JNE.Imm(asm.R1, typeIPv4, "pass"),
	)
}

// parseIPv4 looks for a prefix, and leaves to matchPort the protocol in R4 and the
// transport header in R3.
func parseIPv4() asm.Instructions {
	p := append(whole(regData, ip4End),
		asm.LoadMem(asm.R3, regData, ip4Dst, asm.Word),
		asm.StoreImm(asm.RFP, stackPrefix, 32, asm.Word),
		asm.StoreMem(asm.RFP, stackPrefix+4, asm.R3, asm.Word),
		// The same address mapped: ten zeros, ffff, and itself.
		asm.StoreImm(asm.RFP, stackPort, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackPort+4, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackPort+8, 0, asm.Half),
		asm.Mov.Imm(asm.R2, 0xffff),
		asm.StoreMem(asm.RFP, stackPort+10, asm.R2, asm.Half),
		asm.StoreMem(asm.RFP, stackPort+12, asm.R3, asm.Word),
		// Version 4, at least five words of header.
		asm.LoadMem(asm.R1, regData, ethLen, asm.Byte),
		asm.JLT.Imm(asm.R1, 0x45, "pass"),
		asm.JGT.Imm(asm.R1, 0x4f, "pass"),
	)
	p = append(p, find(mapPrefix4, stackPrefix)...)
	p = append(p,
		asm.JEq.Imm(asm.R0, 0, "ipv4-port"),
	)
	p = append(p, verdict(TakenPrefix, "take")...)
	return append(p,
		asm.LoadMem(asm.R1, regData, ip4FragAt, asm.Half).WithSymbol("ipv4-port"),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.And.Imm(asm.R1, 0x3fff),
		asm.JNE.Imm(asm.R1, 0, "part"),
		asm.LoadMem(asm.R4, regData, ip4Proto, asm.Byte),
		asm.LoadMem(asm.R1, regData, ethLen, asm.Byte),
		asm.And.Imm(asm.R1, 0xf),
		asm.LSh.Imm(asm.R1, 2),
		asm.Mov.Reg(asm.R3, regData),
		asm.Add.Imm(asm.R3, ethLen),
		asm.Add.Reg(asm.R3, asm.R1),
		asm.Ja.Label("port"),
	)
}

// parseIPv6 is parseIPv4 for the other family.
func parseIPv6() asm.Instructions {
	p := whole(regData, ip6End)
	p[0] = p[0].WithSymbol("ipv6")
	p = append(p,
		asm.LoadMem(asm.R1, regData, ethLen, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 6, "pass"),
		asm.StoreImm(asm.RFP, stackPrefix, 128, asm.Word),
	)
	for i := int16(0); i < 16; i += 4 {
		p = append(p,
			asm.LoadMem(asm.R1, regData, ip6Dst+i, asm.Word),
			asm.StoreMem(asm.RFP, stackPrefix+4+i, asm.R1, asm.Word),
			asm.StoreMem(asm.RFP, stackPort+i, asm.R1, asm.Word),
		)
	}
	p = append(p, find(mapPrefix6, stackPrefix)...)
	p = append(p,
		asm.LoadMem(asm.R4, regData, ip6Next, asm.Byte),
		asm.JEq.Imm(asm.R0, 0, "ipv6-port"),
		asm.JNE.Imm(asm.R4, nextICMP6, "ipv6-take"),
	)
	// A cut-off ICMPv6 is nobody's.
	p = append(p, whole(regData, ip6End+1)...)
	p = append(p,
		asm.LoadMem(asm.R1, regData, ip6End, asm.Byte),
		asm.JLT.Imm(asm.R1, firstDiscovery, "ipv6-take"),
		asm.JLE.Imm(asm.R1, lastDiscovery, "pass"),
		asm.Mov.Imm(regVerdict, int32(TakenPrefix)).WithSymbol("ipv6-take"),
		asm.Ja.Label("take"),
		asm.Mov.Reg(asm.R3, regData).WithSymbol("ipv6-port"),
		asm.Add.Imm(asm.R3, ip6End),
	)
	for n := range maxExtensions {
		p = append(p, extension(n)...)
	}
	return p
}

// extension passes over one header of IPv6 at R3 of the kind in R4, the nth, or leaves to
// matchPort what is none.
func extension(n int) asm.Instructions {
	p := asm.Instructions{
		asm.JEq.Imm(asm.R4, nextHop, label("extension", n)),
		asm.JEq.Imm(asm.R4, nextRouting, label("extension", n)),
		asm.JNE.Imm(asm.R4, nextOptions, "port"),
	}
	header := whole(asm.R3, 2)
	header[0] = header[0].WithSymbol(label("extension", n))
	p = append(p, header...)
	return append(p,
		asm.LoadMem(asm.R4, asm.R3, 0, asm.Byte),
		asm.LoadMem(asm.R1, asm.R3, 1, asm.Byte),
		asm.Add.Imm(asm.R1, 1),
		asm.LSh.Imm(asm.R1, 3),
		asm.Add.Reg(asm.R3, asm.R1),
	)
}

func label(name string, n int) string { return fmt.Sprintf("%s-%d", name, n) }

// matchPort looks for the port at R3 of the protocol in R4. The address is in its key.
func matchPort() asm.Instructions {
	p := asm.Instructions{
		asm.JEq.Imm(asm.R4, nextPart, "part").WithSymbol("port"),
		asm.JEq.Imm(asm.R4, int32(TCP), "ports"),
		asm.JEq.Imm(asm.R4, int32(UDP), "ports"),
		asm.JNE.Imm(asm.R4, int32(SCTP), "pass"),
	}
	ports := whole(asm.R3, 4)
	ports[0] = ports[0].WithSymbol("ports")
	p = append(p, ports...)
	p = append(p,
		asm.LoadMem(asm.R1, asm.R3, 2, asm.Half),
		asm.StoreMem(asm.RFP, stackPort+16, asm.R1, asm.Half),
		asm.StoreMem(asm.RFP, stackPort+18, asm.R4, asm.Byte),
		asm.StoreImm(asm.RFP, stackPort+19, 0, asm.Byte),
	)
	p = append(p, find(mapPorts, stackPort)...)
	p = append(p,
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(regVerdict, int32(TakenPort)),
		asm.Ja.Label("take"),
	)
	part := verdict(PassedPart, "pass")
	part[0] = part[0].WithSymbol("part")
	return append(p, part...)
}

// take redirects to the socket of the packet's queue; a place without one is passed.
func take() asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, 0).WithReference(mapSockets).WithSymbol("take"),
		asm.LoadMem(asm.R2, regCtx, 16, asm.Word),
		asm.Mov.Imm(asm.R3, xdpPass),
		asm.FnRedirectMap.Call(),
		asm.Mov.Reg(regData, asm.R0),
		asm.JEq.Imm(asm.R0, xdpRedirect, "count"),
		asm.Mov.Imm(regVerdict, int32(PassedSocket)),
		asm.Ja.Label("count"),
	}
}

// pass answers so.
func pass() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(regData, xdpPass).WithSymbol("pass")}
}

// count counts the verdict and ends with what regData holds.
func count() asm.Instructions {
	p := asm.Instructions{asm.StoreMem(asm.RFP, stackIndex, regVerdict, asm.Word).WithSymbol("count")}
	p = append(p, find(mapVerdicts, stackIndex)...)
	return append(p,
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R0, regData).WithSymbol("end"),
		asm.Return(),
	)
}
