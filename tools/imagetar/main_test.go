package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, program := range []string{"millrace", "millrace-cni"} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("program "+program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "image.tar")
	if err := (image{programs: dir, tag: "millrace:dev", version: "v1", arch: "amd64"}).write(out); err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// entries are the files of a tar archive.
func entries(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	files := map[string]string{}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(data) + h.Linkname
	}
}

func TestSameProgramsMakeTheSameImage(t *testing.T) {
	if !bytes.Equal(read(t, write(t)), read(t, write(t))) {
		t.Error("two runs differ")
	}
}

// TestNames: containerd keeps the image by the name that the kubelet asks for, and docker by
// its own.
func TestNames(t *testing.T) {
	files := entries(t, bytes.NewReader(read(t, write(t))))
	var index struct {
		Manifests []struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal([]byte(files["index.json"]), &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("index.json: %v in %s", err, files["index.json"])
	}
	if got := index.Manifests[0].Annotations["io.containerd.image.name"]; got != "docker.io/library/millrace:dev" {
		t.Errorf("containerd is told %q", got)
	}
	var list []struct{ RepoTags []string }
	if err := json.Unmarshal([]byte(files["manifest.json"]), &list); err != nil || len(list) != 1 || len(list[0].RepoTags) != 1 || list[0].RepoTags[0] != "millrace:dev" {
		t.Errorf("manifest.json: %v in %s", err, files["manifest.json"])
	}
}

// TestContents reads the archive as docker does.
func TestContents(t *testing.T) {
	tag, err := name.NewTag("millrace:dev")
	if err != nil {
		t.Fatal(err)
	}
	built, err := tarball.ImageFromPath(write(t), &tag)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := built.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	layer, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	files := entries(t, layer)
	for path, want := range map[string]string{
		"usr/bin/millrace": "program millrace", "usr/libexec/millrace/millrace-cni": "program millrace-cni", "var/run": "../run",
	} {
		if files[path] != want {
			t.Errorf("%s holds %q, want %q", path, files[path], want)
		}
	}
}

func TestWriteNamesWhatIsMissing(t *testing.T) {
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := (image{programs: t.TempDir(), tag: "millrace:dev"}).write(out); err == nil {
		t.Error("no error without programs")
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("an image without programs was written")
	}
}
