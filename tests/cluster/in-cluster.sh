#!/bin/bash
# Runs a command in the cluster's control-plane network namespace, with KUBECONFIG set: it reaches the API server, pods,
# ClusterIPs, and whatever other commands run this way listen on (pods reach those on HOST_IP).
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/settings.sh"
[ -f "$STATE/init.pid" ] || fail "cluster $CLUSTER is not up: run cluster-up.sh"
PATH=$BIN:$PATH KUBECONFIG=$STATE/kube/admin.conf exec nsenter -t "$(cat "$STATE/init.pid")" -n -- "$@"
