#!/bin/busybox sh
# The first process of a test's virtual machine, packed by scripts/vm.sh: makes a root of
# the outer machine's own (read-only) under a layer in memory, gives it directories that are
# the guest's alone, and hands over to the agent of package internal/vmtest.
export PATH=/bin
/bin/busybox --install -s /bin
set -e
fail() { echo "vm-init: $1"; poweroff -f; }
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "$module" || fail "cannot load $module"; done </order

nine="trans=virtio,version=9p2000.L,msize=512000"
mount -t 9p -o "ro,cache=loose,$nine" root /low || fail "cannot mount the outer root"
mount -t tmpfs -o size=50% up /up
mkdir /up/layer /up/work
mount -t overlay -o lowerdir=/low,upperdir=/up/layer,workdir=/up/work overlay /root || fail "cannot mount the layer"

# What the outer machine has mounted or runs there is not the guest's.
for dir in dev proc sys run tmp; do
	[ -d "/root/$dir" ] || mkdir "/root/$dir"
done
mount -t tmpfs -o mode=0755 run /root/run
mount -t tmpfs -o mode=1777 tmp /root/tmp
mkdir /root/run/lock /root/run/netns
release=$(uname -r)
mkdir -p /root/usr/lib/modules "/root/run/vm"
rm -rf "/root/lib/modules/$release"
mkdir -p "/root/lib/modules/$release"
mount -t 9p -o "ro,cache=loose,$nine" modules "/root/lib/modules/$release" || fail "cannot mount the modules"
mount -t 9p -o "ro,cache=loose,$nine" tools /root/run/vm || fail "cannot mount the tools"
mount --move /dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts -o mode=0620,ptmxmode=0666 devpts /root/dev/pts
mount -t tmpfs shm /root/dev/shm
mount --move /proc /root/proc
mount --move /sys /root/sys
echo "vm-init: root is ready"
exec switch_root /root /run/vm/agent
