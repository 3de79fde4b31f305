#!/usr/bin/env bash
# Installs what the product's tests and demo need on a Debian 12 machine: iproute2,
# iperf3, ping and ethtool from Debian's packages, and with the argument dpdk also dpdk-testpmd, the
# peer that memif is tested and compared with. Says what is missing when it may not install;
# does nothing when all is there. Go modules are fetched by the go command itself.
set -euo pipefail

need=()
command -v ip >/dev/null || need+=(iproute2)
command -v iperf3 >/dev/null || need+=(iperf3)
command -v ping >/dev/null || need+=(iputils-ping)
command -v ethtool >/dev/null || need+=(ethtool)
if [ "${1-}" = dpdk ]; then
	command -v dpdk-testpmd >/dev/null || need+=(dpdk-dev)
fi

if ! command -v go >/dev/null; then
	echo "setup: no go command in PATH: install Go 1.26 or newer (https://go.dev/doc/install)" >&2
	exit 1
fi
if [ ${#need[@]} -eq 0 ]; then
	exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
	echo "setup: these Debian packages are missing: ${need[*]}; install them, or run this as root on Debian" >&2
	exit 1
fi
echo "setup: installing ${need[*]}"
export DEBIAN_FRONTEND=noninteractive
# A fresh machine has no package lists yet; an old list may name versions that are gone.
apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null 2>&1 || {
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
}
