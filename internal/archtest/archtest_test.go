package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// file is one parsed Go file of the tree, with its package's path relative to the module.
type file struct {
	path      string
	pkg       string
	name      string
	test      bool
	generated bool
	doc       string
	imports   []string
	syntax    *ast.File
}

func tree(t *testing.T) []file {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var files []file
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parse(path, rel)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found %d Go files below %s: the walk is broken", len(files), root)
	}
	return files
}

func parse(path, rel string) (file, error) {
	syntax, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	f := file{
		path: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), name: syntax.Name.Name,
		test: strings.HasSuffix(rel, "_test.go"), generated: ast.IsGenerated(syntax), syntax: syntax,
	}
	if syntax.Doc != nil && !f.generated {
		f.doc = syntax.Doc.Text()
	}
	for _, spec := range syntax.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, err
		}
		f.imports = append(f.imports, imp)
	}
	return f, nil
}

func TestImportLaw(t *testing.T) {
	for _, f := range tree(t) {
		for _, imp := range f.imports {
			if v := Violation(Law(), f.pkg, imp, f.test); v != "" {
				t.Errorf("%s: %s", f.path, v)
			}
		}
	}
}

// TestPureClock finds time.Now and its kin in pure packages: importing time for
// durations is fine there, reading the clock is not.
func TestPureClock(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc"}
	for _, f := range tree(t) {
		room, err := RoomOf(Law(), f.pkg)
		if err != nil || !room.Pure || f.test {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, sel.Sel.Name) {
				t.Errorf("%s reads the clock with time.%s, and %s is pure", f.path, sel.Sel.Name, room.Path)
			}
			return true
		})
	}
}

func TestPackageDocs(t *testing.T) {
	docs := map[string][]string{}
	for _, f := range tree(t) {
		if f.test || f.generated {
			continue
		}
		if _, seen := docs[f.pkg]; !seen {
			docs[f.pkg] = nil
		}
		if f.doc != "" {
			docs[f.pkg] = append(docs[f.pkg], f.path)
			if len(f.doc) < 80 {
				t.Errorf("%s: the package's doc is a stub; say what it owns and what it never does", f.path)
			}
		}
	}
	for pkg, in := range docs {
		if len(in) != 1 {
			t.Errorf("package %s has %d doc comments %v, want exactly one", pkg, len(in), in)
		}
	}
}

func TestUnsafeStaysInItsFiles(t *testing.T) {
	for _, f := range tree(t) {
		if !slices.Contains(f.imports, "unsafe") || f.generated {
			continue
		}
		name := strings.TrimSuffix(strings.TrimSuffix(f.path, "_test.go"), ".go")
		if !strings.HasSuffix(name, "_unsafe") {
			t.Errorf("%s imports unsafe; only *_unsafe.go files may", f.path)
		}
		if !within(f.pkg, "engine") && !within(f.pkg, "memif") {
			t.Errorf("%s imports unsafe; only engine and memif need it", f.path)
		}
	}
}

func TestNames(t *testing.T) {
	banned := []string{"utils", "util", "common", "helpers", "helper", "types", "base", "misc", "lib"}
	// Methods that interfaces of others ask for: govpp's api.Message, host-local's Store,
	// Kubernetes' metav1.Object and runtime.Object.
	foreign := []string{"GetMessageName", "GetMessageType", "GetCrcString", "GetByID",
		"GetName", "GetNamespace", "GetResourceVersion", "GetObjectKind"}
	for _, f := range tree(t) {
		if slices.Contains(banned, f.name) {
			t.Errorf("%s: package name %s says nothing; name what it owns", f.path, f.name)
		}
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.generated {
				continue
			}
			if fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function; wire it where it is used", f.path)
			}
			if n := fn.Name.Name; fn.Recv != nil && len(n) > 3 && strings.HasPrefix(n, "Get") && n[3] >= 'A' && n[3] <= 'Z' {
				if !slices.Contains(foreign, n) {
					t.Errorf("%s: %s: no Get prefix", f.path, n)
				}
			}
		}
	}
}

// TestArchitecturePage fails when docs/ARCHITECTURE.md shows another law than the one enforced.
func TestArchitecturePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := Table(Law()); !strings.Contains(string(page), want) {
		t.Errorf("docs/ARCHITECTURE.md does not hold the table of the law; it should read:\n%s", want)
	}
}

func TestViolation(t *testing.T) {
	tests := []struct {
		pkg, imp string
		forbid   bool
	}{
		{"policy", Module + "/cluster", false},
		{"policy", Module + "/vpp", true},
		{"policy", "net/netip", false},
		{"policy", "net", true},
		{"cluster", "net/http", true},
		{"agent/compile", "context", true},
		{"agent", "k8s.io/client-go/kubernetes", true},
		{"agent/watch", "k8s.io/client-go/kubernetes", false},
		{"engine/api", Module + "/engine/vnet", false},
		{"engine/api", Module + "/dataplane", true},
		{"engine/fib", "k8s.io/api/core/v1", true},
		{"cmd/millrace-cni", Module + "/agent", true},
		{"cmd/millrace", Module + "/agent", false},
		{"agent", Module + "/agent/program", false},
		{"unknown", "fmt", true},
	}
	for _, tt := range tests {
		v := Violation(Law(), tt.pkg, tt.imp, false)
		if (v != "") != tt.forbid {
			t.Errorf("Violation(%s, %s) = %q, want forbidden %t", tt.pkg, tt.imp, v, tt.forbid)
		}
	}
}

// TestArchitecturePageNamesFiles: a walk that names a file which is not there misleads.
func TestArchitecturePageNamesFiles(t *testing.T) {
	page, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	dir, named := "", 0
	for _, word := range regexp.MustCompile("`[a-z0-9_/.-]+\\.go`").FindAllString(string(page), -1) {
		path := strings.Trim(word, "`")
		if strings.Contains(path, "/") {
			dir = filepath.Dir(path)
		} else { // after a full path, a bare name stands for its neighbour
			path = filepath.Join(dir, path)
		}
		if _, err := os.Stat(filepath.Join("../..", path)); err != nil {
			t.Errorf("docs/ARCHITECTURE.md names %s: %v", path, err)
		}
		named++
	}
	if named < 20 {
		t.Errorf("found %d files named on the page; the walks should name more", named)
	}
}
