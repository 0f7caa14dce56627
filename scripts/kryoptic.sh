#!/usr/bin/env bash
# Builds the tests' second PKCS#11 token, kryoptic, and prints the path of its module. Cargo does nothing when it is up
# to date. See tests/kryoptic.
set -euo pipefail
cd "$(dirname "$0")/.."

# bindgen loads libclang, which needs the headers of its own version: those lie beside the copy in LLVM's directory.
if [ -z "${LIBCLANG_PATH:-}" ]; then
    library=$(compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' | grep -v libclang-cpp | sort -V | tail -n 1) || true
    [ -z "$library" ] || export LIBCLANG_PATH=${library%/*}
fi
# Of its own, so that no other build waits for this one or invalidates it.
export CARGO_TARGET_DIR=$PWD/target/kryoptic
"${CARGO:-cargo}" build --locked --quiet --manifest-path tests/kryoptic/Cargo.toml >&2
echo "$CARGO_TARGET_DIR/debug/libkryoptic_token.so"
