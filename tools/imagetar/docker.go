package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// dockerManifest writes the list that a docker archive begins with. It names the files of
// the OCI layout beside it, as `docker save` does.
func dockerManifest(file string, tag name.Tag, built v1.Image) error {
	manifest, err := built.Manifest()
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	blob := func(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }
	var layers []string
	for _, l := range manifest.Layers {
		layers = append(layers, blob(l.Digest))
	}
	text, err := json.Marshal([]map[string]any{{"Config": blob(manifest.Config.Digest), "RepoTags": []string{tag.String()}, "Layers": layers}})
	if err != nil {
		return fmt.Errorf("write docker manifest: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write docker manifest: %w", err)
	}
	return nil
}
