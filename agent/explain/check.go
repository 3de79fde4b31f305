package explain

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/millrace/millrace/internal/strictjson"
	"github.com/millrace/millrace/policy/oracle"
	"github.com/millrace/millrace/policy/verdict"
)

// Expectation is one entry of a flows file.
type Expectation struct {
	From, To Endpoint
	Service  Service
	Allow    bool
}

// ReadFlows reads a flows file: a list, in YAML or JSON, of
//
//	{from: ns/pod or IP, to: ns/pod or IP, port: 80, protocol: TCP|UDP|SCTP, expect: allow|deny}
//
// Without protocol it is TCP. Errors name the file, the entry by its index, from 0, and
// the field; all are reported together.
func ReadFlows(file string, data []byte) ([]Expectation, error) {
	text, err := onlyDocument(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	items, err := strictjson.Items(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w of {from: ns/pod or IP, to: ns/pod or IP, port: 80, protocol: TCP, expect: allow}", file, err)
	}
	list := make([]Expectation, 0, len(items))
	var errs []error
	for i, item := range items {
		e, err := readExpectation(item)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %w", file, i, err))
		}
		list = append(list, e)
	}
	return list, errors.Join(errs...)
}

// onlyDocument turns the one document of a file into JSON: of a second, a parser would say
// nothing.
func onlyDocument(data []byte) (text []byte, err error) {
	r := documents.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := r.Read()
		if errors.Is(err, io.EOF) {
			return text, nil
		}
		var next []byte
		if err == nil {
			next, err = yaml.YAMLToJSONStrict(document)
		}
		switch {
		case err != nil:
			return nil, err
		case string(bytes.TrimSpace(next)) == "null":
		case text != nil:
			return nil, errors.New("it holds several YAML documents: want one list")
		default:
			text = next
		}
	}
}

func readExpectation(item []byte) (e Expectation, err error) {
	members, err := strictjson.Members(item)
	if err != nil {
		return e, err
	}
	e.Service.Protocol = oracle.TCP
	missing := []string{"from", "to", "port", "expect"}
	for _, m := range members {
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == m.Key })
		if err := e.read(m.Key, m.Raw); err != nil {
			return e, fmt.Errorf("%s: %w", m.Key, err)
		}
	}
	if len(missing) > 0 {
		return e, fmt.Errorf("%s: is missing", missing[0])
	}
	return e, nil
}

func (e *Expectation) read(key string, raw json.RawMessage) (err error) {
	if key == "port" {
		return readPort(raw, &e.Service.Port)
	}
	var text string
	if !slices.Contains([]string{"from", "to", "protocol", "expect"}, key) {
		return errors.New("no such field: want from, to, port, protocol and expect")
	}
	if json.Unmarshal(raw, &text) != nil {
		return fmt.Errorf("%s: want a text", raw)
	}
	switch key {
	case "from":
		e.From, err = ParseEndpoint(text)
	case "to":
		e.To, err = ParseEndpoint(text)
	case "protocol":
		e.Service.Protocol, err = ParseProtocol(text)
	case "expect":
		if e.Allow = text == "allow"; !e.Allow && text != "deny" {
			err = fmt.Errorf("%q: want allow or deny", text)
		}
	}
	return err
}

func readPort(raw json.RawMessage, into *uint16) error {
	if json.Unmarshal(raw, into) != nil || *into == 0 {
		return fmt.Errorf("%s: want a number of 1 to 65535", raw)
	}
	return nil
}

// Mismatch is an expectation that the compiled ACLs do not meet.
type Mismatch struct {
	Index    int // in the list
	Expected Expectation
	Flow     oracle.Flow // the pair of addresses for which they do not
	Compiled verdict.Verdict
	Policies oracle.Verdict
}

// String is one line.
func (m Mismatch) String() string {
	word := map[bool]string{true: "allow", false: "deny"}
	d := m.Policies.Deciding()
	var b strings.Builder
	fmt.Fprintf(&b, "[%d] %s to %s (%s): want %s, got %s: ", m.Index, m.Expected.From, m.Expected.To, m.Flow, word[m.Expected.Allow], word[m.Compiled.Allowed])
	if m.Policies.Allowed != m.Compiled.Allowed {
		fmt.Fprintf(&b, "the ACLs are wrong, please report it: the policies %s it; ", word[m.Policies.Allowed])
	}
	fmt.Fprintf(&b, "%s; %s", describe(d), m.Compiled.Deciding())
	return b.String()
}

// describe is a decision in one phrase.
func describe(d oracle.Decision) string {
	var b strings.Builder
	if d.Tier == oracle.TierNone {
		return d.Reason
	}
	fmt.Fprintf(&b, "%s of pod %s", d.Direction, d.Pod)
	if d.Policy != "" {
		fmt.Fprintf(&b, ", %s", d.Policy)
	}
	if d.Rule >= 0 {
		fmt.Fprintf(&b, " %s[%d]", d.Direction, d.Rule)
	}
	return b.String() + ": " + d.Reason
}

// Entries is how many entries of the list mismatches are about.
func Entries(list []Mismatch) int {
	n := 0
	for i, m := range list {
		if i == 0 || list[i-1].Index != m.Index {
			n++
		}
	}
	return n
}

// Check judges each expectation by the compiled ACLs. A pod with several addresses has to
// meet it with each. Errors about entries are like those of ReadFlows.
func (c *Cluster) Check(file string, list []Expectation) ([]Mismatch, error) {
	var found []Mismatch
	var errs []error
	for i, e := range list {
		flows, err := c.Flows(e.From, e.To, e.Service)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %w", file, i, err))
			continue
		}
		for _, f := range flows {
			v, err := c.Compiled(f)
			if err != nil {
				return nil, err
			}
			if v.Allowed != e.Allow {
				found = append(found, Mismatch{i, e, f, v, c.world.Judge(f)})
			}
		}
	}
	return found, errors.Join(errs...)
}
