#!/bin/bash
# Pods whose sidecar is a stock Envoy alone, beside such with an agent, in a real cluster: injected by the webhook, captured,
# asked by kubelet in each way, and in mutual TLS with each other in both directions. What is injected is an image that holds
# nothing but Envoy. MAINSHEET is the program. A cluster that is not up is brought up and ended.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
. "$HERE/settings.sh"
kubectl() { "$HERE/in-cluster.sh" kubectl "$@"; }

say "images, from the files of this machine"
. "$HERE/own-images.sh"
image envoy --entrypoint /usr/local/bin/envoy "$ENVOY:/usr/local/bin/envoy"
d=$(mktemp -d); made=
end() {
  local code=$?
  if [ $code != 0 ]; then
    kubectl -n istio-system logs -l app=istiod --tail 20 2>/dev/null || true
    kubectl -n shop get pods -o wide 2>/dev/null || true
    kubectl -n shop logs -l app=alone -c istio-proxy --tail 20 2>/dev/null || true
  fi
  [ -z "$made" ] || [ "${KEEP:-}" = 1 ] || "$HERE/cluster-down.sh"
  rm -rf "$d"
}
trap end EXIT
if is_up; then "$HERE/component.sh" image "$IMAGES/envoy.tar"; else made=1; "$HERE/cluster-up.sh"; fi

kubectl create namespace istio-system >/dev/null
"$BIN/helm" template istio-base "$ROOT/deploy/charts/base" | kubectl apply --server-side -f - >/dev/null
"$BIN/helm" template istiod "$ROOT/deploy/charts/istiod" -n istio-system --set autoscaleEnabled=false \
  --set global.imagePullPolicy=Never,resources.requests.cpu=20m,resources.requests.memory=64Mi \
  --set global.proxy.resources.requests.cpu=10m,global.proxy.resources.requests.memory=32Mi \
  --set global.proxy.envoyImage=localhost/envoy:1 | kubectl apply --server-side -f - >/dev/null
kubectl -n istio-system rollout status deploy/istiod --timeout=120s
for _ in $(seq 100); do
  [ -z "$(kubectl get mutatingwebhookconfiguration istio-sidecar-injector -o jsonpath='{.webhooks[0].clientConfig.caBundle}')" ] || break
  sleep 0.3
done

# NAME AGENT NATIVE: a workload, its Service, and probes of each kind.
workload() {
  kubectl apply -f - >/dev/null <<OBJECTS
apiVersion: v1
kind: ServiceAccount
metadata: {name: $1, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: $1, namespace: shop}
spec: {selector: {app: $1}, ports: [{name: http, port: 9080}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: $1
  namespace: shop
  labels: {app: $1}
  annotations: {sidecar.mainsheet.io/agent: "$2", sidecar.istio.io/nativeSidecar: "$3"}
spec:
  serviceAccountName: $1
  terminationGracePeriodSeconds: 10
  containers:
  - name: app
    image: localhost/shop:1
    imagePullPolicy: Never
    args: [serve, --name, $1, --http, "0.0.0.0:9080"]
    ports: [{name: http, containerPort: 9080}]
    startupProbe: {tcpSocket: {port: http}, periodSeconds: 1}
    readinessProbe: {httpGet: {path: "/ready?full=1", port: http, httpHeaders: [{name: x-share, value: "5%"}]}, periodSeconds: 1}
    livenessProbe: {grpc: {port: 9080}, periodSeconds: 1, failureThreshold: 2}
OBJECTS
}
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
workload agent true true
workload alone false true
workload ordinary false false
kubectl -n shop wait --for=condition=Ready pod/agent pod/alone pod/ordinary --timeout=120s
for name in alone ordinary; do
  image=$(kubectl -n shop get pod $name -o jsonpath='{.spec..containers[?(@.name=="istio-proxy")].image}{.spec.initContainers[?(@.name=="istio-proxy")].image}')
  [ "$image" = localhost/envoy:1 ] || fail "the sidecar of $name is $image"
done

# FROM TO: a request in mutual TLS, whose client is known by its name.
ask() {
  for _ in $(seq 20); do
    kubectl -n shop exec -i "$1" -c app -- /usr/local/bin/echo send <<<'{"op":"http","url":"http://'"$2"':9080/hello","fresh":true}' >"$d/reply"
    if python3 - "$1" "$2" "$d/reply" <<'PYTHON'
import json, sys
client, server, file = sys.argv[1:]
reply = json.loads(open(file).read().splitlines()[0])[0]
body = json.loads(reply["body"]) if reply["status"] == 200 else {}
said = json.dumps(body.get("headers", {}).get("x-forwarded-client-cert", reply))
sys.exit(body.get("name") != server or f"spiffe://cluster.local/ns/shop/sa/{client}" not in said)
PYTHON
    then say "$1 asks $2, which knows who it is"; return; fi
    sleep 0.5
  done
  cat "$d/reply"
  fail "$1 cannot ask $2"
}
ask agent alone
ask alone agent
ask agent ordinary
ask ordinary alone

# From the node, in plaintext, as kubelet asks. What is no probe is refused: mutual TLS is a must there.
ip=$(kubectl -n shop get pod alone -o jsonpath='{.status.podIP}')
get() { "$HERE/in-cluster.sh" curl -s -m 3 -o "$d/body" -w '%{http_code}' "http://$ip:$1" || true; }
[ "$(get 15020/app-health/app/readyz)" = 200 ] || fail "the probe over HTTP: $(cat "$d/body")"
python3 - "$d/body" <<'PYTHON'
import json, sys
body = json.load(open(sys.argv[1]))
assert (body["path"], body["headers"]["x-share"]) == ("/ready?full=1", "5%"), body
PYTHON
for path in 15020/app-health/app/livez 15020/app-health/app/startupz 15021/healthz/ready 15090/stats/prometheus; do
  [ "$(get $path)" = 200 ] || fail "$path: $(cat "$d/body")"
done
grep -q '^envoy_server_live' "$d/body" || fail "these are no metrics"
for path in 15020/app-health/app/other 15020/quitquitquit 9080/hello; do
  [ "$(get $path)" != 200 ] || fail "$path is answered"
done
say "kubelet's questions are answered, and no others"

# An application that is gone is found to be: its probes fail until kubelet has started it again.
kubectl -n shop exec alone -c app -- /bin/busybox kill 1
for _ in $(seq 60); do
  [ "$(kubectl -n shop get pod alone -o 'jsonpath={.status.containerStatuses[?(@.name=="app")].restartCount}')" = 1 ] && break
  sleep 0.3
done
kubectl -n shop wait --for=condition=Ready pod/alone --timeout=60s
ask agent alone
ask alone ordinary
for name in agent alone ordinary; do
  kubectl -n shop get pod $name -o json | python3 -c '
import json, sys
status = json.load(sys.stdin)["status"]
all = status.get("initContainerStatuses", []) + status["containerStatuses"]
sys.exit(any(c["restartCount"] for c in all if c["name"] == "istio-proxy"))' || fail "the sidecar of $name was started again"
done
kubectl -n shop delete pod --all --wait=true --timeout=60s >/dev/null
kubectl delete namespace shop --wait=false >/dev/null
say "sidecars without an agent are captured, asked and answered"
