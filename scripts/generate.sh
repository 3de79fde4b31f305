#!/usr/bin/env bash
# Regenerates what is generated. With --check: into a scratch directory, and fails when
# that differs from what is checked in.
set -euo pipefail
cd "$(dirname "$0")/.."

protos=(cni/cnipb/cni.proto)

case "${1:-}" in
"")
	go -C tools run ./protogen -root .. "${protos[@]}"
	;;
--check)
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	go -C tools run ./protogen -root .. -out "$scratch" "${protos[@]}"
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
