package program

import (
	"context"
	"net/netip"
	"slices"

	"go.fd.io/govpp/binapi/cnat"
	"go.fd.io/govpp/binapi/feature"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// clientHash is VPP's flow hash over the source address alone; 0 is its default, over all
// of the flow.
const clientHash = ip.IP_API_V2_FLOW_HASH_SRC_IP

// nat is what a Program knows of the machine's cnat.
type nat struct {
	ids map[dataplane.Key]uint32 // of translations; filled and kept like Program.ports
	// sides holds what this Program set, by interface: VPP does not tell. Another life of
	// ours sets it once more, which disturbs nothing.
	sides map[string]dataplane.NATSide
	on    map[string][len(natFeatures)]bool // which features an interface has; filled and kept like ids
	// routes holds those to single addresses that this Program wrote: a translation of the
	// address hides them in dumps. Another life of ours writes them once more.
	routes map[dataplane.Key]dataplane.Route
	// kept are the prefixes that this Program excepted from masquerading: VPP tells of none.
	// Another life of ours writes its own once more; what a former one excepted and nobody
	// wants any more stays so until the machine ends.
	kept map[dataplane.NATKept]bool
}

// note keeps what a step that succeeded means for routes that are hidden.
func (n *nat) note(step dataplane.Step) {
	r, ok := step.Object.(dataplane.Route)
	switch {
	case !ok || r.Table != 0 || !r.Prefix.IsSingleIP():
	case step.Verb == dataplane.Delete:
		delete(n.routes, r.Key())
	default:
		n.routes[r.Key()] = r
	}
}

// addHidden adds the route that a translation hides.
func (n *nat) addHidden(s *dataplane.State, t dataplane.Translation) {
	a := t.VIP.Addr()
	key := dataplane.Route{Prefix: netip.PrefixFrom(a, a.BitLen())}.Key()
	if _, shown := s.Object(key); shown {
		return
	}
	if r, written := n.routes[key]; written {
		s.Put(r)
	}
}

// Translates says whether the machine can do what services need. One that lacks an answer
// is one that lacks its question, too.
func (p *Program) Translates() bool {
	return len(p.conn.Supports(
		&cnat.CnatTranslationUpdate{}, &cnat.CnatTranslationUpdateReply{}, &cnat.CnatTranslationDel{}, &cnat.CnatTranslationDelReply{},
		&cnat.CnatTranslationDump{}, &cnat.CnatTranslationDetails{},
		&cnat.CnatSetSnatAddresses{}, &cnat.CnatSetSnatAddressesReply{}, &cnat.CnatGetSnatAddresses{}, &cnat.CnatGetSnatAddressesReply{},
		&cnat.CnatSetSnatPolicy{}, &cnat.CnatSetSnatPolicyReply{}, &cnat.CnatSnatPolicyAddDelIf{}, &cnat.CnatSnatPolicyAddDelIfReply{},
		&cnat.CnatSnatPolicyAddDelExcludePfx{}, &cnat.CnatSnatPolicyAddDelExcludePfxReply{},
		&feature.FeatureEnableDisable{}, &feature.FeatureEnableDisableReply{}, &feature.FeatureIsEnabled{}, &feature.FeatureIsEnabledReply{},
	)) == 0
}

// natIsOurs: translations carry no mark, so that all belong to who connects pods.
func (p *Program) natIsOurs() bool { return !p.id.HostLinks && p.Translates() }

// prepareNAT chooses the policy by which connections get another source. VPP does not tell
// which one it has; to set the same again changes nothing.
func (p *Program) prepareNAT(ctx context.Context) error {
	if !p.natIsOurs() {
		return nil
	}
	_, err := vpp.Call[cnat.CnatSetSnatPolicyReply](ctx, p.conn, &cnat.CnatSetSnatPolicy{Policy: cnat.CNAT_POLICY_K8S})
	return err
}

func (p *Program) observeNAT(ctx context.Context, s *dataplane.State) error {
	p.nat.ids = map[dataplane.Key]uint32{}
	if !p.natIsOurs() {
		return nil
	}
	for d, err := range vpp.Dump[cnat.CnatTranslationDetails](ctx, p.conn, &cnat.CnatTranslationDump{}) {
		if err != nil {
			return err
		}
		t := translationOf(d.Translation)
		p.nat.ids[t.Key()] = d.Translation.ID
		s.Put(t)
		p.nat.addHidden(s, t)
	}
	reply, err := vpp.Call[cnat.CnatGetSnatAddressesReply](ctx, p.conn, &cnat.CnatGetSnatAddresses{})
	if err != nil {
		return err
	}
	var n dataplane.SourceNAT
	if a := netip.AddrFrom4(reply.SnatIP4); !a.IsUnspecified() {
		n.IPv4 = a
	}
	if a := netip.AddrFrom16(reply.SnatIP6); !a.IsUnspecified() {
		n.IPv6 = a
	}
	if n != (dataplane.SourceNAT{}) {
		s.Put(n)
	}
	for k := range p.nat.kept {
		s.Put(k)
	}
	return p.observeNATInterfaces(ctx, s)
}

// observeNATInterfaces asks for each of our interfaces, and the manager's, whether the
// features are on. One with some of them only is of an unknown side, which the next plan
// repairs.
func (p *Program) observeNATInterfaces(ctx context.Context, s *dataplane.State) error {
	p.nat.on = map[string][len(natFeatures)]bool{}
	all := p.foreign()
	for name, port := range p.ports {
		all[name] = port.index
	}
	for name, index := range all {
		on, err := p.askNAT(ctx, index)
		if err != nil {
			return err
		}
		p.nat.on[name] = on
		side := p.nat.sides[name]
		if on != allNAT {
			side = dataplane.NATUnknown
		}
		if on != ([len(natFeatures)]bool{}) {
			s.Put(dataplane.NATInterface{Interface: name, Side: side})
		}
	}
	return nil
}

// askNAT asks of one interface. Where nothing was ever switched on in an arc, VPP 25.10
// takes its own error for a yes, so that it is asked for something else, too, which nobody
// uses: two times yes is no.
func (p *Program) askNAT(ctx context.Context, index uint32) (on [len(natFeatures)]bool, err error) {
	var asked [2 * len(natFeatures)]vpp.Exchange
	for n, f := range natFeatures {
		for i, name := range [...]string{f.name, f.unused} {
			asked[2*n+i] = vpp.Exchange{
				Request: &feature.FeatureIsEnabled{ArcName: f.arc, FeatureName: name, SwIfIndex: interface_types.InterfaceIndex(index)},
				Reply:   &feature.FeatureIsEnabledReply{},
			}
		}
	}
	_ = p.conn.Batch(ctx, asked[:]) // each exchange without an answer has it as its Err
	for n := range natFeatures {
		yes, mistaken := asked[2*n], asked[2*n+1]
		if yes.Err != nil {
			return on, yes.Err
		}
		// A machine may say that it knows no such feature.
		always := mistaken.Err == nil && mistaken.Reply.(*feature.FeatureIsEnabledReply).IsEnabled
		on[n] = yes.Reply.(*feature.FeatureIsEnabledReply).IsEnabled && !always
	}
	return on, nil
}

// natFeatures are those that an interface has on or off: VPP runs them before its input
// ACLs and after its output ACLs, which so see the addresses of pods.
var natFeatures = [...]struct{ arc, name, unused string }{
	{"ip4-unicast", "cnat-input-ip4", "ip4-inacl"}, {"ip6-unicast", "cnat-input-ip6", "ip6-inacl"},
	{"ip4-output", "cnat-output-ip4", "ip4-outacl"}, {"ip6-output", "cnat-output-ip6", "ip6-outacl"},
}

var allNAT = [len(natFeatures)]bool{true, true, true, true}

// translationOf reads a dump. How a backend is chosen is in lb_type, because the flow hash
// is not told: we have MAGLEV where the client decides, and only there.
func translationOf(w cnat.CnatTranslation) dataplane.Translation {
	t := dataplane.Translation{
		VIP: addrPort(w.Vip), Protocol: uint8(w.IPProto), ByClient: w.LbType == cnat.CNAT_LB_TYPE_MAGLEV,
	}
	for _, path := range w.Paths {
		t.Backends = append(t.Backends, addrPort(path.DstEp))
	}
	return t
}

func addrPort(e cnat.CnatEndpoint) netip.AddrPort {
	return netip.AddrPortFrom(unionAddr(e.Addr.Un, e.Addr.Af), e.Port)
}

func wireEndpoint(a netip.AddrPort) cnat.CnatEndpoint {
	e := cnat.CnatEndpoint{SwIfIndex: interface_types.InterfaceIndex(none), Addr: ip_types.Address{Un: wireUnion(a.Addr())}, Port: a.Port()}
	if a.Addr().Is6() {
		e.Addr.Af, e.IfAf = ip_types.ADDRESS_IP6, ip_types.ADDRESS_IP6
	}
	return e
}

// wireTranslation makes the service's address one that others may have, too: where it has
// no translation for a port, the FIB goes on to what we or the node route it to, and the
// client hears of it.
func wireTranslation(t dataplane.Translation) cnat.CnatTranslation {
	w := cnat.CnatTranslation{Vip: wireEndpoint(t.VIP), IPProto: ip_types.IPProto(t.Protocol), IsRealIP: 1}
	if t.ByClient {
		w.LbType, w.FlowHashConfig = cnat.CNAT_LB_TYPE_MAGLEV, clientHash
	}
	// A source without an interface counts as resolved; one of 0 is local0, which has none.
	source := cnat.CnatEndpoint{SwIfIndex: interface_types.InterfaceIndex(none), IfAf: w.Vip.IfAf, Addr: ip_types.Address{Af: w.Vip.Addr.Af}}
	for _, b := range t.Backends {
		w.Paths = append(w.Paths, cnat.CnatEndpointTuple{DstEp: wireEndpoint(b), SrcEp: source})
	}
	return w
}

// writeTranslations makes and changes them. VPP 25.10 aborts on one without paths, which
// no Translation is.
func (p *Program) writeTranslations(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	for i, step := range steps {
		err := dataplane.Check(step.Object)
		b.add(i, vpp.Exchange{
			Request: &cnat.CnatTranslationUpdate{Translation: wireTranslation(step.Object.(dataplane.Translation))},
			Reply:   &cnat.CnatTranslationUpdateReply{},
		}, err)
	}
	b.run(ctx, p.conn)
	for n, i := range b.owners {
		if b.errs[i] == nil {
			p.nat.ids[steps[i].Object.Key()] = b.exchanges[n].Reply.(*cnat.CnatTranslationUpdateReply).ID
		}
	}
	return b.errs
}

// deleteTranslations: the flows that a translation made go on until they are idle.
func (p *Program) deleteTranslations(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	b.asDone = isNoSuchEntry
	for i, step := range steps {
		if id, known := p.nat.ids[step.Object.Key()]; known {
			b.add(i, vpp.Exchange{Request: &cnat.CnatTranslationDel{ID: id}, Reply: &cnat.CnatTranslationDelReply{}}, nil)
		}
	}
	b.run(ctx, p.conn)
	for i, step := range steps {
		if b.errs[i] == nil {
			delete(p.nat.ids, step.Object.Key())
		}
	}
	return b.errs
}

// sourceExchange sets both addresses, or none.
func sourceExchange(n dataplane.SourceNAT, add bool) vpp.Exchange {
	req := &cnat.CnatSetSnatAddresses{SwIfIndex: interface_types.InterfaceIndex(none)}
	if add && n.IPv4.IsValid() {
		req.SnatIP4 = n.IPv4.As4()
	}
	if add && n.IPv6.IsValid() {
		req.SnatIP6 = n.IPv6.As16()
	}
	return vpp.Exchange{Request: req, Reply: &cnat.CnatSetSnatAddressesReply{}}
}

// sideTables are cnat's lists of interfaces, and the sides that are in each; what is outer is
// in none.
var sideTables = map[cnat.CnatSnatPolicyTable][]dataplane.NATSide{
	cnat.CNAT_POLICY_POD: {dataplane.NATPod, dataplane.NATMasked}, cnat.CNAT_POLICY_HOST: {dataplane.NATHost},
	cnat.CNAT_POLICY_INCLUDE_V4: {dataplane.NATMasked}, cnat.CNAT_POLICY_INCLUDE_V6: {dataplane.NATMasked},
}

// keepSources excepts prefixes from masquerading, or no longer.
func (p *Program) keepSources(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	for i, step := range steps {
		req := &cnat.CnatSnatPolicyAddDelExcludePfx{Prefix: wirePrefix(step.Object.(dataplane.NATKept).Prefix)}
		if step.Verb != dataplane.Delete {
			req.IsAdd = 1
		}
		b.add(i, vpp.Exchange{Request: req, Reply: &cnat.CnatSnatPolicyAddDelExcludePfxReply{}}, nil)
	}
	b.run(ctx, p.conn)
	for i, step := range steps {
		switch k := step.Object.(dataplane.NATKept); {
		case b.errs[i] != nil:
		case step.Verb == dataplane.Delete:
			delete(p.nat.kept, k)
		default:
			p.nat.kept[k] = true
		}
	}
	return b.errs
}

// switchNAT brings features and side of interfaces to what is wanted. VPP counts how often
// a feature is switched on, so that only what differs is sent.
func (p *Program) switchNAT(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	for i, step := range steps {
		n := step.Object.(dataplane.NATInterface)
		add := step.Verb != dataplane.Delete
		index, err := p.index(n.Interface)
		if err != nil {
			b.fail(i, err)
			continue
		}
		at := interface_types.InterfaceIndex(index)
		for table, sides := range sideTables {
			member := &cnat.CnatSnatPolicyAddDelIf{SwIfIndex: at, Table: table}
			if add && slices.Contains(sides, n.Side) {
				member.IsAdd = 1
			}
			b.add(i, vpp.Exchange{Request: member, Reply: &cnat.CnatSnatPolicyAddDelIfReply{}}, nil)
		}
		for f, on := range p.nat.on[n.Interface] {
			if on == add {
				continue
			}
			b.add(i, vpp.Exchange{
				Request: &feature.FeatureEnableDisable{SwIfIndex: at, Enable: add, ArcName: natFeatures[f].arc, FeatureName: natFeatures[f].name},
				Reply:   &feature.FeatureEnableDisableReply{},
			}, nil)
		}
	}
	b.run(ctx, p.conn)
	p.noteNAT(steps, b)
	return b.errs
}

// noteNAT keeps what became of switchNAT's messages.
func (p *Program) noteNAT(steps []dataplane.Step, b *batch) {
	for n, i := range b.owners {
		req, ok := b.exchanges[n].Request.(*feature.FeatureEnableDisable)
		if !ok || b.exchanges[n].Err != nil {
			continue
		}
		name := steps[i].Object.Key().Name
		on := p.nat.on[name]
		for f := range natFeatures {
			if natFeatures[f].name == req.FeatureName {
				on[f] = req.Enable
			}
		}
		p.nat.on[name] = on
	}
	for i, step := range steps {
		n := step.Object.(dataplane.NATInterface)
		switch {
		case b.errs[i] != nil || step.Verb == dataplane.Delete:
			delete(p.nat.sides, n.Interface)
		default:
			p.nat.sides[n.Interface] = n.Side
		}
	}
}
