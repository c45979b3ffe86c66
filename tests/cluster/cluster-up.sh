#!/bin/bash
# Brings up a real Kubernetes cluster inside PID, mount and network namespaces of its own: the control plane in one network
# namespace, the node (containerd, kubelet, kube-proxy, all pods) in a second, joined by a veth pair. Nothing of it can be
# reached from, or leaks into, the machine's own network. Killing one process ends everything.
#
# build.sh once; cluster-up.sh; in-cluster.sh COMMAND… (kubectl, tests, a control plane under test); cluster-down.sh
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/settings.sh"
. "$HERE/certificates.sh"
. "$HERE/configuration.sh"
PATH=$BIN:$PATH:/usr/sbin:/sbin
BEGIN=${EPOCHREALTIME/[.,]/}

elapsed() {
  local spent=$((${EPOCHREALTIME/[.,]/} - BEGIN))
  printf '[%3d.%02ds] %s\n' $((spent / 1000000)) $((spent / 10000 % 100)) "$*"
}

# within SECONDS WHAT COMMAND…: waits until the command succeeds.
within() {
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $until ] || fail "$what not within its time; see $STATE/log"
    sleep 0.1
  done
  elapsed "$what"
}

kubectl() { "$HERE/in-cluster.sh" kubectl "$@"; }

! is_up || fail "already up (pid $(cat "$STATE/up.pid")); run cluster-down.sh first"
[ -x "$BIN/kube-apiserver" ] || fail "nothing is built yet; run build.sh (make cluster-tools) first"
unshare --pid --mount --net --fork true 2>/dev/null || fail "this machine does not let us make namespaces; the cluster needs root"
[ "$CONTROL_PLANE_ONLY" = 1 ] || [ -d /sys/fs/cgroup/cpuset ] ||
  fail "this machine has no cgroup v1 hierarchies, which the node needs; CONTROL_PLANE_ONLY=1 works"

rm -rf "$STATE"
mkdir -p "$STATE"/{pki,log,conf,kube,run}
(certificates)
configuration
cp "$HERE/init.sh" "$STATE/conf/init.sh"
elapsed "certificates made"

export STATE NAME NODE CONTROL_PLANE_ONLY HOST_IP NODE_IP POD_CIDR SERVICE_CIDR API_PORT ETCD_PORT BIN CONTAINERD_BIN IMAGES
setsid unshare --pid --mount --ipc --net --fork --kill-child --mount-proc /bin/bash "$STATE/conf/init.sh" \
  >"$STATE/log/init.log" 2>&1 </dev/null &
echo $! >"$STATE/up.pid"
within 10 "namespaces made" test -f "$STATE/init.ready"
# The host's number of the inner process 1, for nsenter.
pgrep -P "$(cat "$STATE/up.pid")" >"$STATE/init.pid"

within 60 "API server ready" kubectl get --raw /readyz
kubectl create clusterrolebinding kube-proxy --clusterrole system:node-proxier --user system:kube-proxy >/dev/null
within 60 "default service account there" kubectl -n default get serviceaccount default
if [ "$CONTROL_PLANE_ONLY" != 1 ]; then
  within 60 "node registered" kubectl get node "$NODE"
  within 120 "node ready" kubectl wait --for=condition=Ready "node/$NODE" --timeout=1s
  sed "s/clusterIP: 10.96.0.10/clusterIP: $DNS_IP/" "$HERE/manifests/coredns.yaml" | kubectl apply -f - >/dev/null
  within 60 "CoreDNS ready" kubectl -n kube-system rollout status deploy/coredns --timeout=1s
fi
echo "up: CLUSTER=$CLUSTER $HERE/in-cluster.sh kubectl get pods -A"
