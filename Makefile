# Everything the suite does, one target each. `make help` lists them, and these settings:
#   OFFLINE=1        run sweeps here, without a W&B server
#   JOBS=n           runs at a time on this machine, for OFFLINE=1 and compare (auto: as many as are fastest)
#   AGENTS=n         W&B agents on this machine, without OFFLINE=1 (auto: as many as are fastest)
#   RESULTS=DIR      where results are written (results)
#   DATA=DIR         your images, for compare and study-frozen
#   MINUTES=n        time that compare may take (30)
#   FEATURES=MODEL   embedding model for study-frozen: a Hugging Face name or a folder
#   ARGS="..."       options for the command itself, for example ARGS="--dry-run" or ARGS="--set data_dir=/images"
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RESULTS ?= results
JOBS ?= 1
AGENTS ?= 1
DATA ?=
MINUTES ?= 30
ARGS ?=

ifeq ($(OFFLINE),1)
SWEEP = WANDB_MODE=$${WANDB_MODE:-offline} $(BIN)/python -m sweeps.local --jobs $(JOBS) --results-dir $(RESULTS)
else
SWEEP = $(BIN)/python -m sweeps.launch --agents $(AGENTS) --results-dir $(RESULTS)
endif

EXP1 := sweeps/study/exp1_baselines.yaml sweeps/study/exp1_strategies.yaml
EXP2 := sweeps/study/exp2_baselines.yaml sweeps/study/exp2_baselines_50_1.yaml \
        sweeps/study/exp2_strategies.yaml sweeps/study/exp2_strategies_50_1.yaml
EXP3 := sweeps/study/exp3.yaml
# The study on frozen embeddings of image files: make study-frozen DATA=folder FEATURES=model or folder of one
FROZEN = $(if $(FEATURES),,$(error FEATURES=... is missing: a vision model of the Hugging Face Hub, or its folder)) \
         --set model=frozen features=$(FEATURES) features_size=112 pictures=false
CONTROLS := sweeps/study/extra_exp1_random.yaml sweeps/study/extra_exp2_random.yaml

.DEFAULT_GOAL := help
.PHONY: help setup demo compare exp1 exp2 exp3 study study-frozen study-frozen-controls study-frozen-clip study-report registry clip sync report dashboard bench check-device test test-slow test-kernels test-gpu lint format clean

help: ## list the targets and settings
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; sed -n 's/^#   /  /p' $(MAKEFILE_LIST)

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

demo: $(VENV)/.installed ## compare five strategies on digits, offline, some minutes
	WANDB_MODE=offline $(BIN)/python -m sweeps.local sweeps/demo.yaml --jobs 2 --results-dir $(RESULTS)/demo $(ARGS)
	$(if $(findstring --dry-run,$(ARGS)),,$(BIN)/python -m data_prep map --dataset=digits --results-dir=$(RESULTS)/demo)
	$(if $(findstring --dry-run,$(ARGS)),,$(BIN)/python -m sweeps.report sweeps/demo.yaml --results-dir $(RESULTS)/demo)

compare: $(VENV)/.installed ## compare strategies on your own images: DATA=DIR MINUTES=30 (without DATA: on digits)
	WANDB_MODE=$${WANDB_MODE:-offline} $(BIN)/python -m sweeps.compare $(if $(DATA),"$(DATA)") --minutes $(MINUTES) \
	  --jobs $(JOBS) $(if $(filter-out results,$(RESULTS)),--results-dir "$(RESULTS)") $(ARGS)

exp1: $(VENV)/.installed ## experiment 1, balanced data: 90 runs
	$(SWEEP) $(EXP1) $(ARGS)

exp2: $(VENV)/.installed ## experiment 2, class imbalance, its baselines first: 100 runs
	$(SWEEP) $(EXP2) $(ARGS)

exp3: $(VENV)/.installed ## experiment 3, CLIP labels as a free start: 30 runs
	$(SWEEP) $(EXP3) $(ARGS)

study: $(VENV)/.installed ## all three experiments: 44 configurations x 5 seeds
	$(SWEEP) $(EXP1) $(EXP2) $(EXP3) $(ARGS)

study-frozen: $(VENV)/.installed ## experiments 1 and 2 on frozen embeddings, 190 runs: DATA=folder FEATURES=model
	$(SWEEP) $(EXP1) $(EXP2) $(FROZEN) dataset=imagefolder data_dir=$(or $(DATA),data/cifar10) $(ARGS)

study-frozen-controls: $(VENV)/.installed ## the random sampling that the study lacks, on frozen embeddings: 50 runs
	$(SWEEP) $(CONTROLS) $(FROZEN) dataset=imagefolder data_dir=$(or $(DATA),data/cifar10) $(ARGS)

study-frozen-clip: $(VENV)/.installed ## experiment 3 on published CLIP outputs, 120 runs: see its sweep file
	$(SWEEP) sweeps/study/extra_clip_published_logits.yaml $(FROZEN) $(ARGS)

study-report: $(VENV)/.installed ## tables, claims and figures from the published runs in benchmarks/study
	$(BIN)/python -m sweeps.study
	$(BIN)/python -m sweeps.report --from-csv benchmarks/study --out $(RESULTS)/study-report $(ARGS)

registry: $(VENV)/.installed ## every strategy on frozen embeddings, 10 to 1,000 labels: 340 runs
	$(SWEEP) sweeps/registry.yaml $(ARGS)

clip: $(VENV)/.installed ## zero-shot labels with their statistics, for experiment 3
	$(BIN)/python -m data_prep clip --results-dir $(RESULTS) \
	  --published-statistics sweeps/study/reference/clip_paper_statistics.csv \
	  --published-transitions sweeps/study/reference/clip_paper_confusion.csv $(ARGS)

sync: $(VENV)/.installed ## upload runs that were logged offline
	$(BIN)/python -m sweeps.sync --results-dir $(RESULTS) $(ARGS)

report: $(VENV)/.installed ## tables, figures and one page from the results
	$(BIN)/python -m sweeps.report --results-dir $(RESULTS) $(ARGS)

dashboard: $(VENV)/.installed ## create or update the W&B report
	$(BIN)/python -m sweeps.report.dashboard --results-dir $(RESULTS) $(ARGS)

bench: $(VENV)/.installed ## measure speed and memory against the usual stack, twenty minutes on two cores
	$(BIN)/python -m benchmarks --out $(RESULTS)/benchmarks $(ARGS)

check-device: $(VENV)/.installed ## check this machine's GPU against its CPU, and measure it, some minutes
	$(BIN)/python -m benchmarks.check --out $(RESULTS)/benchmarks/check.json $(ARGS)

test: $(VENV)/.installed-tests ## run the tests, under ten minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q $(ARGS)

test-slow: $(VENV)/.installed-tests ## run the tests that take minutes each
	$(BIN)/python -m pytest -q -m slow $(ARGS)

test-kernels: $(VENV)/.installed-tests ## run the numerical tests under every matrix kernel of this processor
	$(BIN)/python -m pytest -q -m 'slow or not slow' tests/test_kernels.py $(ARGS)

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
