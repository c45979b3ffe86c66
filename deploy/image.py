#!/usr/bin/env python3
"""Makes a container image from local files, without an engine: the tar of an OCI image layout, which is a docker-archive too,
so that `ctr images import`, `docker load`, `podman load` and `skopeo copy oci-archive:` take it.

image.py OUT.tar NAME:TAG [--entrypoint A,B] [--env K=V]... [--user UID] [--ldd] [--sizes] SOURCE:TARGET...

With --sizes what is in it is printed. SOURCE is a file or a directory; `@LINK:TARGET` makes TARGET a symbolic link to LINK. With --ldd the shared libraries and
the loader of each file come along. The same files make the same image.
"""
import argparse
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile

OCI = "application/vnd.oci.image."
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
DIRECTORIES = {"tmp", "proc", "sys", "dev", "run", "etc", "var", "var/run"}
TEXTS = {
    "etc/passwd": b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "etc/group": b"root:x:0:\nnobody:x:65534:\n",
    "etc/nsswitch.conf": b"hosts: files dns\n",
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("name")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--entrypoint", default="")
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--user", default="")
    parser.add_argument("--ldd", action="store_true")
    parser.add_argument("--sizes", action="store_true")
    return parser.parse_intermixed_args()


def libraries(path):
    """The shared libraries and the loader that an ELF file names."""
    out = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    return [word for word in out.replace("=>", " ").split() if word.startswith("/") and os.path.exists(word)]


def contents(files, ldd):
    """What is in the image: its path, and either the bytes, the file or the link that it is."""
    found = {path: ("bytes", text) for path, text in TEXTS.items()}

    def add(source, target):
        found[target.lstrip("/")] = ("file", os.path.realpath(source))
        for library in libraries(source) if ldd else []:
            found.setdefault(library.lstrip("/"), ("file", os.path.realpath(library)))

    for entry in files:
        source, target = entry.rsplit(":", 1)
        if source.startswith("@"):
            found[target.lstrip("/")] = ("link", source[1:])
        elif os.path.isdir(source):
            for directory, _, names in os.walk(source):
                for name in names:
                    path = os.path.join(directory, name)
                    add(path, os.path.join(target, os.path.relpath(path, source)))
        else:
            add(source, target)
    return found


def layer(found):
    """One layer with everything, as a tar."""
    directories = set(DIRECTORIES)
    for path in found:
        while path := os.path.dirname(path):
            directories.add(path)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(directories):
            info = tarfile.TarInfo(path)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            tar.addfile(info)
        for path, (form, what) in sorted(found.items()):
            info = tarfile.TarInfo(path)
            if form == "link":
                info.type, info.linkname = tarfile.SYMTYPE, what
                tar.addfile(info)
            elif form == "bytes":
                info.size, info.mode = len(what), 0o644
                tar.addfile(info, io.BytesIO(what))
            else:
                info.size, info.mode = os.path.getsize(what), 0o755 if os.access(what, os.X_OK) else 0o644
                with open(what, "rb") as file:
                    tar.addfile(info, file)
    return out.getvalue()


def main():
    given = arguments()
    found = contents(given.files, given.ldd)
    files = layer(found)
    digest = hashlib.sha256(files).hexdigest()
    settings = {"Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] + given.env, "WorkingDir": "/"}
    if given.entrypoint:
        settings["Entrypoint"] = given.entrypoint.split(",")
    if given.user:
        settings["User"] = given.user
    config = json.dumps({
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
        "config": settings,
    }).encode()
    index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": []}
    members = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode()}

    def blob(kind, data):
        """Adds a blob, and tells what refers to it."""
        digest = hashlib.sha256(data).hexdigest()
        members["blobs/sha256/" + digest] = data
        return {"mediaType": OCI + kind, "digest": "sha256:" + digest, "size": len(data)}

    described = {"config": blob("config.v1+json", config), "layers": [blob("layer.v1.tar", files)]}
    described = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", **described}
    annotations = {"io.containerd.image.name": given.name, "org.opencontainers.image.ref.name": given.name.rsplit(":", 1)[-1]}
    index["manifests"].append({**blob("manifest.v1+json", json.dumps(described).encode()), "annotations": annotations})
    members["index.json"] = json.dumps(index).encode()
    # What docker load reads, which looks at nothing else.
    path = lambda blob: "blobs/" + blob["digest"].replace(":", "/")
    docker = {"Config": path(described["config"]), "RepoTags": [given.name], "Layers": [path(described["layers"][0])]}
    members["manifest.json"] = json.dumps([docker]).encode()
    with tarfile.open(given.out + ".new", "w") as tar:
        for name, data in sorted(members.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    os.replace(given.out + ".new", given.out)
    print(f"{given.name}: {len(files)} bytes")
    if given.sizes:
        for target, (form, what) in sorted(found.items()):
            size = os.path.getsize(what) if form == "file" else len(what)
            print(f"  {size:>10}  /{target}")


main()
