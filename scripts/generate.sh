#!/usr/bin/env bash
# Regenerates what is generated. With --check: into a scratch directory, and fails when
# that differs from what is checked in.
set -euo pipefail
cd "$(dirname "$0")/.."

protos=(cni/cnipb/cni.proto)

# generate OUT: everything, below that directory.
generate() {
	go -C tools run ./protogen -root .. -out "$1" "${protos[@]}"
	go -C tools build -o "$work/render" ./render
	render "$1/deploy/base" deploy/kustomize.values.yaml
}
# render DIR VALUES: the chart as plain files with a kustomization.
render() {
	"$work/render" -chart deploy/chart -values "$2" -out "$1" -source "Rendered from deploy/chart with $2 by scripts/generate.sh: change it there."
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case "${1:-}" in
"")
	generate "$PWD"
	;;
--check)
	scratch=$work/out
	mkdir "$scratch"
	generate "$scratch"
	stale=0
	while read -r file; do
		diff -u "$file" "$scratch/$file" || stale=1
	done < <(cd "$scratch" && find . -type f | sed 's,^\./,,' | sort)
	if [ "$stale" -ne 0 ]; then
		echo "generate: generated files are stale; run 'make generate' and commit" >&2
		exit 1
	fi
	;;
*)
	echo "usage: scripts/generate.sh [--check]" >&2
	exit 2
	;;
esac
