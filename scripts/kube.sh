#!/usr/bin/env bash
# Builds the kube-apiserver and etcd that tests start, from the modules that e2e/go.mod
# names, into a cache outside the tree: once per version, several minutes, then never
# again. The cache's "current" is the version built last.
set -euo pipefail
cd "$(dirname "$0")/../e2e"

version() { awk -v module="$1" '$1 == module && $2 ~ /^v/ { print $2; exit }' go.mod; }
kube=$(version k8s.io/kubernetes)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/millrace/kube
dir=$cache/$kube
mkdir -p "$dir"

# Two runs at once build one after the other; the second finds all done.
exec 9>"$dir/.lock"
flock 9

# build NAME PACKAGE LDFLAGS
build() {
	[ -x "$dir/$1" ] && return
	echo "kube: building $1 of $2, once: this takes some minutes" >&2
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $3" -o "$dir/.$1.part" "$2" >&2
	mv "$dir/.$1.part" "$dir/$1"
}
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver "-X k8s.io/component-base/version.gitVersion=$kube"
build etcd go.etcd.io/etcd/server/v3 ""
ln -sfn "$kube" "$cache/current"
