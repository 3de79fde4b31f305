package vppmanager

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/vpp/compat"
	"github.com/millrace/millrace/vppmanager/startup"
	"github.com/millrace/millrace/vppmanager/supervise"
)

// Phase is where the run stands: one of ours, or one of the dataplane's process.
type Phase = supervise.Phase

// The phases before and after those of the process.
const (
	Preparing  Phase = "preparing"
	Undoing    Phase = "undoing what an earlier manager left"
	Changing   Phase = "changing the host"
	GivingBack Phase = "putting the host back"
	Stopped    Phase = supervise.Stopped
)

// Status is what GET /status answers.
type Status struct {
	Phase     Phase            `json:"phase"`
	Ready     bool             `json:"ready"`
	Since     time.Time        `json:"since"` // of the phase
	Dataplane string           `json:"dataplane,omitempty"`
	Reason    string           `json:"reason,omitempty"`  // why this dataplane
	Version   string           `json:"version,omitempty"` // what it says it is
	Missing   []compat.Gap     `json:"missing"`           // features that this version cannot have
	PID       int              `json:"pid,omitempty"`
	Restarts  int              `json:"restarts"`
	LastEnd   string           `json:"lastEnd,omitempty"` // how the last process ended
	Uplinks   []UplinkStatus   `json:"uplinks"`
	LastCrash *supervise.Crash `json:"lastCrash,omitempty"`
	Notes     []string         `json:"notes,omitempty"`
}

// UplinkStatus is one way out of the node.
type UplinkStatus struct {
	Name      string         `json:"name"`
	Driver    string         `json:"driver"`
	PCI       string         `json:"pci,omitempty"`
	Link      string         `json:"link,omitempty"` // of the kernel, below the dataplane
	Host      string         `json:"host,omitempty"` // link through which the host reaches the network
	Members   []string       `json:"members,omitempty"`
	MTU       int            `json:"mtu,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
}

// state is what the run knows of itself, for those who ask.
type state struct {
	timing supervise.Timing

	mu     sync.Mutex
	status Status
	pulse  time.Time     // the last sign of life
	quiet  time.Duration // how long none may come in this phase
}

func newState(t supervise.Timing) *state {
	s := &state{timing: t}
	s.status.Uplinks, s.status.Missing = []UplinkStatus{}, []compat.Gap{}
	s.enter(Preparing)
	return s
}

// hostPatience is how long changing the host may take without a sign of life: drivers take
// seconds for a device, and there may be many.
const hostPatience = 5 * time.Minute

// enter is for the phases in which no process runs.
func (s *state) enter(p Phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Phase, s.status.Since, s.status.Ready, s.status.PID = p, time.Now(), false, 0
	s.pulse, s.quiet = time.Now(), hostPatience
}

func (s *state) planned(p startup.Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Dataplane, s.status.Reason, s.status.Notes = string(p.Dataplane), p.Reason, p.Notes
	s.status.Uplinks = []UplinkStatus{}
	for _, u := range p.Uplinks {
		us := UplinkStatus{Name: u.Name, Driver: string(u.Driver), PCI: u.PCI, Link: u.Link, Host: u.Host, MTU: u.MTU, Addresses: u.Addresses}
		for _, m := range u.Members {
			us.Members = append(us.Members, m.Name)
		}
		s.status.Uplinks = append(s.status.Uplinks, us)
	}
}

// supervised takes over the state of the process.
func (s *state) supervised(st supervise.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.Phase == supervise.Starting {
		s.status.Version, s.status.Missing = "", []compat.Gap{}
	}
	s.status.Phase, s.status.Since, s.status.Ready = st.Phase, st.Since, st.Phase == supervise.Ready
	s.status.PID, s.status.Restarts, s.status.LastEnd, s.status.LastCrash = st.PID, st.Restarts, st.Last, st.Crash
	// The longest that the supervisor waits without a word is for an answer, and for an end.
	s.pulse, s.quiet = time.Now(), s.timing.Hang+s.timing.Stop+5*time.Second
}

// probed takes over what a dataplane is and lacks.
func (s *state) probed(r compat.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Version, s.status.Missing = r.Name(), r.Gaps
}

// about is the version of the process that runs, or ran last.
func (s *state) about() string { return s.read().Version }

// alive notes a sign of life.
func (s *state) alive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulse = time.Now()
}

// stuck says since when there has been no sign of life, when that is too long.
func (s *state) stuck() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if silent := time.Since(s.pulse); silent > s.quiet {
		return fmt.Errorf("no progress for %v while %s", silent.Round(time.Second), s.status.Phase)
	}
	return nil
}

func (s *state) read() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Uplinks, st.Notes, st.Missing = slices.Clone(st.Uplinks), slices.Clone(st.Notes), slices.Clone(st.Missing)
	return st
}
