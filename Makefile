# `make` lists the recipes. Every one creates the virtual environment it needs.
PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
CLIENTS_VENV := .venv-clients
BIN := $(VENV)/bin
SHELL := /bin/bash
# The tests of a file stay together, for what they share; in which order, and in how many processes: tests/conftest.py.
PYTEST = $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test check clients bench soak docs format clean

help: ## list the recipes
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

# Two stamps: the demo needs only what the product needs.
$(VENV)/.run: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "imdsctl needs Python 3.11 or newer; call: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned requirements into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	@echo "installing the pinned test requirements into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(BENCH_VENV)/.ready: bench/requirements.txt
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	@echo "installing the peers into $(BENCH_VENV) (once)"
	@$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	@touch $@

$(CLIENTS_VENV)/.ready: tests/contract/imds_clients/requirements.txt tests/contract/imds_clients/package.json
	@test -x $(CLIENTS_VENV)/bin/python || $(PYTHON) -m venv $(CLIENTS_VENV)
	@echo "installing metadata clients from PyPI and npm into $(CLIENTS_VENV) (once)"
	@$(CLIENTS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/contract/imds_clients/requirements.txt
	@! command -v npm >/dev/null || { cp tests/contract/imds_clients/package.json $(CLIENTS_VENV)/ \
		&& npm install --prefix $(CLIENTS_VENV) --no-package-lock --no-audit --no-fund --loglevel=error >/dev/null; }
	@touch $@

demo: $(VENV)/.run ## see a role stolen through IMDSv1, and an organization go to "IMDSv2 enforced", on a local AWS
	@$(BIN)/imdsctl demo --attack
	@echo
	@$(BIN)/imdsctl demo

test: $(VENV)/.dev ## all tests
	@$(PYTEST)

check: $(VENV)/.dev ## format, lint, types, import contract, tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

clients: $(CLIENTS_VENV)/.ready ## install the metadata clients from PyPI and npm that the tests run, where they can be had

format: $(VENV)/.dev ## put every file into the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## write docs/local-aws.md's list of operations from the code, docs/imds-clients.md from its cases, docs/scale.md from what was measured
	@$(BIN)/python docs/local_aws.py
	@$(BIN)/python docs/imds_clients.py
	@$(BIN)/python docs/scale.py

bench: $(VENV)/.dev $(BENCH_VENV)/.ready ## side by side with boto3, moto, ministack, nginx and Starlette, as ratios
	@$(BIN)/python -m bench --peers-python $(BENCH_VENV)/bin/python

soak: $(VENV)/.dev $(CLIENTS_VENV)/.ready ## long campaigns: 100,000 hostile requests, a thousand kill -9 in the middle of writes and of applies, 10,000 simulated calls, Terraform in 20 accounts and 17 Regions, metadata clients to the end of their patience
	@IMDSCTL_SOAK_REQUESTS=100000 $(BIN)/python -m pytest tests/contract/test_hostile_http.py tests/contract/test_hostile_bytes.py
	@IMDSCTL_SOAK_ROUNDS=1000 $(BIN)/python -m pytest tests/journeys/test_kill.py tests/journeys/test_kill_apply.py
	@IMDSCTL_SOAK_POLICIES=10000 $(BIN)/python -m pytest tests/contract/test_simulate.py
	@IMDSCTL_SOAK_TERRAFORM=20 IMDSCTL_COMMAND_SECONDS_MAX=1200 $(BIN)/python -m pytest tests/contract/test_export_by_account.py
	@IMDSCTL_SOAK_CLIENTS=1 $(BIN)/python -m pytest tests/contract/test_imds_clients.py

clean: ## remove the virtual environments and caches
	rm -rf $(VENV) $(BENCH_VENV) $(CLIENTS_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
