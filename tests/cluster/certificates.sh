# Certificates and kubeconfigs of one cluster, below STATE. Sourced by cluster-up.sh.

# leaf NAME SUBJECT [SUBJECT_ALT_NAMES]: a key and a certificate of the cluster's authority, for both ends of TLS.
leaf() {
  openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
  {
    printf '%s\n' basicConstraints=CA:FALSE keyUsage=digitalSignature extendedKeyUsage=clientAuth,serverAuth
    [ -z "${3:-}" ] || echo "subjectAltName=$3"
  } >"$1.ext"
  openssl req -new -key "$1.key" -subj "$2" 2>/dev/null |
    openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 3650 -extfile "$1.ext" \
      -out "$1.crt" 2>/dev/null
}

# kubeconfig NAME: STATE/kube/NAME.conf, for the caller that the certificate NAME is for.
kubeconfig() {
  cat >"$STATE/kube/$1.conf" <<FILE
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://$HOST_IP:$API_PORT", certificate-authority: $STATE/pki/ca.crt}}]
users: [{name: u, user: {client-certificate: $STATE/pki/$1.crt, client-key: $STATE/pki/$1.key}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
FILE
}

certificates() {
  cd "$STATE/pki"
  openssl ecparam -name prime256v1 -genkey -noout -out ca.key
  openssl req -x509 -new -key ca.key -subj /CN=cluster-ca -days 3650 -out ca.crt \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature 2>/dev/null
  local service=kubernetes names
  names="DNS:$service,DNS:$service.default,DNS:$service.default.svc,DNS:$service.default.svc.cluster.local,DNS:localhost"
  leaf apiserver /CN=kube-apiserver "$names,IP:127.0.0.1,IP:$HOST_IP,IP:$API_SERVICE_IP"
  leaf etcd /CN=etcd DNS:localhost,IP:127.0.0.1
  leaf admin /O=system:masters/CN=admin
  leaf controller-manager /CN=system:kube-controller-manager DNS:localhost,IP:127.0.0.1
  leaf scheduler /CN=system:kube-scheduler DNS:localhost,IP:127.0.0.1
  leaf proxy /CN=system:kube-proxy
  leaf kubelet "/O=system:nodes/CN=system:node:$NODE" "DNS:$NODE,IP:$NODE_IP"
  leaf apiserver-kubelet /O=system:masters/CN=apiserver-kubelet-client
  openssl genrsa -out sa.key 2048 2>/dev/null
  openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
  local name
  for name in admin controller-manager scheduler proxy kubelet; do kubeconfig "$name"; done
}
