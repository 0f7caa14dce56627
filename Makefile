# Everything that a person or a machine does with this repository. `make` alone lists it.
#
# Three builds are kept: the profile dev for everything that tests, quick for `make run` and `make demo`, release for what
# is installed and measured.

SHELL := /bin/bash
CARGO ?= cargo
QUICK := target/quick
# Seconds that `make fuzz` gives to each target.
FUZZ_SECONDS ?= 20
# How many schedules `make chaos` draws, from which seed on, and how long each troubles the zones.
SEEDS ?= 10
SEED ?= 1
CHAOS_SECONDS ?= 15
# How long `make soak` lasts, from which seed.
SOAK_SECONDS ?= 1200
SOAK_SEED ?= 1
# How often `make soak` kills the daemon under load, to see that no result is without its record.
CRASHES ?= 200
# Tests that run at once. The end-to-end tests wait for half of their time, so there are two for each processor; those in which
# a thousand clients attack run afterwards, one for each, since they must leave somebody else a part of it.
PROCESSORS := $(shell nproc)
TEST_THREADS := $$(( 2 * $(PROCESSORS) ))
ATTACKS := unfetched::

# How many cases `make conformance` draws, and from which seed.
CASES ?= 5000
CASES_SEED ?= 1
# What checks the .proto files, and against which commit.
BUF ?= npx --yes --package=@bufbuild/buf@1.75.0 buf
PROTO_BASE ?= main
# Where `make run` keeps its zones, certificates and database. Ignored by git.
DEV_DIR ?= dev

# `make test` has clippy compile our crates, so that they are read once for lints and code, and not by a pass of their own first,
# for which every dependency would have to be read too. What is warned of, Cargo.toml says; clippy.toml lets tests unwrap. What
# would make a next build quicker is not written down: that takes a seventh of the time of this one.
DENIED := -Dwarnings
LINTED := CARGO_INCREMENTAL=0 RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=$(DENIED)

.PHONY: help deps build quick test conformance run demo bench fuzz chaos soak lint proto audit clean

help: ## This list.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## Installs what this machine lacks, from Debian's packages. Does nothing where all is there.
	@scripts/deps.sh

build: deps ## Builds both programs for use: target/release/keystored and keystorectl.
	$(CARGO) build --locked --release --bins

test: deps ## Checks everything: format, lints, then every test against real tokens.
	$(CARGO) fmt --all --check
	@scripts/kryoptic.sh >/dev/null
	$(LINTED) $(CARGO) build --locked --workspace --all-targets
	$(LINTED) RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$(TEST_THREADS)} $(CARGO) test --locked --workspace -- $(ATTACKS:%=--skip %)
	$(LINTED) RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$(PROCESSORS)} $(CARGO) test --locked --workspace --test real -- $(ATTACKS)

conformance: deps ## Compares CASES decisions on policies with those of an implementation by others; needs npm, and once the network.
	@$(LINTED) CARGO="$(CARGO)" scripts/conformance/policies.sh $(CASES) $(CASES_SEED)
	@$(LINTED) CARGO="$(CARGO)" scripts/conformance/aws.sh

quick: deps
	$(CARGO) build --locked --profile quick --no-default-features --bins

run: quick ## Runs the development daemon in the foreground; it prints how to call it.
	$(QUICK)/keystored dev --dir $(DEV_DIR)

demo: quick ## Shows the main job on real input, and a zone that fails meanwhile.
	@PROGRAMS=$(QUICK) scripts/demo.sh

bench: build ## Measures the speed, and what HSMs that fail cost, and prints the tables of docs/performance.md.
	@scripts/bench.sh $(BENCH)

fuzz: deps ## Feeds each parser with made-up bytes for FUZZ_SECONDS.
	@scripts/fuzz.sh $(FUZZ_SECONDS)

# In memory where nothing else is asked for: a disk that is busy for seconds looks like a zone that hangs, in all zones at once.
chaos: deps ## Troubles the zones of a daemon under load, by SEEDS schedules from SEED on.
	TMPDIR=$${TMPDIR:-/dev/shm} CHAOS_SEEDS=$(SEEDS) CHAOS_FIRST=$(SEED) CHAOS_SECONDS=$(CHAOS_SECONDS) $(CARGO) test --locked --test real -- \
		--exact --nocapture chaos::seeds::every_answer_is_right_or_no_zone_was_sound

soak: deps ## Troubles the zones and what is around them (log, disk, certificates, calendar, connections) for SOAK_SECONDS; kills the daemon CRASHES times.
	TMPDIR=$${TMPDIR:-/dev/shm} SOAK_SECONDS=$(SOAK_SECONDS) SOAK_SEED=$(SOAK_SEED) $(CARGO) test --locked --test real -- \
		--nocapture --test-threads 1 chaos::soak
	TMPDIR=$${TMPDIR:-/dev/shm} KEYSTORED_AUDIT_CRASHES=$(CRASHES) $(CARGO) test --locked --test real -- \
		--exact --nocapture audit::crash::no_result_is_without_its_record_after_a_crash

# The program comes from npm, so that this is no part of `make test`.
proto: ## Checks the style of the .proto files, and that no caller breaks who was built with those of PROTO_BASE.
	cd proto && $(BUF) lint
	cd proto && $(BUF) breaking --against '../.git#ref=$(PROTO_BASE),subdir=proto'

lint: ## Format and lints; warnings are errors.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- $(DENIED)

audit: ## Licences, advisories and banned crates of the dependencies (deny.toml). Needs the network.
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --all-features check

clean: ## Removes what was built. The dev directory with its keys stays.
	$(CARGO) clean
	rm -rf fuzz/target
