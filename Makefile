# Every recipe does its own set-up. `make` alone prints this help.
.DEFAULT_GOAL := help

GO      ?= go
TOOL     = $(GO) tool -modfile=tools/go.mod
BIN     := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE   ?= millrace:dev
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: help build image demo test test-vm check lint bench bench-memif bench-nodes bench-policy generate readme clean setup reference

help: ## print this help
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/millrace and bin/millrace-cni
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/millrace ./cmd/millrace
	CGO_ENABLED=0 $(GO) build -tags grpcnotrace -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/millrace-cni ./cmd/millrace-cni

image: build ## write the image of the embedded engine to dist/millrace-image.tar (no builder needed; IMAGE names it)
	@mkdir -p dist
	$(GO) -C tools run ./imagetar -programs $(CURDIR)/$(BIN) -tag $(IMAGE) -version $(VERSION) -out $(CURDIR)/dist/millrace-image.tar

reference: ## build the CNI reference plugins that the kernel's path is wired with
	cd benchmarks/reference && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(CURDIR)/$(BIN)/reference/ \
		github.com/containernetworking/plugins/plugins/main/bridge github.com/containernetworking/plugins/plugins/ipam/host-local

setup: ## install the Debian packages that demo and tests need
	@scripts/setup.sh

demo: setup build reference ## boot the dataplane, wire pods, measure them (root)
	$(BIN)/millrace demo $(DEMOFLAGS)

test: ## all tests, those that need root included (the first time: builds kube-apiserver)
	@scripts/setup.sh dpdk
	@scripts/kube.sh
	$(GO) vet ./...
	$(GO) test -timeout 20m -skip '^TestIntegrationVM' ./...
	$(GO) -C tools test ./imagetar
	@$(MAKE) --no-print-directory test-vm

test-vm: ## tests on NICs in a virtual machine (root; the first time: fetches QEMU and a kernel)
	@scripts/vm.sh
	$(GO) test -timeout 30m -run '^TestIntegrationVM' ./internal/vmtest

check: ## what needs no root and no network: vet, format, the house's law, pure packages
	$(GO) vet ./...
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these files"; exit 1; }
	$(GO) test -short -skip '^TestIntegration' ./...

lint: ## static analysis, and: regenerating changes nothing
	$(TOOL) staticcheck ./...
	scripts/generate.sh --check

bench: setup build reference ## microbenchmarks, then the short comparison with the kernel path (root)
	$(GO) test -run '^$$' -bench . -benchtime 200ms ./engine/... ./vpp/...
	$(BIN)/millrace bench $(BENCHFLAGS)

bench-memif: build ## compare memif implementations and forwarding from memif to memif (root; VPP_BIN adds VPP)
	@scripts/setup.sh dpdk
	$(BIN)/millrace bench memif --scenario all $(BENCHFLAGS)

bench-nodes: setup build reference ## compare what gets from node to node (root; VPP_BIN adds VPP)
	$(BIN)/millrace bench nodes $(BENCHFLAGS)

bench-policy: build ## measure what policies cost (root; VPP_BIN adds VPP)
	$(BIN)/millrace bench policy --scenario all $(BENCHFLAGS)

generate: ## regenerate what is generated
	scripts/generate.sh

readme: build ## render README's figures from benchmarks/results
	$(BIN)/millrace bench readme --results benchmarks/results --readme README.md

clean: ## remove what the other targets made
	rm -rf $(BIN) dist demo-report
