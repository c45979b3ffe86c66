# Images of mainsheet, of what it puts beside a workload, and of the workloads of tests, from the programs in $BINARIES and
# the Envoy that $ENVOY names. Sourced after settings.sh; ROOT is the source tree.
: "${CARGO_TARGET_DIR:=$ROOT/target}"
: "${BINARIES:=$CARGO_TARGET_DIR/debug}"
ENVOY=$(sh "$ROOT/deploy/tools.sh" --path)

busybox=("/bin/busybox:/bin/busybox" "@/bin/busybox:/bin/sh" "@/bin/busybox:/bin/wget" "@/bin/busybox:/bin/cat" "@/bin/busybox:/bin/sleep")
image() { python3 "$ROOT/deploy/image.py" "$IMAGES/$1.tar" "localhost/$1:1" --ldd "${@:2}"; }
for name in mainsheet examples/echo; do strip -o "$CACHE/$(basename $name).stripped" "$BINARIES/$name"; done
image mainsheet --entrypoint /usr/local/bin/mainsheet "$CACHE/mainsheet.stripped:/usr/local/bin/mainsheet"
libraries=/usr/lib/$(gcc -print-multiarch)/xtables
capture=(/usr/sbin/xtables-nft-multi:/usr/sbin/xtables-nft-multi "$libraries:$libraries" /etc/protocols:/etc/protocols)
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
  capture+=("@xtables-nft-multi:/usr/sbin/$name")
done
image mainsheet-proxy --entrypoint /usr/local/bin/mainsheet "$CACHE/mainsheet.stripped:/usr/local/bin/mainsheet" \
  "$ENVOY:/usr/local/bin/envoy" "${capture[@]}" "${busybox[@]}"
image shop --entrypoint /usr/local/bin/echo "$CACHE/echo.stripped:/usr/local/bin/echo" "${busybox[@]}"
