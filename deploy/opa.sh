#!/bin/sh
# Installs the real Open Policy Agent, which tests let decide: built from its Go module, kept outside the source tree.
# Prints its path. `opa.sh --path` prints it and installs nothing.
set -eu

module=github.com/open-policy-agent/opa
version=1.22.2
sum=h1:WzqReKk2VjcvBN/NQTlcIxKqFPKpzIdb6KYMHzPEbe0=
PATH=$PATH:/usr/local/go/bin
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mainsheet
opa=$cache/opa-$version/opa

say() { echo "opa: $*" >&2; }

install_opa() {
    [ -x "$opa" ] && return 0
    if ! command -v go >/dev/null 2>&1; then
        say "Go is needed to build Open Policy Agent; install it from https://go.dev/dl or your distribution"
        exit 1
    fi
    say "building $module $version"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.opa.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    GOBIN=$work GOFLAGS=-buildvcs=false nice go install -tags opa_no_oci -trimpath -ldflags='-s -w' \
        "$module@v$version" >&2
    go version -m "$work/opa" | tr '\t' ' ' | grep -qF "mod $module v$version $sum" || {
        say "what was built is not $module v$version with the sum $sum"
        exit 1
    }
    mkdir -p "${opa%/*}"
    mv "$work/opa" "$opa"
}

[ "${1:-}" = --path ] || install_opa
echo "$opa"
