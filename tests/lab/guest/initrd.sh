#!/bin/busybox sh
# /init of the initrd: load what it takes to see the disk, find the root, go.
B=/busybox
$B mount -t proc p /proc; $B mount -t sysfs s /sys; $B mount -t devtmpfs d /dev
for m in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do $B insmod /m/$m.ko; done
R=$($B sed -n 's/.*root=\([^ ]*\).*/\1/p' /proc/cmdline)
for i in 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9; do [ -b ${R:=/dev/vda2} ] && break; $B usleep 50000; done
$B mount -t ext4 -o rw $R /r || { echo "MUSTER-NO-ROOT $R"; $B sync; $B poweroff -f; }
$B mount --move /dev /r/dev; $B umount /sys; $B umount /proc
exec $B switch_root /r /sbin/init
