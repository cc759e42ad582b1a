#!/bin/sh
# /sbin/init of the lab's machines: mounts, network, guest agent, one program by role, and an orderly way down.
export PATH=/bin:/sbin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev 2>/dev/null
mount -t tmpfs t /run; mount -t tmpfs t /tmp
mkdir -p /dev/virtio-ports
for m in failover net_failover virtio_net virtio_console virtio-rng button evdev; do
  [ -f /lib/modules/$m.ko ] && insmod /lib/modules/$m.ko 2>/dev/null
done
hostname "$(cat /etc/hostname)"
ip link set lo up
for n in /sys/class/net/eth*; do
  [ -e "$n" ] || continue
  i=$(basename $n)
  ip link set $i up
  udhcpc -i $i -b -t 60 -T 1 -A 2 -S -x hostname:"$(hostname)" -s /etc/udhcpc.sh >/dev/null 2>&1 &
done
[ -b /dev/vdb ] && { mount -t ext4 /dev/vdb /data || echo "MUSTER-NO-DATA" > /dev/console; }
for t in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  ls /sys/class/virtio-ports/ 2>/dev/null | grep -q vport && break; usleep 50000
done
for p in /sys/class/virtio-ports/*; do
  [ -f $p/name ] && ln -sf ../$(basename $p) /dev/virtio-ports/$(cat $p/name)
done
[ -e /dev/virtio-ports/org.qemu.guest_agent.0 ] &&
  /sbin/qemu-ga -d -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -f /run/qga.pid -t /run >/dev/null 2>&1
acpid -d -c /etc/acpi -l /dev/null >/dev/null 2>&1 &
down() {
  trap '' USR1 USR2 TERM INT
  kill "$worker" 2>/dev/null; wait "$worker" 2>/dev/null
  sync; umount /data 2>/dev/null; mount -o remount,ro / 2>/dev/null; sync
  echo "MUSTER-DOWN" > /dev/console
  $1 -f
}
trap 'down poweroff' USR1 USR2
trap 'down reboot' TERM INT
role=$(sed -n 's/^role=//p' /etc/muster-guest); interval=$(sed -n 's/^interval_ms=//p' /etc/muster-guest)
# The program is the worker's own process, so that stopping it stops the writing.
run() { while :; do /sbin/guest "$@" 2>/dev/console & child=$!; trap 'kill $child; exit' TERM; wait $child; sleep 1; done; }
case $role in
  db) run db ${interval:-200} & worker=$! ;;
  app) run app ${interval:-200} & worker=$! ;;
  web) run web & worker=$! ;;
  *) echo "MUSTER-NO-ROLE '$role'" > /dev/console ;;
esac
echo "MUSTER-INIT-DONE up=$(cut -d' ' -f1 /proc/uptime)" > /dev/console
while :; do sleep 3600 & wait $!; done
