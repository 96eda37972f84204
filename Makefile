# Two commands for newcomers: `make demo` and `make test`. Each does all the set-up it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= python3
ARGS ?=
SEED ?=
MINUTES ?= 20
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked

.PHONY: help setup servers demo test test-unit test-e2e test-mutants test-long check format bench lock clean

help: ## what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 14

setup: $(LOCKED) ## the virtual environment, exactly as locked

$(LOCKED): requirements-dev.lock pyproject.toml
	@scripts/bootstrap venv
	@test -x $(BIN)/python || { echo "recount: making the virtual environment $(VENV)" >&2; $(PYTHON) -m venv $(VENV); }
	@echo "recount: installing locked packages (once; about a minute)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

servers: $(LOCKED)
	@scripts/bootstrap java maven redis
	@$(BIN)/python -m lab fetch

demo: servers ## count a million events on real servers, with a worker killed midway (ARGS="--exit --json", "--kill thrift")
	@$(BIN)/python -m app demo $(ARGS)

test: servers ## every test but the long ones, on real servers
	@$(BIN)/python -m pytest -m "not long" $(ARGS)

test-unit: $(LOCKED) ## the tests that need no server
	@$(BIN)/python -m pytest tests/unit $(ARGS)

test-e2e: servers ## the service as processes, killed and paused at every named point; the long ones too
	@$(BIN)/python -m pytest -m "e2e or long" $(ARGS)

test-mutants: servers ## every mechanism switched off, one at a time: its tests must fail (ARGS="--only fence")
	@$(BIN)/python -m tests.mutants $(ARGS)

test-long: servers ## random faults on real servers for MINUTES=20, from a SEED it prints, every store compared every few minutes
	@$(BIN)/python -m tests.soak $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES) $(ARGS)

check: $(LOCKED) ## ruff, mypy --strict, import layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(LOCKED) ## let ruff lay the code out
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: servers ## events per CPU-second, as ratios in one run
	@$(BIN)/python -m benchmarks $(ARGS)

lock: ## resolve the dependencies of pyproject.toml anew
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove the virtual environment and caches of this folder
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
