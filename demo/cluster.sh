#!/bin/bash
# The shop in a real cluster: brings the cluster up, installs mainsheet from its chart as a pod under its own ServiceAccount,
# applies the shop's manifests with an Envoy beside each pod, and shows requests and how long a change takes.
# KEEP=1 leaves everything up. Run by `make cluster`, which builds what is needed before.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
CLUSTERS=$ROOT/tests/cluster
. "$CLUSTERS/settings.sh"
: "${CARGO_TARGET_DIR:=$ROOT/target}"
: "${BINARIES:=$CARGO_TARGET_DIR/debug}"
ENVOY=$(sh "$ROOT/deploy/tools.sh" --path)
kubectl() { "$CLUSTERS/in-cluster.sh" kubectl "$@"; }
in_shop() { kubectl -n shop exec productpage-v1 -c productpage -- "$@"; }
step() { printf '\n%s\n' "$*"; }
check() {
  if [ "$2" = "$3" ]; then echo "  ✓ $1"; else echo "  ✗ $1: $3"; FAILED=1; fi
}
FAILED=0

end() {
  local code=$?
  if [ "${KEEP:-}" = 1 ]; then
    cat <<TEXT

It stays up. Look around:
  CLUSTER=$CLUSTER $CLUSTERS/in-cluster.sh kubectl get pods -A
  CLUSTER=$CLUSTER $CLUSTERS/in-cluster.sh kubectl -n istio-system logs deploy/istiod
  CLUSTER=$CLUSTER $CLUSTERS/cluster-down.sh
TEXT
  else
    [ $code = 0 ] || kubectl -n istio-system logs deploy/istiod --tail 30 2>/dev/null || true
    CLUSTER=$CLUSTER "$CLUSTERS/cluster-down.sh"
  fi
}

step "Images, from the files of this machine"
busybox=("/bin/busybox:/bin/busybox" "@/bin/busybox:/bin/sh" "@/bin/busybox:/bin/wget" "@/bin/busybox:/bin/cat")
image() { python3 "$CLUSTERS/image.py" "$IMAGES/$1.tar" "localhost/$1:1" --ldd "${@:2}"; }
for name in mainsheet examples/echo; do strip -o "$CACHE/$(basename $name).stripped" "$BINARIES/$name"; done
image mainsheet --entrypoint /usr/local/bin/mainsheet "$CACHE/mainsheet.stripped:/usr/local/bin/mainsheet"
image proxy --entrypoint /usr/local/bin/mainsheet "$CACHE/mainsheet.stripped:/usr/local/bin/mainsheet" "$ENVOY:/usr/local/bin/envoy" "${busybox[@]}"
image shop --entrypoint /usr/local/bin/echo "$CACHE/echo.stripped:/usr/local/bin/echo" "${busybox[@]}"

step "A Kubernetes cluster"
"$CLUSTERS/cluster-up.sh"
trap end EXIT

step "mainsheet, from its charts"
kubectl create namespace istio-system
"$BIN/helm" template istio-base "$ROOT/deploy/charts/base" | kubectl apply --server-side -f - >/dev/null
"$BIN/helm" template istiod "$ROOT/deploy/charts/istiod" --namespace istio-system --set global.imagePullPolicy=Never \
  --set autoscaleEnabled=false --set resources.requests.cpu=50m --set resources.requests.memory=64Mi | kubectl apply --server-side -f -
kubectl -n istio-system rollout status deploy/istiod --timeout=120s

step "The shop, with an Envoy beside each pod"
kubectl apply --dry-run=client -o json -f "$ROOT/demo/mesh" | python3 "$ROOT/demo/cluster.py" pods >"$STATE/shop.json"
kubectl apply -f - >/dev/null <"$ROOT/demo/mesh/namespace.yaml"
kubectl apply -f - >/dev/null <"$STATE/shop.json"
kubectl -n shop wait --for=condition=Ready pod --all --timeout=180s
kubectl -n shop get pods -o wide

step "A page: productpage asks details and reviews, each through two Envoys in mutual TLS"
page=$(in_shop wget -qO- http://127.0.0.1:9080/productpage || true)
for service in details reviews; do
  got=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["asked"][sys.argv[1]]["status"])' $service <<<"$page" 2>/dev/null || true)
  check "$service answered 200" 200 "$got"
done

step "A VirtualService is changed: how long until the last proxy has it"
"$CLUSTERS/in-cluster.sh" python3 "$ROOT/demo/cluster.py" measure || FAILED=1
kubectl -n shop get virtualservice reviews -o jsonpath='  its status: {.status.conditions[0].type}={.status.conditions[0].status}, {.status.conditions[0].reason}, generation {.status.observedGeneration}{"\n"}'
[ $FAILED = 0 ] || { echo "something did not come out as it should"; exit 1; }
