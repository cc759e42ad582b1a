#!/bin/sh
case "$1" in
  bound|renew)
    ip addr flush dev $interface
    ip addr add $ip/${mask:-24} dev $interface
    [ -n "$router" ] && ip route replace default via ${router%% *} dev $interface
    [ "$1" = bound ] && echo "MUSTER-ADDRESS $ip" > /dev/console
    ;;
esac
exit 0
