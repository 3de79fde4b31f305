package change

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millrace/millrace/vppmanager/startup"
)

// The journal is lines of JSON, appended and never changed:
//
//	{"journal":"millrace-manager","version":1,"boot":"6d5c..."}
//	{"step":1,"mark":"intend","change":{"kind":"unbind",...},"before":{"driver":"e1000e",...}}
//	{"step":1,"mark":"done"}
//	{"step":1,"mark":"undone"}
//
// Each line is on disk before what it announces is done. A last line that is torn was never
// on disk as a whole, so nothing followed from it.
const (
	journalName    = "millrace-manager"
	journalVersion = 1
	lineMax        = 32 << 20  // bytes; a link with 200 000 routes needs about that
	journalMax     = 128 << 20 // bytes
)

type head struct {
	Journal string `json:"journal"`
	Version int    `json:"version"`
	Boot    string `json:"boot"` // the kernel's boot_id
}

// mark is one line after the head.
type mark struct {
	Step   int             `json:"step"`
	Mark   string          `json:"mark"`
	Change *startup.Change `json:"change,omitempty"` // of intend
	Before *state          `json:"before,omitempty"` // of intend
	After  *state          `json:"after,omitempty"`  // of done; of undo: what undoing has to reach
}

// The marks.
const (
	markIntend = "intend" // about to be done
	markDone   = "done"
	markUndo   = "undo" // about to be undone, where that cannot be read off the host
	markUndone = "undone"
)

// step is a change with what became of it.
type step struct {
	ID     int
	Change startup.Change
	Before state
	After  *state // as do returned it; nil also when it was not finished
	Target *state // what undoing has to reach, once that is decided
	Done   bool
	Undone bool
}

// contents are a journal's, as far as it is whole.
type contents struct {
	head  head
	steps []*step
	whole int // bytes before a torn last line
}

// errVersion is a journal that another release wrote.
var errVersion = errors.New("written by another release of millrace: run `millrace manager undo` of that release")

// parseJournal reads a journal. Nothing at all, or a torn head, is a journal in which
// nothing happened.
func parseJournal(data []byte) (contents, error) {
	var c contents
	for number := 1; len(data) > c.whole; number++ {
		line, _, ended := bytes.Cut(data[c.whole:], []byte("\n"))
		last := c.whole+len(line)+1 >= len(data)
		if !ended {
			return c, nil
		}
		var err error
		if number == 1 {
			err = c.readHead(line)
		} else {
			err = c.readMark(line)
		}
		// A power cut may leave the length of a line and not its text.
		if err != nil && last && !json.Valid(line) {
			return c, nil
		}
		if err != nil {
			return c, fmt.Errorf("line %d: %w", number, err)
		}
		c.whole += len(line) + 1
	}
	return c, nil
}

func (c *contents) readHead(line []byte) error {
	var h head
	if err := json.Unmarshal(line, &h); err != nil || h.Journal != journalName {
		return errors.New("this is no journal of the millrace manager")
	}
	if h.Version != journalVersion {
		return fmt.Errorf("version %d: %w", h.Version, errVersion)
	}
	if h.Boot == "" {
		return errors.New("the boot id is missing")
	}
	c.head = h
	return nil
}

func (c *contents) readMark(line []byte) error {
	var m mark
	if !json.Valid(line) { // the decoder below would not see what follows a value
		return errors.New("damaged: no JSON")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	if m.Mark == markIntend {
		if m.Step != len(c.steps)+1 || m.Change == nil || m.Before == nil {
			return fmt.Errorf("step %d: want step %d with a change and what was before", m.Step, len(c.steps)+1)
		}
		if err := check(*m.Change); err != nil {
			return err
		}
		if err := m.Before.fits(*m.Change); err != nil {
			return err
		}
		c.steps = append(c.steps, &step{ID: m.Step, Change: *m.Change, Before: *m.Before})
		return nil
	}
	if m.Step < 1 || m.Step > len(c.steps) {
		return fmt.Errorf("step %d: there is none", m.Step)
	}
	s := c.steps[m.Step-1]
	switch m.Mark {
	case markDone:
		s.Done, s.After = true, m.After
	case markUndo:
		s.Target = m.After
	case markUndone:
		s.Undone = true
	default:
		return fmt.Errorf("mark %q: there is none", m.Mark)
	}
	return nil
}

// fits says whether a state has what the undoing of a change takes from it.
func (s state) fits(c startup.Change) error {
	switch c.Kind {
	case startup.SaveLink:
		if s.Saved == nil {
			return errors.New("the settings of the link are missing")
		}
		return s.Saved.valid()
	case startup.ReleaseMember, startup.LinkDown, startup.RenameLink, startup.FlushLink, startup.XDPProgram:
		if s.Link == nil {
			return errors.New("the link is missing")
		}
	}
	return nil
}

func encodeLine(v any) ([]byte, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(line) >= lineMax {
		return nil, fmt.Errorf("what has to be kept takes %d MiB, more than %d: remove routes from the link first", len(line)>>20, lineMax>>20)
	}
	return append(line, '\n'), nil
}
