"""Asks the API server again and again to make a pod and a VirtualService, without making them: each time the webhooks are
called. Goes on until standard input ends, then tells how many were asked for, and what did not come out as it should: a pod
is to have a sidecar, an object that is right is to be taken, and one that is wrong is to be refused by validation.

    admission.py API_SERVER DIRECTORY_OF_CERTIFICATES NAMESPACE
"""

import collections
import http.client
import json
import ssl
import sys
import threading
import time

server, pki, namespace = sys.argv[1:]
tls = ssl.create_default_context(cafile=f"{pki}/ca.crt")
tls.load_cert_chain(f"{pki}/admin.crt", f"{pki}/admin.key")
stop = threading.Event()
asked, wrong, slowest = collections.Counter(), collections.Counter(), collections.Counter()

pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "asked-"},
       "spec": {"containers": [{"name": "app", "image": "a"}]}}


def service(weight):
    route = [{"destination": {"host": "server"}, "weight": weight}]
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"generateName": "asked-"},
            "spec": {"hosts": ["server"], "http": [{"match": [{"uri": {"regex": "(" if weight < 0 else "/.*"}}], "route": route}]}}


def is_injected(status, answer):
    return status == 201 and any(c["name"] == "istio-proxy" for c in answer["spec"].get("initContainers", []))


CALLS = {
    "a pod": ("/api/v1/namespaces/%s/pods", pod, is_injected),
    "a right object": ("/apis/networking.istio.io/v1/namespaces/%s/virtualservices", service(100), lambda status, _: status == 201),
    "a wrong object": ("/apis/networking.istio.io/v1/namespaces/%s/virtualservices", dict(service(-1)),
                       lambda status, answer: status != 201 and "configuration is invalid" in answer.get("message", "")),
}
CALLS["a wrong object"][1]["spec"]["http"][0]["route"][0]["weight"] = 100


def ask(name, pause):
    path, body, right = CALLS[name]
    path, body = f"{path % namespace}?dryRun=All", json.dumps(body)
    connection = None
    while not stop.wait(pause):
        asked[name] += 1
        began = time.monotonic()
        try:
            connection = connection or http.client.HTTPSConnection(server, context=tls, timeout=30)
            connection.request("POST", path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            if not right(response.status, answer):
                wrong[f"{name}: {response.status}: {answer.get('message', 'it has no sidecar')}"] += 1
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection = None
            wrong[f"{name}: {error!r}"] += 1
        slowest[name] = max(slowest[name], int((time.monotonic() - began) * 1000))


threads = [threading.Thread(target=ask, args=(name, 0.1)) for name in CALLS for _ in range(2)]
for thread in threads:
    thread.start()
sys.stdin.read()
stop.set()
for thread in threads:
    thread.join()
for name, count in asked.items():
    print(f"{name} was asked for {count} times; the slowest answer took {slowest[name]} ms")
for why, count in wrong.most_common(10):
    print(f"  {count} times {why}")
sys.exit(bool(wrong) or not all(asked.values()))
