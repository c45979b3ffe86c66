#!/bin/bash
# component.sh VERB NAME: kill, stop (SIGTERM), pause (SIGSTOP), resume or start a daemon of the running cluster.
# NAME is etcd, apiserver, controller-manager, scheduler, containerd, kubelet or proxy.
# component.sh image TAR: lets containerd have another image.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/settings.sh"
is_up || fail "cluster $CLUSTER is not up: run cluster-up.sh"
case $1 in
  kill | stop | pause | resume | start) [ -f "$STATE/run/$2.pid" ] || fail "no daemon is called $2" ;;
  image)
    nsenter -t "$(cat "$STATE/init.pid")" -m -p "$CONTAINERD_BIN/ctr" -n k8s.io images import "$2" >/dev/null
    exit
    ;;
  *) fail "$1 is not a verb: kill, stop, pause, resume, start, image" ;;
esac
printf '%s %s\n' "$1" "$2" >"$STATE/control"
