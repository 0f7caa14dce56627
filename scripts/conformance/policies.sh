#!/usr/bin/env bash
# Compares the decisions of crates/auth with those of @cloud-copilot/iam-simulate (AGPL-3.0): a program of its own, installed
# under target/ in exactly the versions of tests/conformance/package-lock.json, and no part of anything that is built here.
set -euo pipefail
cd "$(dirname "$0")/../.."
cases=${1:?how many cases} seed=${2:?from which seed}
from=tests/conformance to=target/conformance/policies

missing() {
    echo "conformance: there is no $1. Install nodejs and npm: make deps, or as root: apt-get install nodejs npm" >&2
    exit 1
}
command -v node >/dev/null || missing node
command -v npm >/dev/null || missing npm

mkdir -p "$to"
# What was installed by this lock file is taken as it is, so that the network is needed once.
if ! cmp -s "$from/package-lock.json" "$to/installed.json" || ! npm ls --all --prefix "$to" >/dev/null 2>&1; then
    rm -f "$to/installed.json"
    cp "$from/package.json" "$from/package-lock.json" "$to/"
    npm ci --prefix "$to" --ignore-scripts --no-audit --no-fund >/dev/null || {
        echo "conformance: npm could not install @cloud-copilot/iam-simulate; it needs its registry ($(npm config get registry)) for that, once." >&2
        exit 1
    }
    cp "$from/package-lock.json" "$to/installed.json"
fi
cp "$from/oracle.mjs" "$to/"
RUST_BACKTRACE=0 ${CARGO:-cargo} run --locked --quiet -p conformance -- "$to/oracle.mjs" "$cases" "$seed"
