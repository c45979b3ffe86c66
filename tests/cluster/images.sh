#!/bin/bash
# Makes every image that the cluster's tests need from local files, without a container engine, into CACHE/images.
# An image is made again when one of its files is newer. ENVOY is the path of the stock Envoy.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/settings.sh"
: "${ENVOY:=$(sh "$HERE/../../deploy/tools.sh" --path)}"

# A shell and a few programs for looking around.
SHELL_FILES=(/bin/busybox:/bin/busybox)
for program in sh cat ls sleep wget nc nslookup ip ps id grep netstat env echo mkdir rm cp ping; do
  SHELL_FILES+=("@/bin/busybox:/bin/$program")
done

# image NAME ARGUMENT…: CACHE/images/NAME.tar, which containerd knows as localhost/NAME:1.
image() {
  local tar=$IMAGES/$1.tar argument
  for argument in "${@:2}"; do
    case $argument in
      @* | --*) continue ;;
      *:*) [ "${argument%%:*}" -nt "$tar" ] || continue ;;
      *) continue ;;
    esac
    python3 "$HERE/../../deploy/image.py" "$tar" "localhost/$1:1" "${@:2}" >&2
    return
  done
}

if [ "$HERE/images/pause.c" -nt "$CACHE/pause" ]; then gcc -Os -static -s -o "$CACHE/pause" "$HERE/images/pause.c"; fi
LIBRARIES=/usr/lib/$(gcc -print-multiarch)
SWITCHES=()
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
  SWITCHES+=("@xtables-nft-multi:/usr/sbin/$name")
done
image pause --entrypoint /pause "$CACHE/pause:/pause"
image echo --entrypoint /echo "$BIN/echo:/echo" "${SHELL_FILES[@]}"
image injector --entrypoint /injector "$BIN/injector:/injector"
image coredns --entrypoint /coredns "$BIN/coredns:/coredns"
image envoy --ldd --entrypoint /usr/local/bin/envoy "$ENVOY:/usr/local/bin/envoy" "${SHELL_FILES[@]}"
image iptables --ldd "${SHELL_FILES[@]}" /etc/protocols:/etc/protocols /usr/sbin/nft:/usr/sbin/nft \
  /usr/sbin/xtables-nft-multi:/usr/sbin/xtables-nft-multi "$LIBRARIES/xtables:$LIBRARIES/xtables" "${SWITCHES[@]}"
