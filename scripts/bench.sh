#!/usr/bin/env bash
# Measures the speed, and what HSMs that fail cost, and prints the tables of docs/performance.md.
# Options: see benches/report/main.rs, or --help.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${CARGO:-cargo}" bench --locked --quiet --bench report -- "$@"
