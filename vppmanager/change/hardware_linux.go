package change

import (
	"errors"
	"fmt"
	"maps"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// hardware is what ethtool sets on a link, as far as its driver knows it.
type hardware struct {
	Features map[string]bool    `json:"features,omitempty"` // as asked for, those that can be changed
	Rings    *ethtool.Ring      `json:"rings,omitempty"`
	Channels *ethtool.Channels  `json:"channels,omitempty"`
	Coalesce *ethtool.Coalesce  `json:"coalesce,omitempty"`
	Pause    *ethtool.Pause     `json:"pause,omitempty"`
	Wake     *ethtool.WakeOnLan `json:"wake,omitempty"`
}

// readHardware leaves out what the driver does not know.
func readHardware(link string) (*hardware, error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("ask ethtool: %w", err)
	}
	defer e.Close()
	var hw hardware
	features, err := e.FeaturesWithState(link)
	if err != nil && !unknown(err) {
		return nil, fmt.Errorf("read features: %w", err)
	}
	for name, f := range features {
		if f.Available && !f.NeverChanged {
			if hw.Features == nil {
				hw.Features = map[string]bool{}
			}
			hw.Features[name] = f.Requested
		}
	}
	return &hw, errors.Join(
		read("rings", e.GetRing, link, &hw.Rings), read("channels", e.GetChannels, link, &hw.Channels),
		read("coalescing", e.GetCoalesce, link, &hw.Coalesce), read("pause", e.GetPause, link, &hw.Pause),
		read("wake-on-LAN", e.GetWakeOnLan, link, &hw.Wake))
}

// unknown says that a driver has no such setting.
func unknown(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV)
}

func read[T any](what string, ask func(string) (T, error), link string, into **T) error {
	value, err := ask(link)
	if unknown(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	*into = &value
	return nil
}

// writeHardware sets what is another one now. What the driver refuses is told and hinders
// nothing: a link with other rings is better than none.
func (h Host) writeHardware(link string, want *hardware) error {
	if want == nil {
		return nil
	}
	have, err := readHardware(link)
	if err != nil {
		return err
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("ask ethtool: %w", err)
	}
	defer e.Close()
	// Channels first: changing them resets rings with some drivers.
	restore(h, link, "channels", have.Channels, want.Channels, func(v ethtool.Channels) error { _, err := e.SetChannels(link, v); return err })
	restore(h, link, "rings", have.Rings, want.Rings, func(v ethtool.Ring) error { _, err := e.SetRing(link, v); return err })
	restore(h, link, "coalescing", have.Coalesce, want.Coalesce, func(v ethtool.Coalesce) error { _, err := e.SetCoalesce(link, v); return err })
	restore(h, link, "pause", have.Pause, want.Pause, func(v ethtool.Pause) error { _, err := e.SetPause(link, v); return err })
	restore(h, link, "wake-on-LAN", have.Wake, want.Wake, func(v ethtool.WakeOnLan) error { _, err := e.SetWakeOnLan(link, v); return err })
	others := maps.Clone(want.Features)
	maps.DeleteFunc(others, func(name string, on bool) bool { now, ok := have.Features[name]; return !ok || now == on })
	if len(others) > 0 {
		if err := e.Change(link, others); err != nil {
			h.tell("features of %s could not be set again (%v): %v", link, others, err)
		}
		h.reached("ethtool")
	}
	return nil
}

func restore[T comparable](h Host, link, what string, have, want *T, set func(T) error) {
	if want == nil || have != nil && *have == *want {
		return
	}
	if err := set(*want); err != nil {
		h.tell("%s of %s could not be set again: %v", what, link, err)
	}
	h.reached("ethtool")
}
