# The two commands of the README: `make demo` runs the quickstart, `make test` passes the tests. Each sets up what it needs.

ORACLES ?= ../shared/oracles

.PHONY: demo test lint parity bench torture fuzz libtorch

demo: libtorch
	cargo build --quiet --bins
	cargo run --quiet -- run pipelines/quickstart.toml

test: libtorch
	cargo build --bins
	@if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace --no-fail-fast; else cargo test --workspace --no-fail-fast --all-targets; fi
	cargo test --workspace --doc --quiet

lint: libtorch
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

# Checks every folder under ORACLES that holds config.json, model.safetensors and golden.safetensors.
parity: libtorch
	cargo build --quiet --bins
	cargo run --quiet --bin qapipe-worker -- parity $(ORACLES)

# Kills runs at random moments, and has file systems fail under them: nothing that was finished may be lost.
torture: libtorch
	cargo build --bins
	QAPIPE_KILLS=500 QAPIPE_FAULTS=200 cargo test --test torture -- --nocapture --test-threads 1

# A million damaged inputs for every reader: pipelines, overrides, records, weights, data, tokenizers, word vectors.
fuzz: libtorch
	QAPIPE_FUZZ=$${QAPIPE_FUZZ:-1000000} cargo test --workspace --test fuzz -- --nocapture

bench: libtorch
	cargo bench --workspace

libtorch:
	@scripts/libtorch
