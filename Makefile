# Everything the suite does, one target each. `make help` lists them.
#   JOBS=n     runs at a time on this machine      AGENTS=n   W&B agents on this machine
#   OFFLINE=1  the same sweeps without a server    ARGS=...   passed on, for example ARGS="--set data_dir=/images"
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RESULTS ?= results
JOBS ?= 1
AGENTS ?= 1
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-gpu lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is younger than the lists of packages, so a changed list installs again.
$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

$(VENV)/.installed-tests: $(VENV)/.installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet --requirement tests/requirements.txt
	@touch $@

setup: $(VENV)/.installed ## install what the suite needs into .venv

demo: $(VENV)/.installed ## compare five strategies on digits, offline, in minutes
	WANDB_MODE=offline $(BIN)/python -m sweeps.local sweeps/demo.yaml --jobs 2 --results-dir $(RESULTS)/demo $(ARGS)

test: $(VENV)/.installed-tests ## run the tests, under ten minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q $(ARGS)

test-slow: $(VENV)/.installed-tests ## run the tests that take minutes each
	$(BIN)/python -m pytest -q -m slow $(ARGS)

test-gpu: $(VENV)/.installed-tests ## run the tests that need an accelerator
	$(BIN)/python -m pytest -q -m gpu $(ARGS)

lint: $(VENV)/.installed-tests ## check style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-tests ## put the code into the common format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches, never results
	rm -rf $(VENV) .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
