#!/bin/bash
# The shop in a real cluster: brings the cluster up, installs mainsheet from its chart as a pod under its own ServiceAccount,
# applies the shop's manifests with an Envoy beside each pod, and shows requests and how long a change takes.
# KEEP=1 leaves everything up. Run by `make cluster`, which builds what is needed before.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
CLUSTERS=$ROOT/tests/cluster
. "$CLUSTERS/settings.sh"
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
. "$CLUSTERS/own-images.sh"

step "A Kubernetes cluster"
"$CLUSTERS/cluster-up.sh"
trap end EXIT

step "mainsheet, from its charts"
kubectl create namespace istio-system
"$BIN/helm" template istio-base "$ROOT/deploy/charts/base" | kubectl apply --server-side -f - >/dev/null
"$BIN/helm" template istiod "$ROOT/deploy/charts/istiod" --namespace istio-system --set global.imagePullPolicy=Never \
  --set autoscaleEnabled=false --set resources.requests.cpu=50m --set resources.requests.memory=64Mi \
  --set global.proxy.resources.requests.cpu=10m --set global.proxy.resources.requests.memory=32Mi | kubectl apply --server-side -f -
kubectl -n istio-system rollout status deploy/istiod --timeout=120s
# Pods are refused until the API server knows by whom its question is answered, and objects are taken until it was seen to ask.
for _ in $(seq 60); do
  policy=$(kubectl get validatingwebhookconfiguration istio-validator-istio-system -o jsonpath='{.webhooks[1].failurePolicy}')
  [ "$policy" = Fail ] && break
  sleep 0.5
done
check "validation is a must once the API server was seen to ask" Fail "$policy"

step "The shop, whose pods are given an Envoy each"
kubectl apply --dry-run=client -o json -f "$ROOT/demo/mesh" | python3 "$ROOT/demo/cluster.py" pods >"$STATE/shop.json"
kubectl apply -f - >/dev/null <"$ROOT/demo/mesh/namespace.yaml"
kubectl label namespace shop istio-injection=enabled
kubectl apply -f - >/dev/null <"$STATE/shop.json"
kubectl -n shop wait --for=condition=Ready pod --all --timeout=180s
kubectl -n shop get pods -o wide

step "A page: productpage asks details and reviews, each through two Envoys in mutual TLS"
# A pod that is ready becomes an endpoint a moment later.
for _ in $(seq 10); do
  page=$(in_shop wget -qO- http://127.0.0.1:9080/productpage || true)
  grep -q '"status": *5' <<<"$page" || break
  sleep 0.5
done
for service in details reviews; do
  got=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["asked"][sys.argv[1]]["status"])' $service <<<"$page" 2>/dev/null || true)
  check "$service answered 200" 200 "$got"
done

check "its probe goes to the agent" /app-health/productpage/readyz \
  "$(kubectl -n shop get pod productpage-v1 -o jsonpath='{.spec.containers[?(@.name=="productpage")].readinessProbe.httpGet.path}')"

step "A VirtualService that cannot be served is refused"
bad='{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"bad","namespace":"shop"},"spec":{"hosts":["reviews"],"http":[{"match":[{"uri":{"regex":"("}}],"route":[{"destination":{"host":"reviews"}}]}]}}'
said=$(kubectl apply -f - <<<"$bad" 2>&1 || true)
echo "  $said"
check "with its field" yes "$(grep -q 'spec.http\[0\].match\[0\]' <<<"$said" && echo yes)"

step "A VirtualService is changed: how long until the last proxy has it"
"$CLUSTERS/in-cluster.sh" python3 "$ROOT/demo/cluster.py" measure || FAILED=1
kubectl -n shop get virtualservice reviews -o jsonpath='  its status: {.status.conditions[0].type}={.status.conditions[0].status}, {.status.conditions[0].reason}, generation {.status.observedGeneration}{"\n"}'
[ $FAILED = 0 ] || { echo "something did not come out as it should"; exit 1; }
