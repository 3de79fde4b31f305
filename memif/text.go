package memif

import "strconv"

// The text forms below are those of String. With them a Role, a Mode and an RxMode can be
// fields of a configuration file, and flags by flag.TextVar.

// MarshalText returns "server" or "client".
func (r Role) MarshalText() ([]byte, error) { return marshal(r, Server, Client) }

// UnmarshalText takes "server" or "client".
func (r *Role) UnmarshalText(text []byte) (err error) {
	*r, err = unmarshal(text, "role", Server, Client)
	return err
}

// MarshalText returns "ethernet" or "ip".
func (m Mode) MarshalText() ([]byte, error) { return marshal(m, Ethernet, IP) }

// UnmarshalText takes "ethernet" or "ip".
func (m *Mode) UnmarshalText(text []byte) (err error) {
	*m, err = unmarshal(text, "mode", Ethernet, IP)
	return err
}

func (m RxMode) String() string {
	switch m {
	case Interrupt:
		return "interrupt"
	case Polling:
		return "polling"
	case Adaptive:
		return "adaptive"
	}
	return "rx-mode-" + strconv.Itoa(int(m))
}

// MarshalText returns "interrupt", "polling" or "adaptive".
func (m RxMode) MarshalText() ([]byte, error) { return marshal(m, Interrupt, Polling, Adaptive) }

// UnmarshalText takes "interrupt", "polling" or "adaptive".
func (m *RxMode) UnmarshalText(text []byte) (err error) {
	*m, err = unmarshal(text, "rx mode", Interrupt, Polling, Adaptive)
	return err
}

// named is a number with few values, each with a name.
type named interface {
	comparable
	String() string
}

func marshal[T named](v T, known ...T) ([]byte, error) {
	for _, k := range known {
		if k == v {
			return []byte(v.String()), nil
		}
	}
	return nil, badConfig("%s has no text form", v.String())
}

func unmarshal[T named](text []byte, what string, known ...T) (T, error) {
	want := ""
	for n, k := range known {
		switch {
		case k.String() == string(text):
			return k, nil
		case n > 0 && n == len(known)-1:
			want += " or "
		case n > 0:
			want += ", "
		}
		want += k.String()
	}
	var zero T
	return zero, badConfig("%s %q: want %s", what, text, want)
}
