# What there is to do here: `make` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CARGO ?= cargo
# For `make test` and `make bench`: further arguments of cargo, for example ARGS='--test it -- sweep'.
ARGS ?=
# Where `make generate` writes.
CRDS ?= crds
REFERENCE ?= docs/cli.md
RULES ?= manifests/alerts/prometheusrule.yaml
LICENCES ?= THIRD-PARTY.md
# For `make image`: the name of the image, the file that it is written to, and how the program is compiled (release or dev).
version := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
IMAGE ?= jobexec-operator:$(version)
IMAGE_FILE ?= $(or $(CARGO_TARGET_DIR),target)/jobexec-operator.tar
PROFILE ?= release
CHART ?= charts/jobexec-operator
INSTALL ?= manifests/install

node_image := $(abspath $(or $(CARGO_TARGET_DIR),target))/jobexec-operator-node.tar

bin := $(abspath $(or $(CARGO_TARGET_DIR),target))/debug
# Runs a command with a throwaway cluster and Postgres, with our programs on PATH.
with_cluster = exec env PATH="$(bin):$$PATH" "$(bin)/devcluster" exec --
# The same with Postgres alone.
with_postgres = exec env PATH="$(bin):$$PATH" "$(bin)/devcluster" exec --postgres --
# The programs that tests use and that no package of the system has brought. What cannot be had is said there.
with_tools = tools=$$(tests/tools) || true; export PATH="$$PATH:$$tools"

# Which tests of tests/it need no server, and which need Postgres alone, as filters of `cargo test`. All others need a cluster.
unit_tests := alerting::dashboard alerting::exposition alerting::rules alerting::state_metrics cli::input::completions \
	docs::every_ docs::manifests::every_ hostile::canary notify::email notify::template notify::webhook notify::the_examples
sql_tests := cli::case cli::listing cli::terminal property::

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Show the operator at work in a throwaway cluster; on a terminal it stays up until Ctrl-C
	@$(with_cluster) demo/run

# What a test cannot have on this machine it writes there.
not_tested := $(dir $(bin))not-tested

.PHONY: test
test: build ## Run all tests: the two groups below, and the others in a throwaway cluster; with ARGS only those
	$(CARGO) test --locked --workspace --no-run
	@# Here it is seen how far that is; a test that cannot have it says so.
	@"$(bin)/devcluster" tool helm >/dev/null || true
	@rm -f "$(not_tested)"
ifeq ($(ARGS),)
	@$(MAKE) --no-print-directory test-unit test-sql JOBEXEC_NOT_TESTED="$(not_tested)"
endif
	@status=0; $(with_tools); export JOBEXEC_NOT_TESTED="$(not_tested)"; set -x; \
	($(with_cluster) $(CARGO) test --locked --workspace $(or $(ARGS), \
		--test it --test cluster -- $(addprefix --skip ,$(unit_tests) $(sql_tests)))) || status=$$?; set +x; \
	if [[ -s "$(not_tested)" ]]; then echo "make test: NOT TESTED: $$(wc -l <"$(not_tested)") tests; what they need:" \
		"$$(sort -u "$(not_tested)" | paste -sd ';' | sed 's/;/, /g')"; fi; \
	exit "$$status"

.PHONY: test-unit
test-unit: build ## Run the tests that need no server: once built, they take seconds
	$(CARGO) test --locked --workspace --lib --bins
	$(CARGO) test --locked --workspace --doc
	$(CARGO) test --locked --test rooms
	@$(with_tools); set -x; $(CARGO) test --locked --test it -- $(unit_tests)

.PHONY: test-sql
test-sql: build ## Run the tests that need Postgres alone, such as those of the SQL
	@$(with_tools); set -x; $(with_postgres) $(CARGO) test --locked --test sql --test it -- statements:: plans:: $(sql_tests)

.PHONY: test-hostile
test-hostile: ## Run the tests that play an attacker: a hostile server, neighbour, object, row or client
	@$(MAKE) --no-print-directory test ARGS='--test it -- hostile::'

.PHONY: test-adapters
test-adapters: ## Prove the adapters, or ARGS='NAME…', with the real clients of their job systems (npm, Go, Maven, Python)
	@tests/adapters/run $(ARGS)

.PHONY: test-node
test-node: ## Install the chart with our image on a real node, where this machine can have one, and see what Helm does with it
	@$(MAKE) --no-print-directory image PROFILE=dev IMAGE_FILE="$(node_image)"
	@"$(bin)/devcluster" tool helm >/dev/null
	$(CARGO) test --locked --workspace --test it --no-run
	@status=0; "$(bin)/devcluster" exec --node --image "$(node_image)" -- \
		$(CARGO) test --locked --offline --workspace --test it -- --ignored --nocapture node:: || status=$$?; \
	if ((status == 69)); then echo 'test-node: NOT CHECKED: the chart and the image on a real node' >&2; else exit "$$status"; fi

.PHONY: bench
bench: build ## Run the benchmarks in a throwaway cluster
	$(CARGO) bench --locked --no-run $(or $(ARGS),--bench '*')
	$(with_cluster) $(CARGO) bench --locked $(or $(ARGS),--bench '*')

.PHONY: image
image: build ## Write a container image (IMAGE, IMAGE_FILE, PROFILE) for `docker load` and its like, without a container engine
	$(CARGO) build --locked --profile $(PROFILE) --bin jobexec
	@"$(bin)/devcluster" image --tag "$(IMAGE)" --out "$(IMAGE_FILE)" \
		--binary "$(patsubst %/debug,%,$(bin))/$(patsubst dev,debug,$(PROFILE))/jobexec" \
		--label org.opencontainers.image.title=jobexec-operator \
		--label org.opencontainers.image.description="$$(sed -n '/^\[package\]/,/^\[/s/^description = "\(.*\)"/\1/p' Cargo.toml)" \
		--label org.opencontainers.image.licenses=Apache-2.0 \
		--label org.opencontainers.image.version="$(version)" \
		--label org.opencontainers.image.revision="$$(git rev-parse --quiet --verify HEAD || true)"

.PHONY: generate
generate: build ## Write crds/*.yaml and docs/cli.md from the Rust types, the chart's copies, and manifests/install from the chart
	@"$(bin)/jobexec" crds | awk -v RS='---\n' ' \
		match($$0, /\n  name: [a-z]+/) { \
			printf "# Generated by `make generate`; do not edit.\n%s", $$0 > "$(CRDS)/" substr($$0, RSTART + 9, RLENGTH - 9) ".yaml" }'
	@"$(bin)/jobexec" reference > "$(REFERENCE)"
	@{ printf '%s\n' '# Generated by `make generate` from jobexec.rules.yaml; do not edit.' \
		'apiVersion: monitoring.coreos.com/v1' 'kind: PrometheusRule' 'metadata:' '  name: jobexec-operator' \
		'  namespace: jobexec-system' '  labels:' '    app.kubernetes.io/name: jobexec-operator' 'spec:'; \
		sed -e '/^groups:/,$$!d' -e 's/^./  &/' manifests/alerts/jobexec.rules.yaml; } > "$(RULES)"
	@{ printf '%s\n' '# What the program is built from, and under which licences' '' \
		'Generated by `make generate` from Cargo.lock; do not edit. All of it is permissive (deny.toml, which CI holds it to).' '' \
		'| crate | version | licence |' '| --- | --- | --- |'; \
		$(CARGO) tree --locked --package jobexec-operator --edges normal --prefix none --format '{p}|{l}' \
			--target x86_64-unknown-linux-gnu | \
		awk -F '|' '$$1 !~ /^(jobexec|devcluster)/ { split($$1, p, " "); printf "| %s | %s | %s |\n", p[1], substr(p[2], 2), $$2 }' | \
		sed 's/ (\*) |$$/ |/' | LC_ALL=C sort -u; } > "$(LICENCES)"
	@cp "$(CRDS)"/[!k]*.yaml "$(CHART)/files/crds/"
	@cp manifests/alerts/jobexec.rules.yaml manifests/grafana/jobexec.json "$(CHART)/files/"
	@if helm=$$("$(bin)/devcluster" tool helm); then charts/render "$$helm" "$(CHART)" "$(INSTALL)"; \
		else echo 'generate: NOT WRITTEN: manifests/install (Helm cannot be had)' >&2; fi

.PHONY: lint
lint: needs ## Check format, clippy, documentation, generated files, licences of dependencies and advisories on them, words, and shell scripts
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --workspace --no-deps
	@new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
		mkdir "$$new/crds"; cp crds/kustomization.yaml "$$new/crds"; cp -r charts manifests/install "$$new"; \
		$(MAKE) --no-print-directory generate CRDS="$$new/crds" REFERENCE="$$new/cli.md" RULES="$$new/rules.yaml" LICENCES="$$new/licences.md" \
			CHART="$$new/charts/jobexec-operator" INSTALL="$$new/install"; \
		diff -ru crds "$$new/crds" && diff -u docs/cli.md "$$new/cli.md" && diff -ru charts "$$new/charts" && \
		diff -u manifests/alerts/prometheusrule.yaml "$$new/rules.yaml" && diff -ru manifests/install "$$new/install" && \
		diff -u THIRD-PARTY.md "$$new/licences.md" || \
		{ echo 'lint: a generated file is not what it is generated from says: run make generate' >&2; exit 1; }
	$(call if_there,cargo-deny,$(CARGO) deny --locked check --hide-inclusion-graph licenses bans sources)
	@CARGO="$(CARGO)" .ci/advisories
	@.ci/pinned
	@.ci/words
	$(call if_there,shellcheck,shellcheck demo/run .ci/run .ci/advisories .ci/pinned .ci/words charts/render tests/tools)

# $(call if_there,PROGRAM,COMMAND): runs COMMAND, or says that it was left out.
define if_there
@if command -v $(1) >/dev/null; then echo '$(2)'; $(2); \
	else echo 'lint: NOT CHECKED: $(2) ($(1) is not installed)' >&2; fi
endef

.PHONY: build
build: needs
	$(CARGO) build --locked --workspace --bins

.PHONY: needs
needs:
	@command -v $(firstword $(CARGO)) >/dev/null || \
		{ echo 'Rust is missing: install it from https://rustup.rs; Cargo.toml names the oldest version that will do.' >&2; exit 1; }
	@command -v cc >/dev/null || \
		{ echo 'A C compiler is missing, which Rust links with: on Debian, apt-get install gcc libc6-dev.' >&2; exit 1; }
