# Everything runs in .venv, which the targets make themselves from pinned, hashed requirements.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MODEL := var/model/inception
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: install
install: $(STAMP) ## Make .venv with all that development needs

.PHONY: model
model: $(STAMP) ## Fetch and convert the default weights, export the SavedModel to var/model
	@ls -d $(MODEL)/[0-9]* >/dev/null 2>&1 || $(BIN)/imagewarden model export --out var/model

.PHONY: demo
demo: model ## Start everything on loopback, ban, register, check real pictures, print the verdicts, stop
	$(BIN)/python tools/demo.py

.PHONY: test
test: model ## Run all the tests
	$(PYTEST)

.PHONY: bench
bench: model ## Measure how fast the service is here, beside its limits and its peers; write bench/report.md
	$(BIN)/imagewarden bench

.PHONY: test-fast
test-fast: $(STAMP) ## Run the tests that need no model and take no long time
	$(PYTEST) -m "not model and not slow"

.PHONY: test-reliability
test-reliability: model ## Kill, damage, starve and overload servers; say what they survived (under 20 minutes)
	$(PYTEST) tests/reliability --kills 200 --damages 30 --overload-seconds 300

FUZZ_STAMP := $(VENV)/.fuzz-installed

$(FUZZ_STAMP): $(STAMP) requirements/fuzz.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r requirements/fuzz.txt \
		|| { echo "There is no wheel of the fuzzer, atheris, for this machine; the seeds alone can be run: $(PYTEST) tests/fuzz" >&2; exit 1; }
	@touch $@

.PHONY: fuzz
fuzz: $(FUZZ_STAMP) ## Fuzz each decoder, list format and request (FUZZ_SECONDS=20 each)
	$(BIN)/python -m tests.fuzz

.PHONY: soak
soak: model ## Run everything at once for SOAK_MINUTES=20: no error, nothing that grows; write var/soak
	$(BIN)/python -m tests.soak

.PHONY: check
check: $(STAMP) ## Lint, types, layers, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos > /dev/null
	$(BIN)/buf breaking --against protos/released.binpb
	$(BIN)/python tools/generate_stubs.py --check
	$(BIN)/python tools/generate_tfs_descriptors.py --check

.PHONY: format
format: $(STAMP) ## Put code and protos into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w protos

.PHONY: protos
protos: $(STAMP) ## Generate the stubs after a change in protos/
	$(BIN)/python tools/generate_stubs.py

.PHONY: release-protos
release-protos: $(STAMP) ## Take today's protos as the released API that later ones must not break
	$(BIN)/buf build --path protos/imagewarden -o protos/released.binpb

.PHONY: requirements
requirements: $(STAMP) ## Pin the newest requirements, with hashes
	$(BIN)/pip-compile --quiet --upgrade --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --strip-extras --allow-unsafe --output-file requirements/dev.txt pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --strip-extras --output-file requirements/fuzz.txt requirements/fuzz.in

.PHONY: build
build: $(STAMP) ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

.PHONY: clean
clean: ## Remove what was made: .venv, caches, the model, the demo's state
	rm -rf $(VENV) var dist bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
