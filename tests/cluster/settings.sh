# What the cluster's scripts agree on; each setting can be given in the environment. Sourced, never run.
#
# CLUSTER tells clusters on one machine apart: 0 (the default) to 99. Everything else follows from it.

: "${CLUSTER:=0}"
: "${CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/mainsheet-cluster}"  # what is built once
: "${STATE:=$CACHE/state-$CLUSTER}"                              # what one cluster writes; wiped at every start
: "${NAME:=ms$CLUSTER}"                                          # its cgroups and its veth pair
: "${NODE:=node$CLUSTER}"
: "${CONTROL_PLANE_ONLY:=0}"                                     # 1: no node, so no pods; starts in half the time
: "${PROXY_MODE:=nftables}"                                      # kube-proxy's; or iptables

# Each cluster has network namespaces of its own; the addresses differ so that two of them can be joined.
: "${HOST_IP:=10.200.$CLUSTER.1}"                                # the API server, and what runs beside it
: "${NODE_IP:=10.200.$CLUSTER.2}"
: "${POD_CIDR:=10.244.$CLUSTER.0/24}"
: "${SERVICE_CIDR:=10.$((96 + CLUSTER)).0.0/16}"
: "${API_SERVICE_IP:=${SERVICE_CIDR%.0.0/*}.0.1}"
: "${DNS_IP:=${SERVICE_CIDR%.0.0/*}.0.10}"
: "${API_PORT:=16443}"
: "${ETCD_PORT:=12379}"

BIN=$CACHE/bin
CONTAINERD_BIN=$CACHE/containerd/usr/bin
CNI_BIN=$CACHE/containerd/usr/lib/cni
IMAGES=$CACHE/images

say() { printf '== %s\n' "$*" >&2; }
fail() { printf 'cluster: %s\n' "$*" >&2; exit 1; }

# Whether the process that holds this cluster's namespaces runs.
is_up() {
  local pid
  pid=$(cat "$STATE/up.pid" 2>/dev/null) || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$STATE/conf/init.sh"
}
