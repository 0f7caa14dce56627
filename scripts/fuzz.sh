#!/usr/bin/env bash
# Runs each fuzz target for some seconds. What a target finds is kept under fuzz/artifacts/.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?how many seconds for each target}

# libFuzzer's instrumentation is an unstable flag; the pinned stable compiler accepts it under this variable.
export RUSTC_BOOTSTRAP=1
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz"
    cargo install --locked cargo-fuzz
fi
# Something to begin with, where random bytes would take long to get anywhere.
mkdir -p fuzz/corpus/{audit_note,aws_request,config,certificate,policy,sigv4}
cp fuzz/seeds/audit_note/* fuzz/corpus/audit_note/
cp fuzz/seeds/aws_request/*.json fuzz/corpus/aws_request/
cp fuzz/seeds/policy/*.json fuzz/corpus/policy/
cp fuzz/seeds/sigv4/*.http fuzz/corpus/sigv4/
cp deploy/keystored.toml fuzz/corpus/config/sample.toml
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout /dev/null -subj /CN=sample -outform DER \
    -addext keyUsage=critical,keyCertSign -out fuzz/corpus/certificate/sample.der 2>/dev/null
mapfile -t targets < <(cargo fuzz list)
for target in "${targets[@]}"; do
    echo "fuzz: $target, $seconds s"
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1
done
echo "fuzz: ${#targets[@]} targets, nothing found"
