package conformance

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/fib_types"
	"go.fd.io/govpp/binapi/ip_types"
)

// unsteady fields differ from run to run or from build to build.
func unsteady() []string {
	return []string{"stats_index", "age", "pid", "client_index", "program", "version", "build_date", "build_directory", "vpe_pid",
		"link_speed", "worker_id"}
}

// describeMessage writes a message on one line, fields with a zero value left out.
func describeMessage(msg api.Message) string {
	return strings.TrimSpace(msg.GetMessageName() + " " + describeFields(reflect.ValueOf(msg).Elem()))
}

// describeReply is the same for a reply; its retval is always shown.
func describeReply(msg api.Message) string {
	fields := describeFields(reflect.ValueOf(msg).Elem())
	if !strings.Contains(fields, "retval=") {
		fields = "retval=0 " + fields
	}
	return strings.TrimSpace(fields)
}

func describeFields(v reflect.Value) string {
	var parts []string
	for i := range v.NumField() {
		name := fieldName(v.Type().Field(i))
		if v.Field(i).IsZero() || slices.Contains(unsteady(), name) || v.Type().Field(i).Tag.Get("json") == "-" {
			continue
		}
		if text := describeValue(v.Field(i)); text != "" {
			parts = append(parts, name+"="+text)
		}
	}
	return strings.Join(parts, " ")
}

func fieldName(f reflect.StructField) string {
	for part := range strings.SplitSeq(f.Tag.Get("binapi"), ",") {
		if name, ok := strings.CutPrefix(part, "name="); ok {
			return name
		}
	}
	return f.Name
}

func describeValue(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case fib_types.FibPath:
		return describePath(x)
	case ip_types.Prefix:
		return masked(x)
	case interface{ ToIP() net.IP }:
		return x.(fmt.Stringer).String()
	case fmt.Stringer:
		if v.Kind() == reflect.Struct || v.Kind() == reflect.Array {
			return x.String()
		}
	}
	switch v.Kind() {
	case reflect.Uint32:
		if uint32(v.Uint()) == ^uint32(0) {
			return "~0"
		}
	case reflect.String:
		return fmt.Sprintf("%q", v.String())
	case reflect.Struct:
		return "{" + describeFields(v) + "}"
	case reflect.Slice, reflect.Array:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, describeValue(v.Index(i)))
		}
		if v.Type().Elem() == reflect.TypeFor[fib_types.FibPath]() {
			slices.Sort(parts) // paths of a route are a set
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	return fmt.Sprint(v.Interface())
}

// describePath writes a path the way VPP reports or takes it; labels are not in use.
func describePath(p fib_types.FibPath) string {
	var b strings.Builder
	b.WriteString("{")
	switch p.Proto {
	case fib_types.FIB_API_PATH_NH_PROTO_IP4:
		fmt.Fprintf(&b, "via %v", netip.AddrFrom4(p.Nh.Address.GetIP4()))
	case fib_types.FIB_API_PATH_NH_PROTO_IP6:
		fmt.Fprintf(&b, "via %v", netip.AddrFrom16(p.Nh.Address.GetIP6()))
	default:
		fmt.Fprintf(&b, "proto %v", p.Proto)
	}
	if p.SwIfIndex == ^uint32(0) {
		b.WriteString(" if ~0")
	} else {
		fmt.Fprintf(&b, " if %d", p.SwIfIndex)
	}
	fmt.Fprintf(&b, " weight %d", p.Weight)
	for _, f := range []struct {
		name  string
		value uint32
	}{
		{"table", p.TableID}, {"pref", uint32(p.Preference)}, {"type", uint32(p.Type)},
		{"flags", uint32(p.Flags)}, {"via-label", p.Nh.ViaLabel}, {"obj", p.Nh.ObjID}, {"labels", uint32(p.NLabels)},
	} {
		if f.value != 0 {
			fmt.Fprintf(&b, " %s %d", f.name, f.value)
		}
	}
	return b.String() + "}"
}

// masked writes a prefix without its host bits. VPP keeps those it was given in the
// dumps of its routes; whoever compares routes has to ignore them.
func masked(p ip_types.Prefix) string {
	addr, ok := netip.AddrFromSlice(p.Address.ToIP())
	if !ok || int(p.Len) > addr.Unmap().BitLen() && p.Address.Af == ip_types.ADDRESS_IP4 || p.Len > 128 {
		return p.String()
	}
	if p.Address.Af == ip_types.ADDRESS_IP4 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, int(p.Len)).Masked().String()
}

// The short forms below let a case read like what it does.

func prefix(text string) ip_types.Prefix {
	p := netip.MustParsePrefix(text)
	return ip_types.Prefix{Address: address(p.Addr().String()), Len: uint8(p.Bits())}
}

func withPrefix(text string) ip_types.AddressWithPrefix {
	return ip_types.AddressWithPrefix(prefix(text))
}

func address(text string) ip_types.Address {
	a := netip.MustParseAddr(text)
	if a.Is4() {
		return ip_types.Address{Af: ip_types.ADDRESS_IP4, Un: ip_types.AddressUnionIP4(a.As4())}
	}
	return ip_types.Address{Af: ip_types.ADDRESS_IP6, Un: ip_types.AddressUnionIP6(a.As16())}
}
