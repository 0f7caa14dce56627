#!/usr/bin/env bash
# Installs from Debian's packages what building and testing need and this machine lacks.
# A machine that has everything needs neither the network nor root.
set -euo pipefail

missing=()
# need PACKAGE COMMAND...: the package is missing when the command fails.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
program() { command -v "$1"; }
libclang() {
    compgen -G '/usr/lib/llvm-*/lib/libclang[.-]*so*' | grep -v libclang-cpp && compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h'
}
softhsm_module() { compgen -G '/usr/lib/softhsm/libsofthsm2.so' || compgen -G '/usr/lib/*/softhsm/libsofthsm2.so' || compgen -G '/usr/lib*/pkcs11/libsofthsm2.so'; }

if ! program cargo >/dev/null; then
    echo "deps: there is no cargo. Install Rust with rustup (https://rustup.rs); rust-toolchain.toml names the version." >&2
    exit 1
fi

# aws-lc, jemalloc and SQLite are compiled from C, the fuzzer's engine from C++.
need build-essential program cc
need build-essential program c++
need build-essential program make
need softhsm2 softhsm_module
need softhsm2 program softhsm2-util
need opensc program pkcs11-tool # An independent PKCS#11 client, for tests and the demo.
need openssl program openssl    # An independent TLS client, for tests.
need systemd program systemd-analyze # Looks at the unit, for tests.
need python3-grpcio /usr/bin/python3 -c 'import grpc' # An independent gRPC client, for tests.
need python3-protobuf /usr/bin/python3 -c 'import google.protobuf'
need nodejs program node # Runs what `make conformance` compares with, and one of its clients.
need npm program npm
need python3-venv /usr/bin/python3 -c "import ensurepip, venv" # The others.
need curl program curl
# The second token type of the tests (tests/kryoptic) is built on OpenSSL and SQLite, and their headers are read by clang.
need pkg-config program pkg-config
need libssl-dev pkg-config --atleast-version=3.0.7 openssl
need libsqlite3-dev pkg-config --exists sqlite3
need libclang-dev libclang

[ "${#missing[@]}" -eq 0 ] && exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

if ! program apt-get >/dev/null; then
    echo "deps: this machine lacks ${missing[*]} (names of Debian packages) and has no apt-get; install them by hand." >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! program sudo >/dev/null; then
        echo "deps: this machine lacks ${missing[*]}. As root: apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install_missing() { "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; }
# The package lists may be old or absent: fetched only when the first try fails.
install_missing 2>/dev/null || {
    "${as_root[@]}" apt-get update -qq
    install_missing
}
