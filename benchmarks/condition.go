package benchmarks

// Condition is what the machine was like while one sample was taken: on a shared machine
// it decides which samples may be compared.
type Condition struct {
	// Distance is "near" or "far": whether the two cores shared a cache, judged by the
	// round trip of a cache line in ns just before and just after. "mixed" = it changed.
	Distance  string     `json:"distance"`
	RoundTrip [2]float64 `json:"roundTrip"`
	// Waited is the largest share of the window that a measured thread waited for its core;
	// Stolen is the share that the hypervisor took.
	Waited float64 `json:"waited"`
	Stolen float64 `json:"stolen"`
	// Raised says that measured threads went before all others (SCHED_FIFO).
	Raised bool `json:"raised"`
}

// Discarded is a sample that was taken and is not compared.
type Discarded struct {
	Name      string    `json:"name"`
	Subject   string    `json:"subject"`
	Sample    float64   `json:"sample"`
	Condition Condition `json:"condition"`
	Why       string    `json:"why"`
}
