// Command protogen compiles the .proto files named on its command line and runs Go's
// protobuf generators over them, so that regenerating needs nothing but the go command.
//
// It owns no generator: those are the pinned tools of this module. Output goes beside each
// .proto file; nothing else is written.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	root := flag.String("root", "..", "directory that the .proto files' names are relative to")
	out := flag.String("out", "", "directory to write below; empty: the root")
	flag.Parse()
	if *out == "" {
		*out = *root
	}
	if err := generate(context.Background(), *root, *out, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "protogen: %v\n", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, root, out string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("generate: name at least one .proto file")
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, names...)
	if err != nil {
		return fmt.Errorf("compile %s: %w", strings.Join(names, " "), err)
	}
	request, err := requestFor(files)
	if err != nil {
		return err
	}
	for _, tool := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		response, err := run(ctx, tool, request)
		if err != nil {
			return err
		}
		if err := write(out, response); err != nil {
			return err
		}
	}
	return nil
}

// requestFor describes the files to a generator: every import before what imports it.
func requestFor(files linker.Files) ([]byte, error) {
	request := &pluginpb.CodeGeneratorRequest{Parameter: proto.String("paths=source_relative")}
	seen := map[string]bool{}
	var visit func(f linker.File)
	visit = func(f linker.File) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		imports := f.Imports()
		for i := range imports.Len() {
			visit(f.FindImportByPath(imports.Get(i).Path()))
		}
		request.ProtoFile = append(request.ProtoFile, describe(f))
	}
	for _, f := range files {
		request.FileToGenerate = append(request.FileToGenerate, f.Path())
		visit(f)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return data, nil
}

// describe prefers the compiler's own descriptor: the one made back from the linked file
// would lose the comments.
func describe(f linker.File) *descriptorpb.FileDescriptorProto {
	if r, ok := f.(linker.Result); ok {
		return r.FileDescriptorProto()
	}
	return protodesc.ToFileDescriptorProto(f)
}

// run builds a tool of this module and lets it answer the request.
func run(ctx context.Context, tool string, request []byte) (*pluginpb.CodeGeneratorResponse, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", tool)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(request), os.Stderr
	data, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", tool, err)
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(data, response); err != nil {
		return nil, fmt.Errorf("decode answer of %s: %w", tool, err)
	}
	if response.Error != nil {
		return nil, fmt.Errorf("run %s: %s", tool, *response.Error)
	}
	return response, nil
}

func write(out string, response *pluginpb.CodeGeneratorResponse) error {
	for _, f := range response.File {
		path := filepath.Join(out, filepath.FromSlash(f.GetName()))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write %s: %w", f.GetName(), err)
		}
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", f.GetName(), err)
		}
	}
	return nil
}
