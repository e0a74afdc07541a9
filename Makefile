# Banksman. `make help` lists what there is; every target sets itself up.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROTOS := $(wildcard protos/banksman/v1/*.proto)
WORKERS ?= 2

.PHONY: help setup protos fmt fmt-check lint types layers proto-lint proto-image units diagrams diagrams-fresh check test test-fast faults mutants demo bench bench-quick lock clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(READY): pyproject.toml hatch_build.py .ci/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "banksman needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Say: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

gen/banksman/py.typed: $(READY) $(PROTOS)
	@$(BIN)/python hatch_build.py

setup: $(READY) gen/banksman/py.typed ## Make .venv with everything that development needs
protos: $(READY) ## Generate gen/ from the .proto files
	@$(BIN)/python hatch_build.py

fmt: setup ## Format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix-only --quiet .
fmt-check: setup
	@$(BIN)/ruff format --check .
lint: setup ## Lint
	@$(BIN)/ruff check .
types: setup ## Type check (strict)
	@$(BIN)/mypy
layers: setup ## Check the import contracts
	@$(BIN)/lint-imports
proto-lint: setup ## Lint the contract, and hold it against the last release's image
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python protos/check.py
proto-image: setup ## Keep the present contract as the one that later changes must not break
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python protos/check.py --keep
units: ## Verify the systemd units
	@deploy/systemd/verify
diagrams: setup ## Draw the state diagrams of ARCHITECTURE.md anew
	@$(BIN)/python docs/state_diagrams.py --write
diagrams-fresh: setup
	@$(BIN)/python docs/state_diagrams.py

check: fmt-check lint types layers proto-lint units diagrams-fresh ## Everything but the tests: format, lint, types, imports, contract, units, budgets, diagrams
	@$(BIN)/pytest -q -p no:cacheprovider tests/architecture

test: setup ## All tests
	@$(BIN)/pytest -q -n $(WORKERS) --dist worksteal
test-fast: setup ## Only the tests without processes and sockets
	@$(BIN)/pytest -q -n $(WORKERS) tests/unit tests/architecture

faults: setup ## All proofs under faults, with the table of figures (up to 40 minutes)
	@$(BIN)/python -m tests.faults
mutants: setup ## Seed bugs one by one; each must be noticed by a scenario (up to 20 minutes)
	@$(BIN)/python -m tests.mutants

demo: setup ## Set up, start a server and a runner, and show them at work
	@$(BIN)/python deploy/demo/demo.py

bench: setup ## Measure against a bare floor in the same run (up to 45 minutes)
	@$(BIN)/python -m tests.bench
bench-quick: setup ## A subset of it, less of each (under two minutes)
	@$(BIN)/python -m tests.bench --quick --out bench-quick.json

lock: ## Pin the development environment anew, with hashes
	@$(BIN)/uv pip compile --quiet --generate-hashes --extra dev --python-version 3.11 --no-emit-package banksman --no-header --no-annotate -o .ci/requirements.txt pyproject.toml

clean: ## Remove what was generated (not .venv)
	@rm -rf gen gen.new dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
