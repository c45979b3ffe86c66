#!/bin/bash
# Proves the cluster: a mutating webhook as a Deployment, capture by iptables in an init container, Envoy sidecars under
# UID 1337. NATIVE=1 makes the sidecar a native one.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/settings.sh"
: "${NATIVE:=0}"
kubectl() { "$HERE/in-cluster.sh" kubectl "$@"; }
PKI=$STATE/pki
kubectl create namespace mesh-system --dry-run=client -o yaml | kubectl apply -f -
d=$(mktemp -d); trap 'rm -rf $d' EXIT
openssl ecparam -name prime256v1 -genkey -noout -out $d/k
printf 'subjectAltName=DNS:injector.mesh-system.svc\nextendedKeyUsage=serverAuth\n' >$d/e
openssl req -new -key $d/k -subj /CN=injector 2>/dev/null | openssl x509 -req -CA $PKI/ca.crt -CAkey $PKI/ca.key -set_serial 0x$(openssl rand -hex 8) -days 30 -extfile $d/e -out $d/c 2>/dev/null
kubectl -n mesh-system create secret tls injector --cert $d/c --key $d/k --dry-run=client -o yaml | kubectl apply -f -
cat >$d/iptables.sh <<'K'
iptables -t nat -N MESH_IN; iptables -t nat -N MESH_OUT
iptables -t nat -A MESH_IN -p tcp --dport 15021 -j RETURN
iptables -t nat -A MESH_IN -p tcp -j REDIRECT --to-ports 15006
iptables -t nat -A PREROUTING -p tcp -j MESH_IN
iptables -t nat -A MESH_OUT -m owner --uid-owner 1337 -j RETURN
iptables -t nat -A MESH_OUT -o lo -j RETURN
iptables -t nat -A MESH_OUT -p tcp -j REDIRECT --to-ports 15001
iptables -t nat -A OUTPUT -p tcp -j MESH_OUT
iptables-save -t nat
K
kubectl -n mesh-system create configmap injector --from-file=iptables.sh=$d/iptables.sh --dry-run=client -o yaml | kubectl apply -f -
kubectl apply -f - <<K
apiVersion: apps/v1
kind: Deployment
metadata: {name: injector, namespace: mesh-system}
spec:
  selector: {matchLabels: {app: injector}}
  template:
    metadata: {labels: {app: injector}}
    spec:
      containers:
      - {name: injector, image: "localhost/injector:1", imagePullPolicy: Never, env: [{name: NATIVE, value: "$NATIVE"}],
         readinessProbe: {tcpSocket: {port: 9443}, periodSeconds: 1},
         volumeMounts: [{name: tls, mountPath: /etc/tls}, {name: conf, mountPath: /etc/injector}]}
      volumes: [{name: tls, secret: {secretName: injector}}, {name: conf, configMap: {name: injector}}]
---
apiVersion: v1
kind: Service
metadata: {name: injector, namespace: mesh-system}
spec: {selector: {app: injector}, ports: [{port: 443, targetPort: 9443}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: injector}
webhooks:
- name: injector.mesh.test
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 5
  namespaceSelector: {matchLabels: {inject: "yes"}}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
  clientConfig: {caBundle: "$(base64 -w0 $PKI/ca.crt)", service: {name: injector, namespace: mesh-system, path: /inject}}
---
apiVersion: v1
kind: Namespace
metadata: {name: app, labels: {inject: "yes"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: envoy-conf, namespace: app}
data:
  envoy.yaml: |
    admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}
    static_resources:
      listeners:
      - &l
        name: inbound
        address: {socket_address: {address: 0.0.0.0, port_value: 15006}}
        listener_filters: [{name: od, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}]
        filter_chains:
        - filters:
          - name: hcm
            typed_config: &hcm
              "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              stat_prefix: inbound
              use_remote_address: true
              access_log: [{name: a, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, log_format: {text_format_source: {inline_string: "IN %REQ(:PATH)% %RESPONSE_CODE% up=%UPSTREAM_HOST% from=%DOWNSTREAM_REMOTE_ADDRESS%\n"}}}}]
              route_config: {virtual_hosts: [{name: v, domains: ["*"], response_headers_to_add: [{header: {key: x-mesh, value: in}}], routes: [{match: {prefix: /}, route: {cluster: od}}]}]}
              http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
      - name: outbound
        address: {socket_address: {address: 0.0.0.0, port_value: 15001}}
        listener_filters: [{name: od, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}]
        filter_chains:
        - filters:
          - name: hcm
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              stat_prefix: outbound
              access_log: [{name: a, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, log_format: {text_format_source: {inline_string: "OUT %REQ(:AUTHORITY)%%REQ(:PATH)% %RESPONSE_CODE% up=%UPSTREAM_HOST%\n"}}}}]
              route_config: {virtual_hosts: [{name: v, domains: ["*"], response_headers_to_add: [{header: {key: x-mesh, value: out}}], routes: [{match: {prefix: /}, route: {cluster: od}}]}]}
              http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
      - name: ready
        address: {socket_address: {address: 0.0.0.0, port_value: 15021}}
        filter_chains:
        - filters:
          - name: hcm
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              stat_prefix: ready
              route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]}
              http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
      clusters:
      - {name: od, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, connect_timeout: 2s}
K
kubectl -n mesh-system rollout status deploy/injector --timeout=60s
t=$(date +%s%N)
# the service may be programmed a moment after the Deployment is Available: retry the first create
for i in 1 2 3 4 5 6 7 8 9 10; do kubectl -n app apply -f "$HERE/manifests/echo.yaml" && break; sleep 0.5; done
kubectl -n app rollout status deploy/echo --timeout=60s
kubectl -n app wait --for=condition=Ready pod/client --timeout=60s
echo "injected pods ready after $(( ($(date +%s%N)-t)/1000000 )) ms"
kubectl -n app get pods -o wide
for i in $(seq 20); do kubectl -n app exec client -c c -- wget -qO- http://echo/warm >/dev/null 2>&1 && break; sleep 0.3; done
kubectl -n app exec client -c c -- wget -S -qO- http://echo/hello
echo "--- client sidecar"; kubectl -n app logs client -c envoy
echo "--- server sidecars"; kubectl -n app logs -l app=echo -c envoy --prefix
echo "--- init container"; kubectl -n app logs client -c mesh-init
