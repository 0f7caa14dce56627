#!/usr/bin/env bash
# The main job on real input, step by step, and a zone that fails meanwhile. Everything happens in a directory of its
# own that is removed at the end. Exits non-zero as soon as a step is not as it should be.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=$PWD/${PROGRAMS:-target/release}
keystored=$programs/keystored
megabytes=${DEMO_MEGABYTES:-128}
dir=$(mktemp -d "${TMPDIR:-/tmp}/keystored-demo.XXXXXX")
daemon=
load=

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { sed 's/^/    /'; }
wrong() {
    printf '\n\033[31mNot as it should be: %s\033[0m\n' "$*" >&2
    exit 1
}

children() { # of process $1
    local stat fields
    for stat in /proc/[0-9]*/stat; do
        { read -r fields <"$stat"; } 2>/dev/null || continue
        # After the name in brackets: state, then parent.
        set -- "$1" ${fields##*) }
        [ "$3" = "$1" ] && [ "$2" != Z ] && basename "$(dirname "$stat")"
    done
    return 0
}
workers_of() { # HSM $1
    local pid
    for pid in $(children "$daemon"); do
        [[ "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)" == *" hsm-worker $1 " ]] && echo "$pid"
    done
    return 0
}
wait_for() { # wait_for SECONDS WHAT COMMAND...
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || wrong "$what did not happen in time"
        [ -z "$daemon" ] || [ -e "/proc/$daemon" ] || wrong "the daemon has gone"
        sleep 0.05
    done
}

clean_up() {
    local code=$?
    trap - EXIT INT TERM
    [ -z "$load" ] || kill "$load" 2>/dev/null || true
    if [ "$code" -ne 0 ] && [ -s "$dir/daemon.log" ]; then
        printf '\nThe end of the daemon'\''s log:\n' >&2
        tail -n 40 "$dir/daemon.log" | show >&2
    fi
    if [ -n "$daemon" ] && kill -TERM "$daemon" 2>/dev/null; then
        wait "$daemon" || true
    fi
    rm -rf "$dir"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

ctl() { "$programs/keystorectl" --env-file "$dir/site/dev.env" "$@"; }
field() { /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["'"$1"'"])'; }
# Every HSM is healthy and has all of its workers, the control worker too; so nobody is inside a login.
healthy() {
    ctl --json key-store describe >"$dir/stores.json" || return 1
    /usr/bin/python3 - "$dir/stores.json" "$dir/site/dev.env" <<'PY'
import json, sys, urllib.request
hsms = [hsm for store in json.load(open(sys.argv[1]))["key_stores"] for hsm in store["hsms"]]
ops = dict(line.strip().split("=", 1) for line in open(sys.argv[2]) if "=" in line)["KEYSTORED_OPS"]
report = json.load(urllib.request.urlopen(ops + "/readyz", timeout=5))["hsms"]
data = hsms and all(hsm["health"] == "Healthy" and hsm["ready_workers"] == hsm["workers"] for hsm in hsms)
sys.exit(not (data and all(hsm["control_worker"] for hsm in report)))
PY
}

# The daemon has counted a thousand data keys.
under_load() {
    /usr/bin/python3 - "$dir/site/dev.env" <<'PY'
import re, sys, urllib.request
ops = dict(line.strip().split("=", 1) for line in open(sys.argv[1]) if "=" in line)["KEYSTORED_OPS"]
metrics = urllib.request.urlopen(ops + "/metrics", timeout=5).read().decode()
made = re.findall(r'^\w*items_total\{[^}]*operation="generate_data_key"[^}]*\} (\d+)', metrics, re.M)
sys.exit(sum(map(int, made)) < 1000)
PY
}

say "1. A daemon over two SoftHSM zones, on free ports, in $dir."
echo "   keystored dev makes certificates, takes two blank tokens through the key ceremony (each gets an identity, and both"
echo "   a wrapping key that neither gives away), then makes a key store over them and connects it as an operator would."
"$keystored" dev --dir "$dir/site" --listen 127.0.0.1:0 --aws 127.0.0.1:0 --ops 127.0.0.1:0 >"$dir/daemon.out" 2>"$dir/daemon.log" &
daemon=$!
wait_for 60 "the daemon's start" test -s "$dir/site/dev.env"
wait_for 60 "both zones' health" healthy
show <"$dir/daemon.out"
ctl key-store describe | show

say "2. A key. It is made inside one token, wrapped there, unwrapped in the other, and proven to work in both."
ctl --json key create --description "the demo's key" >"$dir/key.json"
key=$(field key_id <"$dir/key.json")
ctl key describe "$key" | show

say "3. A data key: 32 bytes in clear for us to use, and the same encrypted inside an HSM, to keep."
ctl --json data-key generate "$key" --context purpose=demo >"$dir/data-key.json"
field ciphertext_blob <"$dir/data-key.json" >"$dir/data-key.sealed"
ctl decrypt --ciphertext-file "$dir/data-key.sealed" --context purpose=demo >"$dir/data-key.opened"
[ "$(field plaintext <"$dir/data-key.json")" = "$(cat "$dir/data-key.opened")" ] || wrong "the data key opened to something else"
echo "    Encrypted: $(cut -c1-60 "$dir/data-key.sealed")…"
echo "    Decrypting that gives the same 32 bytes again. Under another context it must not:"
if ctl decrypt --ciphertext-file "$dir/data-key.sealed" --context purpose=other >/dev/null 2>"$dir/refused"; then
    wrong "a ciphertext opened under another context"
fi
show <"$dir/refused"
rm "$dir/data-key.json"

say "4. A file of $megabytes MB, sealed under the key and opened again."
head -c "$((megabytes * 1000 * 1000))" /dev/urandom >"$dir/file"
ctl file seal "$key" "$dir/file" "$dir/file.sealed"
ctl file open "$dir/file.sealed" "$dir/file.opened"
cmp "$dir/file" "$dir/file.opened" || wrong "the opened file differs"
! cmp -s "$dir/file" "$dir/file.sealed" || wrong "the sealed file is the file"
echo "    What was opened is what was sealed, byte for byte. One flipped bit in the middle:"
cp "$dir/file.sealed" "$dir/file.altered"
half=$((megabytes * 500 * 1000))
byte=$(od -An -tu1 -j "$half" -N 1 "$dir/file.altered")
printf "\\$(printf %03o $((byte ^ 1)))" | dd of="$dir/file.altered" bs=1 seek="$half" conv=notrunc status=none
if ctl file open "$dir/file.altered" "$dir/file.never" 2>"$dir/refused"; then
    wrong "an altered file opened"
fi
tail -n 2 "$dir/refused" | show
[ ! -e "$dir/file.never" ] || wrong "an altered file left an output"
rm "$dir/file.opened" "$dir/file.altered"

say "5. The key's objects in both tokens, read by another PKCS#11 client."
echo "    At the connect keystored gave kmsuser a PIN that nobody else knows. Whoever wants to look has to be the security"
echo "    officer: disconnect the key store, set kmsuser's PIN in both tokens, look, tell keystored, connect again."
module=$(sed -n 's/^module = "\(.*\)"$/\1/p' "$dir/site/keystored.toml" | head -n 1)
id="${key//-/}00000001"
mapfile -t hsms < <(sed -n '/\[\[cluster.hsm\]\]/,$ s/^id = "\(.*\)"$/\1/p' "$dir/site/keystored.toml")
mapfile -t zones < <(sed -n '/\[\[cluster.hsm\]\]/,$ s/^zone = "\(.*\)"$/\1/p' "$dir/site/keystored.toml")
mapfile -t labels < <(sed -n 's/^token_label = "\(.*\)"$/\1/p' "$dir/site/keystored.toml")
mapfile -t confs < <(sed -n 's/^env.SOFTHSM2_CONF = "\(.*\)"$/\1/p' "$dir/site/keystored.toml")
[ "${#hsms[@]}" -eq 2 ] || wrong "there are ${#hsms[@]} HSMs in the configuration"
in_token() { # in_token ZONE OPTION...; PINs are in the environment
    local zone=$1
    shift
    SOFTHSM2_CONF=${confs[$zone]} pkcs11-tool --module "$module" --token-label "${labels[$zone]}" "$@"
}
ctl key-store disconnect --name dev --wait | show
if ctl decrypt --ciphertext-file "$dir/data-key.sealed" --context purpose=demo >/dev/null 2>"$dir/refused"; then
    wrong "a key of a disconnected key store was used"
fi
head -n 1 "$dir/refused" | show
(umask 077 && od -An -N 12 -tx1 /dev/urandom | tr -d ' \n' >"$dir/officer.pin")
for zone in 0 1; do
    credentials=$dir/site/credentials/${zones[$zone]}
    echo "    ${hsms[$zone]}:"
    if PIN=$(cat "$credentials.pin") in_token "$zone" --login --pin env:PIN --list-objects >/dev/null 2>&1; then
        wrong "${hsms[$zone]} takes the PIN that it had before the connect"
    fi
    SO=$(cat "$credentials.so-pin") NEW=$(cat "$dir/officer.pin") in_token "$zone" --login --login-type so \
        --so-pin env:SO --init-pin --new-pin env:NEW >"$dir/officer.out" 2>&1 || wrong "the officer: $(cat "$dir/officer.out")"
    PIN=$(cat "$dir/officer.pin") in_token "$zone" --login --pin env:PIN --list-objects --type secrkey \
        >"$dir/objects" 2>/dev/null
    # The token also holds the canary and the wrapping key; only our key is looked at.
    awk -v id="$id" '/^Secret Key Object/ { object = "" } { object = object $0 "\n" } $1 == "ID:" { mine = ($2 == id) }
        $1 == "Access:" && mine { printf "%s", object }' "$dir/objects" >"$dir/object"
    show <"$dir/object"
    grep -q '^Secret Key Object; AES' "$dir/object" || wrong "${hsms[$zone]} has no AES object of the key"
    grep -q 'Usage: *encrypt, decrypt$' "$dir/object" || wrong "the object may do more than encrypt and decrypt"
    grep -q 'Access: *sensitive' "$dir/object" || wrong "the object is not sensitive"
    ! grep -Eq '(Access: *|, )extractable' "$dir/object" || wrong "the object is extractable"
done
echo "    Sensitive, not extractable, good for encrypting and decrypting and for nothing else."
ctl key-store update --name dev --password-file "$dir/officer.pin" --pin-was-reset 2>/dev/null | show
ctl key-store connect --name dev --wait 2>&1 | show
rm "$dir/officer.pin"
ctl decrypt --ciphertext-file "$dir/data-key.sealed" --context purpose=demo | cmp - "$dir/data-key.opened" ||
    wrong "after the connect the data key opened to something else"
echo "    keystored has rotated the officer's PIN too, and the data key opens as before."

say "6. While data keys are wrapped without a pause, every process of ${hsms[0]} is killed."
ctl --json --timeout 2s bench unary --operation generate-data-key --key "$key" --in-flight 16 --duration 8s >"$dir/bench.json" &
load=$!
wait_for 30 "the load" under_load
wait_for 30 "both zones' health" healthy
mapfile -t before < <(workers_of "${hsms[0]}")
[ "${#before[@]}" -ge 2 ] || wrong "${hsms[0]} has ${#before[@]} processes"
# SoftHSM rewrites this file at each login; an unlucky kill would leave it empty. Copied only now: it holds the PIN.
for token in "$dir"/site/zones/*/tokens/*/token.object; do cp "$token" "$token.copy"; done
echo "    kill -9 ${before[*]}"
kill -KILL "${before[@]}"
wait_for 60 "the return of ${hsms[0]}" healthy
echo "    ${hsms[0]} came back by itself, as processes $(workers_of "${hsms[0]}" | tr '\n' ' ')"
[ -e "/proc/$load" ] || echo "    (after the load had ended)"
wait "$load" || wrong "the load generator failed"
load=
/usr/bin/python3 - "$dir/bench.json" <<'PY' || wrong "a call failed while a zone was away"
import json, sys
figures = json.load(open(sys.argv[1]))
print(f"    {figures['items']:,} data keys wrapped in {figures['seconds']:.0f} s; errors: {figures['errors'] or 'none'}")
sys.exit(bool(figures["errors"]) or figures["items"] == 0)
PY

say "7. SIGTERM: the daemon finishes what it has in hand, its workers log out, nothing stays behind."
mapfile -t family < <(children "$daemon")
kill -TERM "$daemon"
code=0
wait "$daemon" || code=$?
[ "$code" -eq 0 ] || wrong "the daemon ended with exit code $code"
for pid in "$daemon" "${family[@]}"; do
    [ ! -e "/proc/$pid" ] || wrong "process $pid is still there"
done
daemon=
echo "    Exit code 0; ${#family[@]} workers and the daemon have gone."

say "All as it should be."
