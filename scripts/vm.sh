#!/usr/bin/env bash
# Gets what tests in a virtual machine need (package internal/vmtest): QEMU from Debian's
# packages, and Debian's kernel, which is downloaded and unpacked into a cache outside the
# tree but never installed. Once done, nothing is fetched again.
# A machine that cannot have it (no root, no apt, no network) is told so, and those tests
# skip; once there is something to work with, a failure is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

cannot() {
	echo "vm: $1: tests in a virtual machine will be skipped" >&2
	exit 0
}
[ "$(uname -m)" = x86_64 ] || cannot "the virtual machine needs x86_64, this is $(uname -m)"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/millrace/vm
mkdir -p "$cache"
# Two runs at once work one after the other; the second finds all done.
exec 9>"$cache/.lock"
flock 9

export DEBIAN_FRONTEND=noninteractive
# fetched COMMAND...: does it, after a look for newer package lists if need be; 1 when those
# cannot be had. apt says what went wrong.
fetched() {
	"$@" && return
	apt-get update -qq -o APT::Update::Error-Mode=any || return 1
	"$@" || { echo "vm: failed: $*" >&2; exit 1; }
}
apt_usable() {
	command -v apt-get >/dev/null || cannot "$1, and there is no apt-get to get it with"
}

need=()
command -v qemu-system-x86_64 >/dev/null || need+=(qemu-system-x86 seabios ipxe-qemu)
command -v qemu-img >/dev/null || need+=(qemu-utils)
command -v cpio >/dev/null || need+=(cpio)
command -v depmod >/dev/null || need+=(kmod)
[ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || need+=(busybox-static)
command -v ethtool >/dev/null || need+=(ethtool)
command -v mkfs.ext4 >/dev/null || need+=(e2fsprogs)
command -v xz >/dev/null || need+=(xz-utils)
if [ ${#need[@]} -gt 0 ]; then
	apt_usable "missing: ${need[*]}"
	[ "$(id -u)" -eq 0 ] || cannot "missing: ${need[*]}, and only root may install packages"
	echo "vm: installing ${need[*]}" >&2
	fetched apt-get install -y -qq --no-install-recommends --download-only "${need[@]}" >/dev/null || cannot "no package lists to be had"
	apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

# unpack_kernel leaves the newest kernel that apt knows in a directory of its release.
unpack_kernel() {
	newest() { apt-cache search --names-only '^linux-image-6\.1\.0-[0-9]+-amd64$' | cut -d' ' -f1 | sort -V | tail -1; }
	# A new list may name another one.
	download() { package=$(newest) && [ -n "$package" ] && apt-get download -qq -o APT::Sandbox::User=root "$package"; }
	local package release part
	part=$cache/.part
	rm -rf "$part"
	mkdir -p "$part/root"
	cd "$part"
	[ -n "$(newest)" ] || apt-get update -qq -o APT::Update::Error-Mode=any || cannot "no package lists to be had"
	[ -n "$(newest)" ] || cannot "apt knows no linux-image-6.1.0-*-amd64: this is not Debian 12"
	echo "vm: fetching $(newest), once" >&2
	fetched download || cannot "the kernel's package cannot be downloaded"
	release=${package#linux-image-}
	dpkg -x ./*.deb root
	mkdir -p modules
	mv "root/lib/modules/$release" modules/
	mkdir -p root/lib/modules
	ln -s "$part/modules/$release" root/lib/modules/
	depmod -b "$part/root" "$release"
	extract_vmlinux "root/boot/vmlinuz-$release" vmlinux
	rm -rf root ./*.deb
	cd - >/dev/null
	rm -rf "${cache:?}/$release"
	mv "$part" "$cache/$release"
	ln -sfn "$release" "$cache/current"
}

# extract_vmlinux finds the kernel proper, an xz stream inside the image: it starts in less
# than half the time when nothing has to be unpacked under emulation.
extract_vmlinux() {
	local at
	at=$(LC_ALL=C grep -abom1 $'\xfd7zXZ' "$1" | head -1 | cut -d: -f1)
	[ -n "$at" ] || { echo "vm: no xz stream in $1" >&2; exit 1; }
	# What follows the stream is not of it; xz says so after all is written.
	tail -c "+$((at + 1))" "$1" | xz -dc >"$2" 2>/dev/null || true
	[ "$(head -c 4 "$2")" = $'\x7fELF' ] || { echo "vm: what $1 holds is no kernel" >&2; exit 1; }
}
if [ ! -s "$cache/current/vmlinux" ]; then
	apt_usable "there is no kernel in $cache"
	unpack_kernel
fi

# The initramfs: busybox, what it takes to reach the machine's own root, and init.
dir=$cache/current
release=$(readlink "$dir")
sum=$(cat scripts/vm.sh scripts/vm-init.sh | sha256sum | cut -d' ' -f1)
if [ "$(cat "$dir/initramfs.sum" 2>/dev/null)" != "$sum" ]; then
	tree=$(mktemp -d)
	trap 'rm -rf "$tree"' EXIT
	mkdir -p "$tree"/{bin,dev,proc,sys,run,lib/modules,low,up,root}
	cp /bin/busybox "$tree/bin/busybox"
	cp scripts/vm-init.sh "$tree/init"
	chmod 0755 "$tree/init"
	ln -s "$dir/modules/$release" "$tree/lib/modules/$release"
	for module in virtio_pci 9pnet_virtio 9p overlay virtio_console; do
		modprobe -d "$tree" -S "$release" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
	done | awk '!seen[$0]++' >"$tree/paths"
	rm "$tree/lib/modules/$release"
	mkdir "$tree/modules"
	while read -r path; do
		cp "$dir/modules/$release/${path#"$tree/lib/modules/$release/"}" "$tree/modules/"
		echo "/modules/${path##*/}"
	done <"$tree/paths" >"$tree/order"
	rm "$tree/paths"
	(cd "$tree" && find . | cpio --quiet -o -H newc) | gzip -1 >"$dir/.initramfs"
	mv "$dir/.initramfs" "$dir/initramfs"
	echo "$sum" >"$dir/initramfs.sum"
fi
