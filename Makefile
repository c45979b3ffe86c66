# Everything that is done with this source tree. `make help` lists it.

.DEFAULT_GOAL := help
.PHONY: help tools opa build image test unit mesh demo bench fleet fuzz cluster moves cluster-tools cluster-test soak cluster-bench lint fmt golden clean

CARGO ?= cargo
# The tests name Envoy by this; it lies in a cache outside the source tree.
export ENVOY ?= $(shell sh deploy/tools.sh --path)
export OPA ?= $(shell sh deploy/opa.sh --path)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

tools: ## install what is missing: iproute2, iptables and nftables (apt), Envoy (pip, cached)
	@sh deploy/tools.sh >/dev/null

opa: ## build Open Policy Agent, which some tests let decide (Go, cached)
	@sh deploy/opa.sh >/dev/null

build: tools ## the release binary: target/release/mainsheet
	$(CARGO) build --release --locked

# The C library is linked in, so that the image holds nothing else. IMAGE is its name.
IMAGE ?= localhost/mainsheet:1
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
DIST = $${CARGO_TARGET_DIR:-target}/$(TARGET)/dist/mainsheet
image: ## target/image/mainsheet.tar: an OCI image with the static binary alone, and what it holds (minutes)
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --locked --profile dist --target $(TARGET) --bin mainsheet
	@test $$(stat -c %s $(DIST)) -lt 41943040 || { echo "$(DIST) has more than 40 MiB" >&2; exit 1; }
	@mkdir -p target/image
	@python3 deploy/image.py target/image/mainsheet.tar $(IMAGE) --sizes --user 1337:1337 \
		--entrypoint /usr/local/bin/mainsheet $(DIST):/usr/local/bin/mainsheet

test: tools opa lint ## all tests: formatting, lints, unit tests, goldens, real Envoys, the demo
	$(CARGO) build --locked --bins --examples
	$(CARGO) test --locked --lib --examples --test cost
	$(CARGO) test --locked --test mesh
	@$(MAKE) --no-print-directory cluster-test
	@$(CARGO) run --quiet --locked --example demo

unit: ## the tests that need no Envoy and no root
	$(CARGO) test --locked --lib --test cost

mesh: tools opa ## the tests with real Envoys alone
	$(CARGO) build --locked --bins --examples
	$(CARGO) test --locked --test mesh

demo: tools ## a small shop with a real Envoy beside each workload (KEEP=1 leaves it up)
	$(CARGO) build --locked --bins --example echo --example demo
	@$(CARGO) run --quiet --locked --example demo

cluster: tools cluster-tools ## the demo in a real Kubernetes cluster, from the charts (root; KEEP=1 leaves it up)
	$(CARGO) build --locked --bin mainsheet --example echo
	@demo/cluster.sh

moves: tools cluster-tools ## requests and admission in a real cluster while the control plane and the root are replaced, and a workload moves to another revision and back
	$(CARGO) build --locked --bin mainsheet --example echo
	@tests/cluster/moves.sh

cluster-test: cluster-tools ## the tests against a real Kubernetes API server
	$(CARGO) test --locked --test cluster
	$(CARGO) build --locked --bin mainsheet
	$(CARGO) build --locked --example echo
	tests/cluster/capture.sh
	tests/cluster/alone.sh

soak: cluster-tools ## two replicas while all is killed and changed at random (SOAK_MINUTES=10, SOAK_SEED=1)
	SOAK_MINUTES=$${SOAK_MINUTES:-10} $(CARGO) test --locked --test cluster -- --nocapture soak

cluster-bench: cluster-tools ## what a cluster of 5,000 and of 10,000 pods costs: memory, processor time, and each pod replaced
	$(CARGO) build --locked --release --bin mainsheet
	MAINSHEET=$$(realpath $${CARGO_TARGET_DIR:-target})/release/mainsheet $(CARGO) test --locked --test cluster -- --ignored --nocapture cost

cluster-tools: ## build a real Kubernetes from its Go modules, for tests (root; minutes once, then cached)
	@tests/cluster/build.sh

bench: tools ## what pushes cost on meshes of growing size, certificates beside their signatures, and an agent beside its Envoy
	$(CARGO) bench --locked --bench translate
	$(CARGO) bench --locked --bench push
	$(CARGO) bench --locked --bench sign
	$(CARGO) build --locked --release --example echo
	$(CARGO) bench --locked --bench agent
	$(CARGO) test --locked --test mesh -- --ignored --nocapture cost

fleet: ## proxies over real connections and what they cost (FLEET="--services 1000 --clients 500 --entries")
	$(CARGO) bench --locked --bench fleet -- $(FLEET)

fuzz: tools ## 50,000 worlds and as many policies, keys and templates, which Envoy must accept, and a million requests, tokens and keys (FUZZ_…)
	FUZZ_INPUTS=$${FUZZ_INPUTS:-250000} $(CARGO) test --locked --lib -- fuzz
	FUZZ_WORLDS=$${FUZZ_WORLDS:-50000} $(CARGO) test --locked --test mesh -- fuzz

lint: tools ## formatting and lints; any finding fails
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	else echo "cargo-deny is not installed: deny.toml was not checked"; fi

fmt: ## format the source
	$(CARGO) fmt --all

golden: ## rewrite the expected output of the golden cases
	BLESS=1 $(CARGO) test --locked --lib golden

clean: ## remove what was built (not the cached tools)
	$(CARGO) clean
