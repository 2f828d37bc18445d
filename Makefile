# The commands of the project; `.ci/run` calls the same ones. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# Stages take turns: they share cargo's locks, and each one's seconds are recorded.
.NOTPARALLEL:

# RocksDB is linked from an archive that `make rocksdb` builds once per machine. A cargo call
# without these two variables would compile it again, inside target/.
export ROCKSDB_LIB_DIR := $(shell scripts/rocksdb.sh --print-dir)
export ROCKSDB_STATIC := 1

STAGE := scripts/stage.sh
# Everything tested or linted shares one profile, so that it is compiled once.
PROFILE := checked
PURE := -p annulet-protocol -p annulet-ring -p annulet-replica -p annulet-history
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)

##@ Use

.PHONY: demo
demo: rocksdb ## Start a small cluster on this machine and show what it does
	cargo build --release -p annulet-cli
	examples/demo.sh

.PHONY: bench
bench: rocksdb ## Measure; ARGS are passed on
	cargo build --release -p annulet-cli
	scripts/bench.sh $(ARGS)

.PHONY: bench-tails
bench-tails: rocksdb ## What one slow or stopped server does to everyone else
	cargo build --release -p annulet-cli
	cargo bench -p annulet-tests --features cluster --bench tails

.PHONY: bench-overload
bench-overload: rocksdb ## What is done when four times as much is asked as can be done
	cargo build --release -p annulet-cli
	cargo bench -p annulet-tests --features cluster --bench overload

.PHONY: bench-moves
bench-moves: rocksdb ## What clients notice while the ring changes, and how fast records move
	cargo build --release -p annulet-cli
	cargo bench -p annulet-tests --features cluster --bench moves

.PHONY: bench-contended
bench-contended: rocksdb ## What becomes of clients that all change one key
	cargo build --release -p annulet-cli
	cargo bench -p annulet-tests --features cluster --bench contended

.PHONY: bench-bindings
bench-bindings: release-bindings ## What the packages of other languages do, beside clients of Redis
	scripts/bench-bindings.sh

.PHONY: bench-memory
bench-memory: release-bindings ## What processes of other languages hold over two million operations
	scripts/bench-bindings.sh memory

.PHONY: release-bindings
release-bindings: rocksdb
	cargo build --release -p annulet-cli
	scripts/python.sh install release
	scripts/node.sh install release
	scripts/swift.sh install release
	SWIFT_PACKAGE=bindings/swift/bench SWIFT_CONFIGURATION=release scripts/swift.sh build

.PHONY: scale
scale: ## What the planner does with up to 50,000 servers
	cargo bench -p annulet-ring --bench scale

.PHONY: bench-setup
bench-setup: ## Install the stores the benchmark compares with
	scripts/setup.sh --bench

##@ Test

.PHONY: test
test: test-default test-faults test-cluster test-doc test-python test-node test-swift ## All tests; SEEDS=n simulates n seeds

ifeq ($(NEXTEST),yes)
TEST := cargo nextest run --cargo-profile $(PROFILE)
.PHONY: test-default test-faults test-cluster
test-default: rocksdb ## Unit tests, tidy tests, simulator
	$(STAGE) $@ $(TEST)
test-faults: rocksdb ## Deliberate faults, each of which a test must notice
	$(STAGE) $@ $(TEST) -p annulet-tests --features faults \
	    -E 'binary(/^faults/) or test(/faults/)'
test-cluster: rocksdb ## Real server processes
	$(STAGE) $@-build cargo build --profile $(PROFILE) -p annulet-cli -p annulet-examples
	$(STAGE) $@ $(TEST) --profile cluster -p annulet-tests --features cluster \
	    -E 'binary(/^cluster/)'
else
TEST := cargo test --profile $(PROFILE)
.PHONY: test-default test-faults test-cluster
test-default: rocksdb
	$(STAGE) $@ $(TEST) --lib --bins --tests
test-faults: rocksdb
	$(STAGE) $@ $(TEST) -p annulet-tests --features faults -- faults
test-cluster: rocksdb
	$(STAGE) $@-build cargo build --profile $(PROFILE) -p annulet-cli -p annulet-examples
	$(STAGE) $@ $(TEST) -p annulet-tests --features cluster --test 'cluster*' -- --test-threads 1
endif

# Clusters for the tests of other languages, and the program that these start.
.PHONY: scene
scene: rocksdb
	cargo build --profile $(PROFILE) -p annulet-cli
	cargo build --profile $(PROFILE) -p annulet-tests --features cluster --bin annulet-scene

.PHONY: test-python
test-python: scene ## The Python package, against real servers
	$(STAGE) $@-build scripts/python.sh install $(PROFILE)
	$(STAGE) $@ target/$(PROFILE)/annulet-scene scripts/python.sh run pytest bindings/python

.PHONY: test-node
test-node: scene ## The Node package, against real servers
	$(STAGE) $@-build scripts/node.sh install $(PROFILE)
	$(STAGE) $@-types scripts/node.sh run tsc
	$(STAGE) $@ target/$(PROFILE)/annulet-scene scripts/node.sh run sh -c \
	    'node --test --test-concurrency=1 --test-reporter=spec test/*.test.mjs'

.PHONY: test-swift
test-swift: scene ## The Swift package, against real servers
	$(STAGE) $@-build scripts/swift.sh install $(PROFILE)
	SWIFT_PACKAGE=examples/swift/sessions $(STAGE) $@-example scripts/swift.sh build
	$(STAGE) $@ target/$(PROFILE)/annulet-scene scripts/swift.sh test \
	    --disable-xctest --no-parallel -Xswiftc -warnings-as-errors

.PHONY: test-doc
test-doc: scene ## Examples in the documentation of the crates, the client's against real servers
	$(STAGE) $@ target/$(PROFILE)/annulet-scene cargo test --profile $(PROFILE) --doc

# What the fuzzer finds stays in target/ until `fuzz-merge` is asked for.
SECONDS ?= 60
TARGET ?=
.PHONY: fuzz fuzz-merge fuzz-seeds
fuzz: rocksdb ## Fuzz all decoders for SECONDS together, or TARGET alone
	$(STAGE) $@ scripts/fuzz.sh run $(SECONDS) $(TARGET)
fuzz-merge: rocksdb ## Add what the fuzzer found to the corpus, if it reaches new code
	$(STAGE) $@ scripts/fuzz.sh merge $(TARGET)
fuzz-seeds: rocksdb ## Write the seeds of the corpus, after a change of a format
	WRITE_SEEDS=1 cargo test --profile $(PROFILE) -p annulet-tests --test hostile_bytes \
	    the_corpus_holds_every_seed

.PHONY: tidy
tidy: rocksdb ## Only the rules about the tree itself: sizes, leftovers, pure crates
	cargo test --profile $(PROFILE) -p annulet-tests --test tidy

##@ Lint

.PHONY: lint
lint: lint-format lint-clippy lint-features lint-bindings lint-fuzz lint-deny lint-doc ## Formatting, lints, dependencies

.PHONY: lint-format lint-clippy lint-features lint-bindings lint-fuzz lint-deny lint-doc
lint-format: setup-lint
	$(STAGE) $@ cargo fmt --all --check
lint-clippy: setup-lint rocksdb
	$(STAGE) $@ cargo clippy --profile $(PROFILE) --all-targets -- -D warnings
# What only the features of the tests turn on is code too.
lint-features: setup-lint rocksdb
	$(STAGE) $@ cargo clippy --profile $(PROFILE) -p annulet-tests --all-targets --all-features \
	    -- -D warnings
lint-bindings: setup-lint
	$(STAGE) $@ cargo clippy --profile $(PROFILE) -p annulet-python -p annulet-node \
	    -p annulet-swift -p annulet-swift-generator -- -D warnings
	$(STAGE) $@-python scripts/python.sh run ruff check bindings/python examples
	$(STAGE) $@-format scripts/python.sh run ruff format --check bindings/python examples
# Lints link nothing, so libFuzzer need not be built: it is said to be elsewhere.
lint-fuzz: setup-lint rocksdb
	CUSTOM_LIBFUZZER_PATH=elsewhere/libfuzzer.a $(STAGE) $@ cargo clippy --profile $(PROFILE) \
	    -p annulet-fuzz --features libfuzzer -- -D warnings
lint-deny: setup-lint
	$(STAGE) $@ cargo deny --all-features check bans licenses sources
# With private items: a module's text may name its internals, and those links are checked as well.
lint-doc: rocksdb
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(STAGE) $@ cargo doc --profile $(PROFILE) --no-deps \
	    --document-private-items $(PURE) -p annulet

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all
	scripts/python.sh run ruff format bindings/python examples

##@ Build

.PHONY: packages
packages: rocksdb ## Build what users install into dist/, install it and use it
	$(STAGE) $@ scripts/packages.sh

PREFIX ?= /usr/local
.PHONY: install-swift-lib
install-swift-lib: setup ## The native library of the Swift package, into PREFIX
	scripts/swift.sh install release $(PREFIX)

.PHONY: rocksdb
rocksdb: setup ## Build RocksDB's archive, once per machine
	@$(STAGE) $@ scripts/rocksdb.sh

.PHONY: fetch
fetch: ## Download the dependencies; fails when Cargo.lock does not fit the manifests
	$(STAGE) $@ cargo fetch --locked

.PHONY: setup setup-lint
setup: ## Install missing system packages; needs root, or says what to install
	@$(STAGE) $@ scripts/setup.sh
setup-lint:
	@$(STAGE) $@ scripts/setup.sh --lint

.PHONY: help
help: ## List the commands
	@awk 'BEGIN { FS = ":.*## " } \
	    /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z-]+:.*## / { if (!seen[$$1]++) printf "  make %-14s %s\n", $$1, $$2 }' Makefile
