// Command imagetar writes a container image of our two static programs as one tar file,
// without a container builder and without a registry: an OCI layout that is a docker archive
// too, so that `ctr images import`, `docker load`, `podman load`, `kind load image-archive`
// and `k3s ctr images import` all take it.
//
// It owns what the image holds, as the Containerfile's target engine does. The same programs
// make the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	var i image
	flag.StringVar(&i.programs, "programs", "", "`directory` that holds millrace and millrace-cni")
	flag.StringVar(&i.tag, "tag", "millrace:dev", "`name` of the image")
	flag.StringVar(&i.version, "version", "", "`text` for the image's label of its version")
	flag.StringVar(&i.arch, "arch", runtime.GOARCH, "`architecture` of the programs, as GOARCH has it")
	out := flag.String("out", "", "`file` to write")
	flag.Parse()
	if err := i.write(*out); err != nil {
		fmt.Fprintf(os.Stderr, "imagetar: %v\n", err)
		os.Exit(1)
	}
}

// image is what the flags say.
type image struct{ programs, tag, version, arch string }

// write makes the tar file; it is there whole or not at all.
func (i image) write(out string) (err error) {
	tag, err := name.NewTag(i.tag)
	if err != nil {
		return fmt.Errorf("read tag: %w", err)
	}
	built, err := i.build()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "imagetar")
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	// containerd names an image by the first, others by the second.
	if err := path.AppendImage(built, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          fullName(tag),
		"org.opencontainers.image.ref.name": tag.TagStr(),
	})); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	if err := dockerManifest(filepath.Join(dir, "manifest.json"), tag, built); err != nil {
		return err
	}
	part := out + ".part"
	f, err := os.Create(part)
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	if err := cmp.Or(pack(f, os.DirFS(dir)), f.Close()); err != nil {
		os.Remove(part)
		return fmt.Errorf("write image %s: %w", out, err)
	}
	return os.Rename(part, out)
}

// fullName is the name with its registry, as containerd and the kubelet have it: where this
// library says index.docker.io they say docker.io.
func fullName(tag name.Tag) string {
	registry := tag.RegistryStr()
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	return registry + "/" + tag.RepositoryStr() + ":" + tag.TagStr()
}

// build is the image: one layer, and how it is started.
func (i image) build() (v1.Image, error) {
	layer, err := i.layer()
	if err != nil {
		return nil, err
	}
	compressed, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layer)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("make layer: %w", err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	withLayer, err := mutate.AppendLayers(base, compressed)
	if err != nil {
		return nil, fmt.Errorf("make image: %w", err)
	}
	config, err := withLayer.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("make image: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", i.arch, v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config.Entrypoint = []string{"/usr/bin/millrace"}
	config.Config.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	config.Config.Labels = map[string]string{"org.opencontainers.image.title": "millrace", "org.opencontainers.image.version": i.version}
	return mutate.ConfigFile(withLayer, config)
}

// layer is the root file system. /run and /tmp are there to be mounted over; pods' network
// namespaces are named below /var/run.
func (i image) layer() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"dev", "etc", "etc/millrace", "proc", "run", "sys", "usr", "usr/bin", "usr/libexec", "usr/libexec/millrace", "var", "var/lib"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
			return nil, fmt.Errorf("make layer: %w", err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return nil, fmt.Errorf("make layer: %w", err)
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "var/run", Linkname: "../run", Mode: 0o777}); err != nil {
		return nil, fmt.Errorf("make layer: %w", err)
	}
	for _, p := range []struct{ from, to string }{{"millrace", "usr/bin/millrace"}, {"millrace-cni", "usr/libexec/millrace/millrace-cni"}} {
		program, err := os.ReadFile(filepath.Join(i.programs, p.from))
		if err != nil {
			return nil, fmt.Errorf("read program (make build makes it): %w", err)
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: p.to, Mode: 0o755, Size: int64(len(program))}); err != nil {
			return nil, fmt.Errorf("make layer: %w", err)
		}
		if _, err := w.Write(program); err != nil {
			return nil, fmt.Errorf("make layer: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("make layer: %w", err)
	}
	return b.Bytes(), nil
}

// pack writes the files of a layout in order, without times and owners.
func pack(to io.Writer, layout fs.FS) error {
	w := tar.NewWriter(to)
	err := fs.WalkDir(layout, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(layout, path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	return cmp.Or(err, w.Close())
}
