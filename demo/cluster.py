#!/usr/bin/env python3
"""The shop of demo/mesh in a real cluster: its pods, which injection gives an Envoy, and how long a change takes to reach them all.

cluster.py pods      reads the shop's objects as JSON (kubectl's) and writes them as a cluster takes them, as JSON
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

CALLS = {
    "productpage": ["details", "reviews"],
    "reviews-v2": ["ratings"],
    "reviews-v3": ["ratings"],
}


def workload(pod):
    name, labels = pod["metadata"]["name"], pod["metadata"]["labels"]
    args = ["serve", "--name", labels["app"], "--version", labels["version"], "--http", f"0.0.0.0:{PORT}"]
    for service in CALLS.get(name, CALLS.get(labels["app"], [])):
        args += ["--calls", f"{service}={service}:{PORT}/{service}/0"]
    return {"name": labels["app"], "image": "localhost/shop:1", "imagePullPolicy": "Never", "args": args,
            "ports": [{"name": "http", "containerPort": PORT}],
            "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1}}


def plain(pod):
    """The pod as somebody writes it who leaves the sidecar to injection."""
    spec = {"serviceAccountName": pod["spec"]["serviceAccountName"], "terminationGracePeriodSeconds": 1,
            "containers": [workload(pod)]}
    metadata = {key: pod["metadata"][key] for key in ("name", "namespace", "labels")}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def pods():
    """The shop's objects, as a cluster takes them: addresses and endpoints are the cluster's own business there."""
    out = []
    for item in json.load(sys.stdin)["items"]:
        if item["kind"] == "EndpointSlice":
            continue
        if item["kind"] == "Service":
            item["spec"].pop("clusterIP", None)
            item["spec"].pop("clusterIPs", None)
        out.append(plain(item) if item["kind"] == "Pod" else item)
    json.dump({"apiVersion": "v1", "kind": "List", "items": out}, sys.stdout)


def kubectl(*arguments):
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"kubectl {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def standing(address, token):
    """What each proxy was last sent of routes, and has taken."""
    page = urllib.request.Request(f"http://{address}:8080/debug/syncz", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(page, timeout=5) as answer:
        proxies = json.load(answer)
    # Routes come as virtual hosts by themselves, or with the whole of a port.
    kinds = [f"type.googleapis.com/envoy.config.route.v3.{kind}" for kind in ("VirtualHost", "RouteConfiguration")]
    stand = lambda proxy, what: [proxy["resources"].get(kind, {}).get(what, "") for kind in kinds]
    return {proxy["proxy"]: (stand(proxy, "sent"), stand(proxy, "acked")) for proxy in proxies}


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
    # Debug pages are for those of the control plane's namespace.
    token = kubectl("create", "token", "istiod", "-n", "istio-system", "--audience", "istio-ca").strip()
    proxies = sorted(standing(address, token))
    print(f"  {len(proxies)} proxies: {', '.join(proxies)}")
    for number in range(ROUNDS):
        before = standing(address, token)
        begun = write(connection, 10 + number)
        while True:
            now = standing(address, token)
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
