package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/traffic"
)

// Nodes compares what gets from a pod of one node to a pod of another: over direct routes and
// over VXLAN, on a wire with offloads and on one without. The kinds of nodes of one such way
// are up side by side and take turns.
type Nodes struct {
	Title       string
	Kinds       []rig.NodesKind
	Ways        []string // some of NodesWays
	Wires       []string // some of rig.Wires
	Repetitions int      // of each stream
	Seconds     int      // of each stream
	Progress    func(Progress)
}

// NodesWays lists the ways from node to node.
func NodesWays() []string { return []string{"direct", "vxlan"} }

type nodesRun struct {
	Nodes
	launcher *rig.Launcher
	result   *benchmarks.Result
	started  time.Time
	done     int
}

// Run runs the comparison. The result is returned also when it was cut short.
func (c Nodes) Run(ctx context.Context) (*benchmarks.Result, error) {
	machine, err := benchmarks.ThisMachine()
	if err != nil {
		return nil, err
	}
	r := &nodesRun{Nodes: c, launcher: rig.NewLauncher(), started: time.Now(), result: &benchmarks.Result{
		Schema: benchmarks.Schema, Title: c.Title, Started: time.Now().UTC(), Machine: machine,
	}}
	defer r.launcher.Close()
	err = r.all(ctx)
	r.result.Seconds = time.Since(r.started).Seconds()
	if r.result.Complete = err == nil; err != nil {
		r.result.Problem = err.Error()
	}
	return r.result, err
}

func (r *nodesRun) all(ctx context.Context) error {
	for _, wire := range r.Wires {
		for _, way := range r.Ways {
			p := phase{nodesRun: r, wire: rig.Wire(wire), way: way}
			err := p.run(ctx)
			for _, n := range p.nodes {
				err = errors.Join(err, n.Close(context.WithoutCancel(ctx)))
			}
			if err != nil {
				return fmt.Errorf("%s, wire %s: %w", way, wire, err)
			}
		}
	}
	return nil
}

// phase is one way on one wire, with all kinds of nodes that work on it.
type phase struct {
	*nodesRun
	wire  rig.Wire
	way   string
	nodes []*rig.Nodes
}

func (p *phase) run(ctx context.Context) error {
	for _, kind := range p.Kinds {
		if !slices.Contains(kind.Wires, p.wire) {
			continue
		}
		p.tell(kind.Name, "start two nodes")
		n, err := rig.StartNodes(ctx, p.launcher, kind, p.wire, p.way == "vxlan")
		p.nodes = append(p.nodes, n)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.Name, err)
		}
		p.introduce(n.About)
		if err := p.reach(ctx, n); err != nil {
			return fmt.Errorf("%s: %w", kind.Name, err)
		}
	}
	for rep := range p.Repetitions {
		for _, s := range nodesStreams() {
			for i := range p.nodes {
				n := p.nodes[(i+rep)%len(p.nodes)]
				p.tell(n.About.Name, fmt.Sprintf("%s (%d of %d)", s.title, rep+1, p.Repetitions))
				if err := s.run(ctx, p, n); err != nil {
					return fmt.Errorf("%s: %s: %w", n.About.Name, s.title, err)
				}
			}
		}
	}
	return nil
}

// introduce adds a subject; the kinds keep their order, also when the first way lacks some.
func (p *phase) introduce(about benchmarks.Subject) {
	if !slices.ContainsFunc(p.result.Subjects, func(s benchmarks.Subject) bool { return s.Name == about.Name }) {
		p.result.Subjects = append(p.result.Subjects, about)
	}
	order := func(s benchmarks.Subject) int {
		return slices.IndexFunc(p.Kinds, func(k rig.NodesKind) bool { return k.Name == s.Name })
	}
	slices.SortStableFunc(p.result.Subjects, func(a, b benchmarks.Subject) int { return order(a) - order(b) })
}

// reach waits for the way between the pods: first packets ask for neighbours, and nodes learn
// of each other.
func (p *phase) reach(ctx context.Context, n *rig.Nodes) error {
	to, err := n.Pods[1].Addr(false)
	if err != nil {
		return err
	}
	var last error
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && ctx.Err() == nil; {
		if _, last = traffic.Ping(ctx, p.launcher, n.Pods[0].Namespace, to, 1); last == nil {
			p.result.Checks = append(p.result.Checks, benchmarks.Check{Subject: n.About.Name, Name: p.label("a pod reaches one of the other node"), OK: true})
			return nil
		}
	}
	return errors.Join(ctx.Err(), last)
}

func (p *phase) label(title string) string {
	return fmt.Sprintf("%s, %s, %s", p.way, map[rig.Wire]string{rig.Offload: "offloads", rig.Frames: "frames of 1500"}[p.wire], title)
}

func (p *phase) tell(subject, step string) {
	kinds := func(w string) (n int) {
		for _, k := range p.Kinds {
			if slices.Contains(k.Wires, rig.Wire(w)) {
				n++
			}
		}
		return n
	}
	total := 0
	for _, w := range p.Wires {
		total += len(p.Ways) * kinds(w) * (1 + p.Repetitions*len(nodesStreams()))
	}
	at := Progress{Step: subject + ": " + p.label(step), Done: p.done, Total: total, Elapsed: time.Since(p.started)}
	if p.done > 0 {
		at.Left = time.Duration(float64(at.Elapsed) * float64(total-p.done) / float64(p.done))
	}
	p.Progress(at)
	p.done++
}

// nodesStream is one thing that is sent from node to node.
type nodesStream struct {
	title string
	run   func(ctx context.Context, p *phase, n *rig.Nodes) error
}

func nodesStreams() []nodesStream {
	tcp := func(name, title string, streams int, reverse bool) nodesStream {
		return nodesStream{title, func(ctx context.Context, p *phase, n *rig.Nodes) error {
			return p.iperf(ctx, n, traffic.Iperf3{Streams: streams}, reverse, figure{name, title, "Gbit/s", "Gbit", func(f traffic.Figures) float64 { return f.BitsPerSecond / 1e9 }})
		}}
	}
	return []nodesStream{
		{"round trips", func(ctx context.Context, p *phase, n *rig.Nodes) error { return p.pings(ctx, n) }},
		tcp("tcp-1", "TCP, 1 stream", 1, false),
		tcp("tcp-1-back", "TCP, 1 stream, other direction", 1, true),
		tcp("tcp-4", "TCP, 4 streams", 4, false),
		tcp("tcp-4-back", "TCP, 4 streams, other direction", 4, true),
		{"UDP, 64 B payload", func(ctx context.Context, p *phase, n *rig.Nodes) error {
			return p.iperf(ctx, n, traffic.Iperf3{UDP: true, Payload: 64}, false,
				figure{"udp-64", "UDP, 64 B payload", "kpps", "million packets", func(f traffic.Figures) float64 { return f.PacketsPerSecond / 1e3 }})
		}},
	}
}

// figure is what is read off a stream.
type figure struct {
	name, title, unit string
	amount            string // what processor time is spent on: a thousand of the unit's, or one Gbit
	read              func(traffic.Figures) float64
}

// iperf runs one stream and takes its rate and what processor time it cost.
func (p *phase) iperf(ctx context.Context, n *rig.Nodes, stream traffic.Iperf3, reverse bool, f figure) error {
	client, server := n.Pods[0], n.Pods[1]
	if reverse {
		client, server = server, client
	}
	stream.Seconds = p.Seconds
	to, err := server.Addr(false)
	if err != nil {
		return err
	}
	before, err := n.Spent()
	if err != nil {
		return err
	}
	figures, err := stream.Run(ctx, p.launcher, client, server, false)
	if err != nil {
		return err
	}
	after, err := n.Spent()
	if err != nil {
		return err
	}
	m := p.measurement(n, f.name, f.title, f.unit, benchmarks.Higher)
	m.Command = "iperf3 " + strings.Join(stream.ClientArgs(to), " ")
	rate := f.read(figures)
	p.result.Add(m, rate)
	m = p.measurement(n, f.name+"-cpu", f.title+": processor", "s/"+f.amount, benchmarks.Lower)
	m.Note = "user and system time of both nodes' processes, of iperf3's client and server by its own account, and of the kernel's softirq threads; softirqs in the context of any of these count as theirs"
	amount := rate * figures.Seconds
	if f.unit == "kpps" {
		amount /= 1e3
	}
	p.result.Add(m, ((after-before).Seconds()+figures.CPUSeconds)/amount)
	return nil
}

const nodesPings = 500

func (p *phase) pings(ctx context.Context, n *rig.Nodes) error {
	to, err := n.Pods[1].Addr(false)
	if err != nil {
		return err
	}
	times, err := traffic.PingTimes(ctx, p.launcher, n.Pods[0].Namespace, to, nodesPings)
	if err != nil {
		return err
	}
	us := make([]float64, len(times))
	for i, t := range times {
		us[i] = float64(t) / float64(time.Microsecond)
	}
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		m := p.measurement(n, "ping-"+q.name, "ping round trip "+q.name, "us", benchmarks.Lower)
		m.Command, m.Note = fmt.Sprintf("ping -c %d -i 0.002 %s", nodesPings, to), fmt.Sprintf("each sample is of %d round trips", nodesPings)
		p.result.Add(m, benchmarks.Quantile(us, q.q))
	}
	return nil
}

func (p *phase) measurement(n *rig.Nodes, name, title, unit string, better benchmarks.Better) benchmarks.Measurement {
	return benchmarks.Measurement{
		Name: strings.Join([]string{p.way, string(p.wire), name}, "-"), Title: p.label(title), Subject: n.About.Name, Unit: unit, Better: better,
	}
}
