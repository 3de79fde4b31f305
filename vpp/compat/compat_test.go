package compat

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vpe"

	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vpp/vpptest"
)

func TestMain(m *testing.M) { machinetest.Main(m) }

// TestMachinesHaveWhatIsEssential: the engine, and VPP 25.10 where there is one.
func TestMachinesHaveWhatIsEssential(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			m.Start(t)
			r, err := Probe(t.Context(), m.Connect(t))
			if err != nil || r.Err() != nil {
				t.Errorf("%s: %v %v", r.Name(), err, r.Err())
			}
			for _, g := range r.Gaps {
				t.Log(g)
			}
		})
	}
}

// TestGaps leaves messages out of a machine that has all, one feature after the other.
func TestGaps(t *testing.T) {
	for i, f := range Features() {
		t.Run(f.Name, func(t *testing.T) {
			s := machineWith(t, func(msg api.Message) bool {
				return reflect.TypeOf(msg) != reflect.TypeOf(f.Messages[len(f.Messages)-1])
			})
			r := probe(t, s)
			if len(r.Gaps) != 1 || r.Gaps[0].Feature != f.Name || len(r.Gaps[0].Missing) != 1 {
				t.Fatalf("gaps %v", r.Gaps)
			}
			err := r.Err()
			if (err != nil) != f.Essential {
				t.Fatalf("error %v", err)
			}
			if i < 3 && (!strings.Contains(err.Error(), "VPP 24.06 lacks "+r.Gaps[0].Missing[0]) || !strings.Contains(err.Error(), "install VPP 25.10")) {
				t.Errorf("error %v", err)
			}
		})
	}
	if r := probe(t, machineWith(t, func(api.Message) bool { return true })); len(r.Gaps) != 0 {
		t.Errorf("gaps of a whole machine: %v", r.Gaps)
	}
}

// another is a message of an older release: its name, and another CRC.
type another struct{ api.Message }

func (another) GetCrcString() string { return "0badc0de" }

// TestOtherCRC: a message that the machine has in another form is missing, and both are told.
func TestOtherCRC(t *testing.T) {
	s := machineWith(t, func(msg api.Message) bool { return msg.GetMessageName() != "acl_add_replace" })
	for _, f := range Features() {
		for _, msg := range f.Messages {
			if msg.GetMessageName() == "acl_add_replace" {
				vpptest.Handle(s, func(*vpptest.Peer, uint32, *vlib.ShowThreads) {}, another{msg})
			}
		}
	}
	err := probe(t, s).Err()
	if want := "VPP 24.06 lacks acl_add_replace_"; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "(it has acl_add_replace_0badc0de)") ||
		!strings.HasSuffix(err.Error(), ": install VPP 25.10") {
		t.Errorf("error %v", err)
	}
}

// machineWith calls itself VPP 24.06 and has those messages of Features in its table that
// keep says.
func machineWith(t *testing.T, keep func(api.Message) bool) *vpptest.Server {
	t.Helper()
	s := vpptest.New(t)
	var table []api.Message
	for _, f := range Features() {
		for _, msg := range f.Messages {
			if keep(msg) {
				table = append(table, msg)
			}
		}
	}
	vpptest.Handle(s, func(p *vpptest.Peer, context uint32, _ *vpe.ShowVersion) {
		p.Reply(context, &vpe.ShowVersionReply{Program: "vpe", Version: "24.06"})
	}, table...)
	return s
}

func probe(t *testing.T, s *vpptest.Server) Report {
	t.Helper()
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: s.Socket})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := Probe(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestFeaturesNameWhatIsUsed reads the sources of those who call messages: each message
// has to be in some feature, or its lack would be found out in the middle of work.
func TestFeaturesNameWhatIsUsed(t *testing.T) {
	known := map[string]bool{}
	for _, f := range Features() {
		for _, msg := range f.Messages {
			typ := reflect.TypeOf(msg).Elem()
			known[typ.PkgPath()+"."+typ.Name()] = true
		}
	}
	messages := map[string]bool{}
	for _, byName := range api.GetRegisteredMessages() {
		for _, msg := range byName {
			typ := reflect.TypeOf(msg).Elem()
			messages[typ.PkgPath()+"."+typ.Name()] = true
		}
	}
	for _, dir := range []string{"../../agent/program", "../../vppmanager/uplink"} {
		for _, used := range uses(t, dir) {
			if messages[used] && !known[used] {
				t.Errorf("%s is used in %s: add it to a feature in features.go", used, dir)
			}
		}
	}
}

// uses lists what the sources of a directory name of other packages, as path.Name.
func uses(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("sources of %s: %v, %v", dir, files, err)
	}
	var all []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		paths := map[string]string{}
		for _, i := range tree.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Base(path)
			if name == "interface" {
				name = "interfaces"
			}
			if i.Name != nil {
				name = i.Name.Name
			}
			paths[name] = path
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if pkg, ok := sel.X.(*ast.Ident); ok && paths[pkg.Name] != "" {
					all = append(all, paths[pkg.Name]+"."+sel.Sel.Name)
				}
			}
			return true
		})
	}
	slices.Sort(all)
	return slices.Compact(all)
}
