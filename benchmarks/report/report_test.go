package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/benchmarks"
)

func sample() *benchmarks.Result {
	r := &benchmarks.Result{
		Schema: benchmarks.Schema, Title: "Two pods", Complete: true,
		Started:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Machine:  benchmarks.Machine{CPU: "CPU <x>", Cores: 2, Kernel: "6.1", Go: "go1.26"},
		Subjects: []benchmarks.Subject{{Name: "engine", Version: "v1\nmore", Detail: "TUN"}, {Name: "kernel", Version: "Linux"}},
		Checks:   []benchmarks.Check{{Subject: "engine", Name: "ping", OK: true, Detail: "80us"}, {Subject: "engine", Name: "ping6", Detail: "<lost>"}},
	}
	tcp := benchmarks.Measurement{Name: "tcp", Title: "TCP", Unit: "Gbit/s", Better: benchmarks.Higher}
	add := benchmarks.Measurement{Name: "cni-add", Title: "CNI ADD", Unit: "ms", Better: benchmarks.Lower}
	for i, s := range []string{"engine", "kernel"} {
		tcp.Subject, add.Subject = s, s
		for j := range 3 {
			r.Add(tcp, float64((i+1)*10+j))
		}
		for j := range 50 {
			r.Add(add, float64(j+1)*float64(i+1))
		}
	}
	return r
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := Table(&b, sample()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 of 2 checks passed", "FAILED engine: ping6", "engine/kernel", "CNI ADD p99, ms", "11.0", "0.52x"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, b.String())
		}
	}
}

// TestHTMLIsWellFormed parses the page's pictures as XML and looks for a sample drawn,
// for escaping, and for anything fetched from elsewhere.
func TestHTMLIsWellFormed(t *testing.T) {
	var b bytes.Buffer
	if err := HTML(&b, sample()); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if n := strings.Count(text, "<svg"); n != 2 {
		t.Errorf("%d pictures, want 2", n)
	}
	if n := strings.Count(text, "<circle"); n != 6 {
		t.Errorf("%d dots, want one per TCP sample: 6", n)
	}
	if strings.Contains(text, "<lost>") || strings.Contains(text, "CPU <x>") {
		t.Error("text from the result is not escaped")
	}
	for _, outside := range []string{"http://", "https://", "<script", "src="} {
		if strings.Contains(text, outside) {
			t.Errorf("page refers to something outside itself: %s", outside)
		}
	}
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, "<svg")
		if !ok {
			break
		}
		body, after, _ := strings.Cut(after, "</svg>")
		wellFormed(t, "<svg"+body+"</svg>")
		rest = after
	}
}

func wellFormed(t *testing.T, picture string) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(picture))
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("picture is not XML: %v", err)
			return
		}
	}
}

func TestRenderReadme(t *testing.T) {
	load := func(name string) (*benchmarks.Result, error) {
		if name != "demo" {
			return nil, errors.New("no result " + name)
		}
		return sample(), nil
	}
	got, err := render("a\n<!-- results:demo -->\nold\n<!-- /results -->\nb\n", load)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got, "a\n<!-- results:demo -->\n| figure |") || !strings.HasSuffix(got, "<!-- /results -->\nb\n") || strings.Contains(got, "old") {
		t.Errorf("rendered:\n%s", got)
	}
	again, err := render(got, load)
	if err != nil || again != got {
		t.Errorf("rendering twice changes the text: %v", err)
	}
	for _, broken := range []string{"<!-- results:demo", "<!-- results:demo -->\n", "<!-- results:other -->\n<!-- /results -->"} {
		if _, err := render(broken, load); err == nil {
			t.Errorf("render(%q) is no error", broken)
		}
	}
}

func TestNumber(t *testing.T) {
	for in, want := range map[float64]string{0.123: "0.12", 9.994: "9.99", 12.34: "12.3", 1234.5: "1234"} {
		if got := number(in); got != want {
			t.Errorf("number(%v) = %s, want %s", in, got, want)
		}
	}
}

// TestMarkdownLeavesOutAsides: they are in the table on the terminal, not in the README's.
func TestMarkdownLeavesOutAsides(t *testing.T) {
	r := sample()
	r.Add(benchmarks.Measurement{Name: "full", Title: "ring full", Subject: "engine", Unit: "%", Aside: true}, 1)
	var short, whole bytes.Buffer
	if err := errors.Join(Markdown(&short, r), Table(&whole, r)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(short.String(), "ring full") || !strings.Contains(short.String(), "TCP") || !strings.Contains(whole.String(), "ring full") {
		t.Errorf("README:\n%s\nterminal:\n%s", short.String(), whole.String())
	}
}
