#!/usr/bin/env bash
# Runs clients of AWS KMS that others wrote, unmodified, against a daemon over tokens of its own: those of
# tests/conformance/aws, in exactly the versions of its requirements.txt and package-lock.json, installed under target/.
set -euo pipefail
cd "$(dirname "$0")/../.."
from=$PWD/tests/conformance/aws to=$PWD/target/conformance/aws

missing() {
    echo "conformance: there is no $1. Install it: make deps, or as root: apt-get install $2" >&2
    exit 1
}
command -v npm >/dev/null || missing npm npm
command -v curl >/dev/null || missing curl curl
/usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || missing "Python's venv" python3-venv

mkdir -p "$to/js"
# What was installed by these files is taken as it is, so that the network is needed once.
if ! cmp -s "$from/requirements.txt" "$to/requirements.txt"; then
    rm -rf "$to/venv"
    /usr/bin/python3 -m venv "$to/venv"
    "$to/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$from/requirements.txt" || {
        echo "conformance: pip could not install the clients; it needs PyPI, or a mirror of it, for that, once." >&2
        exit 1
    }
    cp "$from/requirements.txt" "$to/"
fi
if ! cmp -s "$from/package-lock.json" "$to/js/installed.json"; then
    cp "$from/package.json" "$from/package-lock.json" "$to/js/"
    npm ci --prefix "$to/js" --ignore-scripts --no-audit --no-fund >/dev/null || {
        echo "conformance: npm could not install @aws-sdk/client-kms; it needs its registry ($(npm config get registry)) for that, once." >&2
        exit 1
    }
    cp "$from/package-lock.json" "$to/js/installed.json"
fi
cp "$from/client.mjs" "$to/js/"

${CARGO:-cargo} build --locked --quiet --bins
directory=$(mktemp -d "${TMPDIR:-/tmp}/keystored-aws-XXXXXX")
"$to/venv/bin/python" scripts/aws-model.py --check >&2
CONFORMANCE_TOOLS=$to "$to/venv/bin/python" "$from/run.py" "$PWD/target/debug/keystored" "$directory/run" "$@"
# Only where nothing failed: whoever looks for the reason needs the log.
rm -rf "$directory"
