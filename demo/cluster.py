#!/usr/bin/env python3
"""The shop of demo/mesh in a real cluster: each pod with an Envoy beside it, and how long a change takes to reach them all.

cluster.py pods      reads the shop's objects as JSON (kubectl's) and writes them with sidecars, as JSON
cluster.py measure   changes the routes of the running shop and prints how long it took until the last proxy had them

Runs in the cluster's network (tests/cluster/in-cluster.sh). Needs nothing but Python's own library.
"""
import http.client
import json
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request

NAMESPACE = "shop"
PORT = 9080
ROUNDS = 10

# What an init container of a sidecar sets: outbound connections go to 15001 and inbound ones to 15006, except those of
# Envoy itself (user 1337), those to the loopback device, and those that Envoy hands on to the workload.
CAPTURE = """
iptables -t nat -N MESH_IN
for port in 15020 15021 15090; do iptables -t nat -A MESH_IN -p tcp --dport $port -j RETURN; done
iptables -t nat -A MESH_IN -p tcp -j REDIRECT --to-ports 15006
iptables -t nat -A PREROUTING -p tcp -j MESH_IN
iptables -t nat -N MESH_OUT
iptables -t nat -A MESH_OUT -o lo -s 127.0.0.6/32 -j RETURN
iptables -t nat -A MESH_OUT -o lo ! -d 127.0.0.1/32 -p tcp -m owner --uid-owner 1337 -j REDIRECT --to-ports 15006
iptables -t nat -A MESH_OUT -o lo -m owner ! --uid-owner 1337 -j RETURN
iptables -t nat -A MESH_OUT -m owner --uid-owner 1337 -j RETURN
iptables -t nat -A MESH_OUT -d 127.0.0.1/32 -j RETURN
iptables -t nat -A MESH_OUT -p tcp -j REDIRECT --to-ports 15001
iptables -t nat -A OUTPUT -p tcp -j MESH_OUT
"""
CALLS = {
    "productpage": ["details", "reviews"],
    "reviews-v2": ["ratings"],
    "reviews-v3": ["ratings"],
}


def field(path):
    return {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}


def sidecar(pod):
    """The container with the agent and its Envoy, as somebody writes it who has no injection."""
    meta = {"ISTIO_META_CLUSTER_ID": "Kubernetes", "ISTIO_META_INTERCEPTION_MODE": "REDIRECT"}
    env = [{"name": name, "value": value} for name, value in meta.items()]
    for name, path in [
        ("POD_NAME", "metadata.name"),
        ("POD_NAMESPACE", "metadata.namespace"),
        ("INSTANCE_IP", "status.podIP"),
        ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ("HOST_IP", "status.hostIP"),
    ]:
        env.append({"name": name, "valueFrom": field(path)})
    mounts = {
        "root": "/var/run/secrets/istio",
        "token": "/var/run/secrets/tokens",
        "info": "/etc/istio/pod",
        "socket": "/var/run/secrets/workload-spiffe-uds",
        "proxy": "/etc/istio/proxy",
    }
    return {
        "name": "istio-proxy",
        "image": "localhost/proxy:1",
        "imagePullPolicy": "Never",
        "args": ["agent", "sidecar", "--envoy", "/usr/local/bin/envoy", "--concurrency", "1"],
        "env": env,
        "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 1},
        "securityContext": {
            "runAsUser": 1337,
            "runAsGroup": 1337,
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }


def workload(pod):
    name, labels = pod["metadata"]["name"], pod["metadata"]["labels"]
    args = ["serve", "--name", labels["app"], "--version", labels["version"], "--http", f"0.0.0.0:{PORT}"]
    for service in CALLS.get(name, CALLS.get(labels["app"], [])):
        args += ["--calls", f"{service}={service}:{PORT}/{service}/0"]
    return {"name": labels["app"], "image": "localhost/shop:1", "imagePullPolicy": "Never", "args": args,
            "ports": [{"containerPort": PORT}]}


def with_sidecar(pod):
    token = {"serviceAccountToken": {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}}
    info = [{"path": what, "fieldRef": {"fieldPath": f"metadata.{what}"}} for what in ("labels", "annotations")]
    capture = {
        "name": "istio-init",
        "image": "localhost/iptables:1",
        "imagePullPolicy": "Never",
        "command": ["sh", "-ec", CAPTURE],
        "securityContext": {
            "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: pod["metadata"][key] for key in ("name", "namespace", "labels")},
        "spec": {
            "serviceAccountName": pod["spec"]["serviceAccountName"],
            "terminationGracePeriodSeconds": 1,
            "initContainers": [capture],
            "containers": [workload(pod), sidecar(pod)],
            "volumes": [
                {"name": "root", "configMap": {"name": "istio-ca-root-cert"}},
                {"name": "token", "projected": {"sources": [token]}},
                {"name": "info", "downwardAPI": {"items": info}},
                {"name": "socket", "emptyDir": {}},
                {"name": "proxy", "emptyDir": {}},
            ],
        },
    }


def pods():
    """The shop's objects, as a cluster takes them: addresses and endpoints are the cluster's own business there."""
    out = []
    for item in json.load(sys.stdin)["items"]:
        if item["kind"] == "EndpointSlice":
            continue
        if item["kind"] == "Service":
            item["spec"].pop("clusterIP", None)
            item["spec"].pop("clusterIPs", None)
        out.append(with_sidecar(item) if item["kind"] == "Pod" else item)
    json.dump({"apiVersion": "v1", "kind": "List", "items": out}, sys.stdout)


def kubectl(*arguments):
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"kubectl {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def standing(address):
    """What each proxy was last sent of routes, and has taken."""
    with urllib.request.urlopen(f"http://{address}:8080/debug/syncz", timeout=5) as answer:
        proxies = json.load(answer)
    return {p["proxy"]: (p.get("route_sent", ""), p.get("route_acked", "")) for p in proxies}


def api():
    """A connection to the API server, as the kubeconfig says, that is open already."""
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cafile=cluster["certificate-authority"])
    context.load_cert_chain(user["client-certificate"], user["client-key"])
    url = urllib.parse.urlparse(cluster["server"])
    connection = http.client.HTTPSConnection(url.hostname, url.port, context=context)
    connection.connect()
    return connection


def write(connection, weight):
    """Changes how the reviews are split, and says when that was asked for."""
    split = [("v1", weight), ("v2", 100 - weight)]
    route = [{"destination": {"host": "reviews", "subset": version}, "weight": share} for version, share in split]
    path = f"/apis/networking.istio.io/v1/namespaces/{NAMESPACE}/virtualservices/reviews"
    begun = time.monotonic()
    body = json.dumps({"spec": {"http": [{"route": route}]}})
    connection.request("PATCH", path, body, {"Content-Type": "application/merge-patch+json"})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200:
        sys.exit(f"PATCH {path}: {answer.status} {said}")
    return begun


def measure():
    pod = ["get", "pod", "-n", "istio-system", "-l", "istio=pilot", "-o", "jsonpath={.items[0].status.podIP}"]
    address, connection, took = kubectl(*pod), api(), []
    proxies = sorted(standing(address))
    print(f"  {len(proxies)} proxies: {', '.join(proxies)}")
    for number in range(ROUNDS):
        before = standing(address)
        begun = write(connection, 10 + number)
        while True:
            now = standing(address)
            if all(now[p][0] != before[p][0] and now[p][0] == now[p][1] for p in proxies):
                break
            if time.monotonic() - begun > 30:
                sys.exit(f"after 30 s not all proxies have the routes: {now}")
        took.append((time.monotonic() - begun) * 1000)
    took.sort()
    print(f"  from the write to the last proxy's ACK, {ROUNDS} times: {took[0]:.0f} ms at best,"
          f" {took[len(took) // 2]:.0f} ms in the middle, {took[-1]:.0f} ms at worst")
    if took[len(took) // 2] > 1000:
        sys.exit("that is too long")


{"pods": pods, "measure": measure}[sys.argv[1]]()
