#!/bin/bash
# Requests go on, at least 200 a second and each on a connection of its own, in mutual TLS, while the control plane is replaced, while
# the mesh's root and with it the webhooks' certificate are, and while the workload that answers moves to a second revision and
# back, pod by pod. None may fail, and every pod that is made on the way has a sidecar of the revision it asks for. All the while
# the API server asks the webhooks, and nothing is refused but what is wrong. Run by `make moves`, which builds what is needed before.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
. "$HERE/settings.sh"
kubectl() { "$HERE/in-cluster.sh" kubectl "$@"; }
# How long certificates of workloads are valid, in seconds.
LIFE=60

say "images, from the files of this machine"
. "$HERE/own-images.sh"
"$HERE/cluster-up.sh"
d=$(mktemp -d)
end() {
  local code=$?
  [ $code = 0 ] || kubectl -n istio-system logs -l app=istiod --tail 20 2>/dev/null || true
  [ "${KEEP:-}" = 1 ] || "$HERE/cluster-down.sh"
  rm -rf "$d"
}
trap end EXIT

# The control plane of a revision, from its chart.
chart() {
  "$BIN/helm" template istiod "$ROOT/deploy/charts/istiod" -n istio-system --set "revision=$1,autoscaleEnabled=false,replicaCount=2" \
    --set global.imagePullPolicy=Never,resources.requests.cpu=20m,resources.requests.memory=64Mi \
    --set global.proxy.resources.requests.cpu=10m,global.proxy.resources.requests.memory=32Mi \
    --set-string "meshConfig.defaultConfig.proxyMetadata.SECRET_TTL=${LIFE}s"
}
control_plane() { echo "deploy/istiod${1:+-$1}"; }
install() {
  chart "$1" | kubectl apply --server-side -f - >/dev/null
  kubectl -n istio-system rollout status "$(control_plane "$1")" --timeout=120s
  local webhook=istio-sidecar-injector${1:+-$1}
  for _ in $(seq 100); do
    [ -z "$(kubectl get mutatingwebhookconfiguration "$webhook" -o jsonpath='{.webhooks[0].clientConfig.caBundle}')" ] || return 0
    sleep 0.3
  done
  fail "$webhook has no root"
}
# A workload that may be asked, or that asks; it goes on for a while after it was told to end, as its address is known still.
workload() {
  kubectl apply -f - >/dev/null <<OBJECTS
apiVersion: v1
kind: Service
metadata: {name: $1, namespace: shop}
spec: {selector: {app: $1}, ports: [{name: http, port: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1, namespace: shop}
spec:
  replicas: $2
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      terminationGracePeriodSeconds: 15
      containers:
      - name: app
        image: localhost/shop:1
        imagePullPolicy: Never
        args: [serve, --name, $1, --http, "0.0.0.0:9080"]
        ports: [{containerPort: 9080}]
        readinessProbe: {tcpSocket: {port: 9080}, periodSeconds: 1}
        lifecycle: {preStop: {exec: {command: [sleep, "5"]}}}
OBJECTS
}
settled() { kubectl -n shop rollout status "deploy/$1" --timeout=180s; }
# All pods of a workload have a sidecar of this revision.
are_of() {
  local all
  all=$(kubectl -n shop get pods -l "app=$1" -o json | python3 -c '
import json, sys
pods = [p for p in json.load(sys.stdin)["items"] if "deletionTimestamp" not in p["metadata"]]
print(*sorted({json.loads(p["metadata"]["annotations"]["sidecar.istio.io/status"]).get("revision") for p in pods}))')
  [ "$all" = "$2" ] || fail "the pods of $1 are of $all, and not of $2"
  say "the pods of $1 are of $2"
}

# The next step of a new root.
rotate() { "$HERE/in-cluster.sh" "$BINARIES/mainsheet" ca rotate --overlap 1s; }
# How many roots a text of the API server, in Base64, has.
roots() { base64 -d | grep -c BEGIN; }
bundle() { kubectl get mutatingwebhookconfiguration istio-sidecar-injector -o jsonpath='{.webhooks[0].clientConfig.caBundle}'; }
# All who call or are called trust so many roots: the API server, and each sidecar's file of them.
trusted() {
  local pod
  for _ in $(seq 300); do
    [ "$(bundle | roots)" = "$1" ] && break
    sleep 0.5
  done
  [ "$(bundle | roots)" = "$1" ] || fail "the API server does not trust $1 roots"
  for pod in $(kubectl -n shop get pods -o name); do
    for _ in $(seq 300); do
      [ "$(kubectl -n shop exec "$pod" -c istio-proxy -- cat /var/run/secrets/istio/root-cert.pem | grep -c BEGIN)" = "$1" ] && continue 2
      sleep 0.5
    done
    fail "$pod does not trust $1 roots"
  done
}

kubectl create namespace istio-system >/dev/null
"$BIN/helm" template istio-base "$ROOT/deploy/charts/base" | kubectl apply --server-side -f - >/dev/null
install ""
kubectl apply -f - >/dev/null <<OBJECTS
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
OBJECTS
kubectl apply -f - >/dev/null <<OBJECTS
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all, namespace: shop}
spec: {mtls: {mode: STRICT}}
OBJECTS
workload server 2
workload client 1
settled server
settled client
are_of server default

# The client stays; its orders come by a pipe, and what it found comes at the end.
mkfifo "$d/orders"
kubectl -n shop exec -i deploy/client -c app -- /usr/local/bin/echo send <"$d/orders" >"$d/found" &
asking=$!
exec 3>"$d/orders"
echo '{"op":"start","url":"http://server:9080/","workers":12,"pause_ms":20,"fresh":true,"brief":true}' >&3
began=$EPOCHSECONDS
mkfifo "$d/asking"
# It must not hold the pipe of the orders open.
"$HERE/in-cluster.sh" python3 "$HERE/admission.py" "$HOST_IP:$API_PORT" "$STATE/pki" shop <"$d/asking" >"$d/admitted" 2>&1 3>&- &
admission=$!
exec 4>"$d/asking"

say "the control plane is replaced, and pods are made meanwhile"
kubectl -n istio-system rollout restart "$(control_plane "")" >/dev/null
workload other 1
kubectl -n istio-system rollout status "$(control_plane "")" --timeout=180s
settled other
are_of other default

say "a new root, by which the webhooks have another certificate"
before=$(bundle)
rotate
trusted 2
rotate
# Until nobody has a certificate of the old root any more.
sleep $((LIFE + 15))
rotate
trusted 1
[ "$(bundle)" != "$before" ] || fail "the root is the same as before"

say "a second revision, and the workload moves to it"
install canary
kubectl label namespace shop istio-injection- istio.io/rev=canary --overwrite >/dev/null
kubectl -n shop rollout restart deploy/server >/dev/null
settled server
are_of server canary

say "the second revision is replaced"
kubectl -n istio-system rollout restart "$(control_plane canary)" >/dev/null
kubectl -n istio-system rollout status "$(control_plane canary)" --timeout=180s

say "and back"
kubectl label namespace shop istio-injection=enabled istio.io/rev- --overwrite >/dev/null
kubectl -n shop rollout restart deploy/server >/dev/null
settled server
are_of server default
sleep 7
chart canary | kubectl delete --wait=true -f - >/dev/null
sleep 2

echo '{"op":"stop"}' >&3
exec 3>&-
wait $asking
exec 4>&-
wait $admission || FAILED=1
cat "$d/admitted"
python3 - "$d/found" $((EPOCHSECONDS - began)) <<'PYTHON'
import collections, json, sys
replies = json.loads(open(sys.argv[1]).read().splitlines()[1])
seconds = int(sys.argv[2])
failed = [r for r in replies if r["status"] != 200]
print(f"{len(replies)} requests in {seconds} s, {len(replies) / seconds:.0f} a second; {len(failed)} failed")
for (status, why), count in collections.Counter((r["status"], r["error"] or r["body"]) for r in failed).most_common(10):
    print(f"  {count} times {status}: {why}")
sys.exit(bool(failed) or len(replies) < 200 * seconds)
PYTHON
[ -z "${FAILED:-}" ] || fail "an admission call did not come out as it should"
