#!/bin/bash
# Proves capture from the node, in a real cluster: mainsheet's CNI plugin by its chart, called by a real containerd.
# A pod that came before it is repaired, one that comes after it is captured from its first packet, one that comes while
# the agent is replaced too, and nothing is left when the chart is removed. MAINSHEET is the program. A cluster that is not
# up is brought up and ended.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/settings.sh"
: "${MAINSHEET:=${CARGO_TARGET_DIR:-$HERE/../../target}/debug/mainsheet}"
kubectl() { "$HERE/in-cluster.sh" kubectl "$@"; }
[ -x "$MAINSHEET" ] || fail "$MAINSHEET is missing: cargo build, or name another by MAINSHEET"

# The programs that the agent sets rules by, when it repairs a pod, come with its image; the plugin takes the node's.
d=$(mktemp -d); made=
trap '[ -z "$made" ] || "$HERE/cluster-down.sh"; rm -rf "$d"' EXIT
if ! is_up; then made=1; "$HERE/cluster-up.sh"; fi
strip -o "$d/mainsheet" "$MAINSHEET"
libraries=/usr/lib/$(gcc -print-multiarch)
links=()
for name in iptables ip6tables iptables-nft ip6tables-nft; do
  for end in save restore; do links+=("@xtables-nft-multi:/usr/sbin/$name-$end"); done
done
python3 "$HERE/../../deploy/image.py" "$d/image.tar" localhost/mainsheet-cni:1 --ldd --entrypoint /usr/local/bin/mainsheet \
  "$d/mainsheet:/usr/local/bin/mainsheet" /etc/protocols:/etc/protocols /usr/sbin/nft:/usr/sbin/nft \
  /usr/sbin/xtables-nft-multi:/usr/sbin/xtables-nft-multi "$libraries/xtables:$libraries/xtables" "${links[@]}" >&2
"$HERE/component.sh" image "$d/image.tar"

chart() {
  "$BIN/helm" template cni "$HERE/../../deploy/charts/cni" -n istio-system --set image=localhost/mainsheet-cni:1 \
    --set "global.imagePullPolicy=Never,cniBinDir=$CNI_BIN,cniConfDir=$STATE/conf/cni,useAppArmorAnnotation=false"
}

# A pod as injection makes it for nodes with the plugin; who stands for Envoy listens to nobody.
pod() {
  kubectl apply -f - <<POD
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: captured, annotations: {sidecar.istio.io/status: "{}"}}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - name: istio-validation
    image: localhost/mainsheet-cni:1
    imagePullPolicy: Never
    args: [istio-iptables, -p, "15001", -z, "15006", -u, "1337", -m, REDIRECT, -i, "*", -b, "*", --run-validation, --skip-rule-apply]
    securityContext: {runAsUser: 1337, runAsGroup: 1337, runAsNonRoot: true, capabilities: {drop: [ALL]}}
  containers:
  - {name: istio-proxy, image: "localhost/echo:1", imagePullPolicy: Never, command: [sleep, "3600"],
     securityContext: {runAsUser: 1337, runAsGroup: 1337}}
  - {name: app, image: "localhost/echo:1", imagePullPolicy: Never, command: [sleep, "3600"]}
POD
}
# Whether the workload's connection to the API server goes to 15001, where nobody listens, and the proxy's does not.
captured() {
  kubectl -n captured wait --for=condition=Ready "pod/$1" --timeout=120s
  ! kubectl -n captured exec "$1" -c app -- nc -w 2 "$API_SERVICE_IP" 443 </dev/null || fail "$1 is not captured"
  kubectl -n captured exec "$1" -c istio-proxy -- nc -w 2 "$API_SERVICE_IP" 443 </dev/null || fail "$1: its proxy is captured"
  say "$1 is captured"
}

for namespace in captured istio-system; do
  kubectl create namespace $namespace --dry-run=client -o yaml | kubectl apply -f -
done
cp "$STATE/conf/cni/10-bridge.conflist" "$d/before"
pod early
for _ in $(seq 100); do
  code=$(kubectl -n captured get pod early -o 'jsonpath={.status.initContainerStatuses[0].lastState.terminated.exitCode}')
  [ "$code" = 126 ] && break
  sleep 0.3
done
[ "$code" = 126 ] || fail "the validation of a pod without the plugin does not end with 126"
chart | kubectl apply --server-side -f -
kubectl -n istio-system rollout status daemonset/mainsheet-cni-node --timeout=60s
captured early
for _ in $(seq 50); do
  said=$(kubectl -n captured get events.events.k8s.io -o jsonpath='{.items[?(@.reason=="Repaired")].regarding.name}')
  [ "$said" = early ] && break
  sleep 0.3
done
[ "$said" = early ] || fail "no event says that early was repaired"
pod late
captured late
[ "$(kubectl -n captured get pod late -o 'jsonpath={.status.initContainerStatuses[0].restartCount}')" = 0 ] || fail "late was repaired"
kubectl -n istio-system delete pod -l k8s-app=mainsheet-cni-node --wait=false
pod between
captured between
chart | kubectl delete --wait=true -f -
for _ in $(seq 100); do [ -e "$CNI_BIN/mainsheet-cni" ] || break; sleep 0.3; done
[ ! -e "$CNI_BIN/mainsheet-cni" ] || fail "the plugin is left on the node"
python3 -c 'import json, sys; a, b = (json.load(open(f)) for f in sys.argv[1:]); sys.exit(a != b)' \
  "$d/before" "$STATE/conf/cni/10-bridge.conflist" || fail "the network's configuration is not what it was"
kubectl delete namespace captured --wait=false
say "captured from the node, and nothing is left"
