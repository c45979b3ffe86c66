#!/bin/bash
# Builds and gathers every part of the cluster into CACHE (default ~/.cache/mainsheet-cluster). Does nothing twice.
# Needs root, Go and apt; installs the rest. About 6 minutes on two cores from nothing.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/settings.sh"
mkdir -p "$BIN" "$IMAGES"
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

packages() {
  local missing=() program package
  while read -r program package; do
    command -v "$program" >/dev/null || missing+=("$package")
  done <<'LIST'
iptables iptables
nft nftables
conntrack conntrack
runc runc
busybox busybox-static
ip iproute2
nsenter util-linux
openssl openssl
curl curl
gcc gcc
python3 python3
LIST
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "missing: ${missing[*]} - there is no apt-get here, so install them by hand"
  say "installing ${missing[*]}"
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" libc6-dev >/dev/null
}

# containerd and the CNI plugins are unpacked beside the rest and not installed: nothing of them starts with the machine.
containerd() {
  [ ! -x "$CONTAINERD_BIN/containerd" ] || return 0
  say "unpacking containerd and the CNI plugins"
  local work
  work=$(mktemp -d)
  (cd "$work" && apt-get update -qq >&2 && apt-get download -qq containerd containernetworking-plugins 2>/dev/null &&
    for package in ./*.deb; do dpkg -x "$package" "$CACHE/containerd"; done)
  rm -rf "$work"
}

K8S_VERSION=$(sed -n 's|^\tk8s.io/kubernetes v||p' "$HERE/modules/kubernetes/go.mod")
VERSION=k8s.io/component-base/version
FLAGS="-s -w -X $VERSION.gitVersion=v$K8S_VERSION -X $VERSION.gitMajor=1 -X $VERSION.gitMinor=$(cut -d. -f2 <<<"$K8S_VERSION")"

# program DIRECTORY OUTPUT PACKAGE: a Go program, built again when a file of its module has changed.
program() {
  local sum
  sum=$(cd "$HERE/$1" && cat go.* ./*.go | sha256sum)
  [ ! -x "$BIN/$2" ] || [ "$(cat "$BIN/.$2.sum" 2>/dev/null)" != "$sum" ] || return 0
  say "building $2"
  (cd "$HERE/$1" && CGO_ENABLED=${CGO:-1} go build -trimpath -ldflags "$FLAGS" -o "$BIN/$2" "$3")
  printf '%s\n' "$sum" >"$BIN/.$2.sum"
}

[ "$(id -u)" = 0 ] || fail "run this as root: the cluster needs namespaces, mounts and cgroups"
command -v go >/dev/null || fail "there is no Go here; the cluster's parts are built from their Go modules"
packages
containerd
program modules/kubernetes etcd go.etcd.io/etcd/server/v3
for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
  program modules/kubernetes $name k8s.io/kubernetes/cmd/$name
done
CGO=0 program modules/helm helm helm.sh/helm/v4/cmd/helm
CGO=0 program modules/coredns coredns .
CGO=0 program images/echo echo .
CGO=0 program images/injector injector .
ENVOY=$(sh "$HERE/../../deploy/tools.sh") CACHE=$CACHE "$HERE/images.sh"
say "ready in $CACHE"
