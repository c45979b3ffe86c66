#!/bin/bash
# Process 1 of one cluster's namespaces: lays its networks, starts its daemons, reaps orphans. When it dies all dies.
# Started by cluster-up.sh, which exports the settings. Does what STATE/control says (component.sh writes there).
set -u

networks() {
  ip link set lo up
  ip netns add node
  ip link add "$NAME-host" type veth peer name "$NAME-node" netns node
  ip addr add "$HOST_IP/30" dev "$NAME-host"
  ip link set "$NAME-host" up
  in_node ip link set lo up
  in_node ip addr add "$NODE_IP/30" dev "$NAME-node"
  in_node ip link set "$NAME-node" up
  in_node ip route add default via "$HOST_IP"
  in_node sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.forwarding=1 net.bridge.bridge-nf-call-iptables=1
  ip route add "$POD_CIDR" via "$NODE_IP"
  ip route add "$SERVICE_CIDR" via "$NODE_IP"
}

# A directory of our own in each hierarchy: a kubelet removes the pods' groups that it does not know.
cgroups() {
  local hierarchy file
  for hierarchy in /sys/fs/cgroup/*/; do
    [ -d "$hierarchy$NAME" ] || mkdir "$hierarchy$NAME"
  done
  for file in cpus mems; do
    cat /sys/fs/cgroup/cpuset/cpuset.$file >"/sys/fs/cgroup/cpuset/$NAME/cpuset.$file"
  done
}

# `ip netns exec` would mount /sys anew, which hides the cgroups.
in_node() { nsenter --net=/run/netns/node "$@"; }

# The daemon NAME, in its namespace, with its output in STATE/log.
start() {
  "run_$1" >>"$STATE/log/$1.log" 2>&1 &
  echo $! >"$STATE/run/$1.pid"
}

run_etcd() {
  exec "$BIN/etcd" --name default --data-dir "$STATE/etcd" --unsafe-no-fsync \
    --listen-client-urls "https://127.0.0.1:$ETCD_PORT" --advertise-client-urls "https://127.0.0.1:$ETCD_PORT" \
    --listen-peer-urls "http://127.0.0.1:$((ETCD_PORT + 1))" \
    --initial-advertise-peer-urls "http://127.0.0.1:$((ETCD_PORT + 1))" \
    --initial-cluster "default=http://127.0.0.1:$((ETCD_PORT + 1))" \
    --cert-file "$PKI/etcd.crt" --key-file "$PKI/etcd.key" --trusted-ca-file "$PKI/ca.crt" --client-cert-auth \
    --quota-backend-bytes 2147483648 --auto-compaction-retention 1h
}

run_apiserver() {
  exec "$BIN/kube-apiserver" --bind-address "$HOST_IP" --secure-port "$API_PORT" --advertise-address "$HOST_IP" \
    --etcd-servers "https://127.0.0.1:$ETCD_PORT" --etcd-cafile "$PKI/ca.crt" \
    --etcd-certfile "$PKI/admin.crt" --etcd-keyfile "$PKI/admin.key" \
    --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" --client-ca-file "$PKI/ca.crt" \
    --kubelet-client-certificate "$PKI/apiserver-kubelet.crt" --kubelet-client-key "$PKI/apiserver-kubelet.key" \
    --kubelet-certificate-authority "$PKI/ca.crt" --kubelet-preferred-address-types InternalIP \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$PKI/sa.pub" \
    --service-account-signing-key-file "$PKI/sa.key" --service-cluster-ip-range "$SERVICE_CIDR" \
    --authorization-mode Node,RBAC --allow-privileged=true \
    --enable-admission-plugins NodeRestriction,MutatingAdmissionWebhook,ValidatingAdmissionWebhook \
    --endpoint-reconciler-type lease --profiling=false ${API_SERVER_FLAGS:-}
}

run_controller-manager() {
  local me=$STATE/kube/controller-manager.conf
  exec "$BIN/kube-controller-manager" --kubeconfig "$me" --authentication-kubeconfig "$me" --authorization-kubeconfig "$me" \
    --bind-address 127.0.0.1 --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file "$PKI/sa.key" --root-ca-file "$PKI/ca.crt" \
    --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" \
    --kube-api-qps 300 --kube-api-burst 600 --concurrent-deployment-syncs 5
}

run_scheduler() {
  local me=$STATE/kube/scheduler.conf
  exec "$BIN/kube-scheduler" --kubeconfig "$me" --authentication-kubeconfig "$me" --authorization-kubeconfig "$me" \
    --bind-address 127.0.0.1 --leader-elect=false --kube-api-qps 300 --kube-api-burst 600
}

run_containerd() { exec nsenter --net=/run/netns/node containerd --config "$STATE/conf/containerd.toml"; }

run_kubelet() {
  exec nsenter --net=/run/netns/node "$BIN/kubelet" --config "$STATE/conf/kubelet.yaml" \
    --kubeconfig "$STATE/kube/kubelet.conf" --root-dir "$STATE/kubelet" --hostname-override "$NODE" --node-ip "$NODE_IP"
}

run_proxy() { exec nsenter --net=/run/netns/node "$BIN/kube-proxy" --config "$STATE/conf/proxy.yaml"; }

# within TENTHS COMMAND…: whether the command succeeds within that many tenths of a second.
within() {
  local left=$1
  shift
  until "$@" >/dev/null 2>&1; do
    [ $((left -= 1)) -gt 0 ] || return 1
    sleep 0.1
  done
}

answers() {
  curl -fs --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" "https://$HOST_IP:$API_PORT/readyz"
}

images() {
  local tar
  for tar in "$IMAGES"/*.tar; do ctr -n k8s.io images import "$tar"; done
  touch "$STATE/images.ready"
}

daemons() {
  start etcd
  start apiserver
  if [ "$CONTROL_PLANE_ONLY" != 1 ]; then
    start containerd
    within 100 ctr version
    images >"$STATE/log/images.log" 2>&1 &
  fi
  # Only now: both end for good where the API server's own roles are not there yet.
  within 600 answers
  start controller-manager
  start scheduler
  if [ "$CONTROL_PLANE_ONLY" != 1 ]; then
    # A pod whose image is not there yet waits long for the second try.
    within 600 test -f "$STATE/images.ready"
    start kubelet
    start proxy
  fi
}

# obey VERB NAME: what component.sh asked for.
obey() {
  local pid
  pid=$(cat "$STATE/run/$2.pid")
  case $1 in
    start) start "$2" ;;
    kill) kill -KILL "$pid" ;;
    stop) kill -TERM "$pid" ;;
    pause) kill -STOP "$pid" ;;
    resume) kill -CONT "$pid" ;;
  esac
}

PKI=$STATE/pki
PATH=$CONTAINERD_BIN:$PATH
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /run/containerd /var/lib/cni /var/lib/kubelet
# Device plugins have their sockets there, whatever --root-dir says.
mount -t tmpfs tmpfs /var/lib/cni
mount -t tmpfs tmpfs /var/lib/kubelet
mount --make-rshared /
networks
[ "$CONTROL_PLANE_ONLY" = 1 ] || cgroups
mkfifo "$STATE/control"
exec 3<>"$STATE/control"
touch "$STATE/init.ready"
daemons
while :; do
  if read -r -t 60 verb name <&3; then obey "$verb" "$name"; fi
done
