package cni

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/millrace/millrace/cni/cnipb"
)

// newResult renders the agent's answer as a result of the given specification version.
func newResult(reply *cnipb.AddReply, dns types.DNS, cniVersion string) (types.Result, error) {
	result := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, DNS: dns}
	for _, i := range reply.Interfaces {
		result.Interfaces = append(result.Interfaces, &types100.Interface{
			Name: i.Name, Mac: i.Mac, Mtu: int(i.Mtu), Sandbox: i.Sandbox, SocketPath: i.SocketPath,
		})
	}
	for n, ip := range reply.Ips {
		if int(ip.Interface) >= len(result.Interfaces) {
			return nil, fmt.Errorf("read agent's answer: address %d names interface %d of %d", n, ip.Interface, len(result.Interfaces))
		}
		address, gateway, err := parsePair(ip.Address, ip.Gateway)
		if err != nil {
			return nil, fmt.Errorf("read agent's answer: address %d: %w", n, err)
		}
		result.IPs = append(result.IPs, &types100.IPConfig{Address: address, Gateway: gateway, Interface: types100.Int(int(ip.Interface))})
	}
	for n, r := range reply.Routes {
		destination, gateway, err := parsePair(r.Destination, r.Gateway)
		if err != nil {
			return nil, fmt.Errorf("read agent's answer: route %d: %w", n, err)
		}
		result.Routes = append(result.Routes, &types.Route{Dst: destination, GW: gateway, MTU: int(r.Mtu)})
	}
	return convert(result, cniVersion)
}

// convert renders a result in an older version. What 1.1.0 brought is left out of older
// ones: libcni's types would carry it along.
func convert(result *types100.Result, cniVersion string) (types.Result, error) {
	newest, err := version.GreaterThanOrEqualTo(cniVersion, "1.1.0")
	if err != nil {
		return nil, fmt.Errorf("convert result: %w", err)
	}
	if !newest {
		for _, i := range result.Interfaces {
			i.Mtu, i.SocketPath = 0, ""
		}
		for _, r := range result.Routes {
			r.MTU = 0
		}
	}
	converted, err := result.GetAsVersion(cniVersion)
	if err != nil {
		return nil, fmt.Errorf("convert result to version %s: %w", cniVersion, err)
	}
	return converted, nil
}

func parsePair(prefix, gateway string) (net.IPNet, net.IP, error) {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		return net.IPNet{}, nil, err
	}
	ipnet := net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	if gateway == "" {
		return ipnet, nil, nil
	}
	g, err := netip.ParseAddr(gateway)
	if err != nil {
		return net.IPNet{}, nil, err
	}
	return ipnet, g.AsSlice(), nil
}

// parsePrevResult reads prevResult in the configuration's version. Before 1.0.0 a result
// need not say its version.
func parsePrevResult(raw json.RawMessage, cniVersion string) (*types100.Result, error) {
	all, err := members("prevResult", raw)
	if err != nil {
		return nil, err
	}
	object := map[string]json.RawMessage{}
	for _, m := range all {
		object[m.Key] = m.Raw
	}
	if _, ok := object["cniVersion"]; !ok {
		if object["cniVersion"], err = json.Marshal(cniVersion); err != nil {
			return nil, fmt.Errorf("encode version: %w", err)
		}
	}
	data, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode prevResult: %w", err)
	}
	result, err := version.NewResult(cniVersion, data)
	if err != nil {
		return nil, undecodable("prevResult", "%v", err)
	}
	current, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil, undecodable("prevResult", "%v", err)
	}
	return current, nil
}

// promised fills in what a previous result gave the interface: its addresses, and the
// routes through its gateways. The container's other interfaces come along with their
// addresses; the agent knows which of them are its memifs, and which another plugin's.
func promised(request *cnipb.CheckRequest, result *types100.Result) error {
	ifName, netns := request.GetId().GetIfName(), request.GetNetns()
	at := slices.IndexFunc(result.Interfaces, func(i *types100.Interface) bool {
		return i != nil && i.Name == ifName && i.Sandbox == netns
	})
	if at < 0 {
		return invalid("prevResult.interfaces", "none is %s in %s", ifName, netns)
	}
	if err := promisedOthers(request, result, at); err != nil {
		return err
	}
	gateways := map[string]bool{}
	for i, ip := range result.IPs {
		if ip == nil || ip.Interface == nil || *ip.Interface != at {
			continue
		}
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return invalid(fmt.Sprintf("prevResult.ips[%d].address", i), "no address")
		}
		request.Addresses = append(request.Addresses, a.Unmap().String())
		if g, ok := netip.AddrFromSlice(ip.Gateway); ok {
			gateways[g.Unmap().String()] = true
		}
	}
	if len(request.Addresses) == 0 {
		return invalid("prevResult.ips", "none belongs to %s in %s", ifName, netns)
	}
	for i, r := range result.Routes {
		if r == nil {
			continue
		}
		g, ok := netip.AddrFromSlice(r.GW)
		if !ok || !gateways[g.Unmap().String()] {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, bits := r.Dst.Mask.Size()
		if !ok || bits == 0 {
			return invalid(fmt.Sprintf("prevResult.routes[%d].dst", i), "no prefix")
		}
		request.Routes = append(request.Routes, &cnipb.Route{Destination: netip.PrefixFrom(a.Unmap(), ones).String(), Gateway: g.Unmap().String()})
	}
	return nil
}

func promisedOthers(request *cnipb.CheckRequest, result *types100.Result, own int) error {
	seen := map[int]*cnipb.Seen{}
	for at, i := range result.Interfaces {
		if i != nil && at != own && i.Sandbox == request.GetNetns() {
			seen[at] = &cnipb.Seen{Name: i.Name}
			request.Others = append(request.Others, seen[at])
		}
	}
	for n, ip := range result.IPs {
		if ip == nil || ip.Interface == nil || seen[*ip.Interface] == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return invalid(fmt.Sprintf("prevResult.ips[%d].address", n), "no address")
		}
		other := seen[*ip.Interface]
		other.Addresses = append(other.Addresses, a.Unmap().String())
	}
	return nil
}
