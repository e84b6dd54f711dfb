# Every target creates what it needs: Python 3.11-3.13, make and a C compiler are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Everything is checked by its hash, but torch: which of its builds fits depends on the accelerator, and each has hashes
# of its own. So it is taken by version, from the index in use; requirements-torch.lock tells how to check it too.
TORCH ?= --constraint constraints.txt torch

.PHONY: help demo table512 test torture lint format bench lock clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml requirements-build.lock requirements.lock requirements-torch.lock
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --only-binary :all: --requirement requirements-build.lock
	$(PIP) install --require-hashes --no-build-isolation --requirement requirements.lock
	$(PIP) install $(TORCH)
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED)  ## train vanilla, inter-block and TARNet on a small corpus and compare them (minutes)
	$(BIN)/nano-llm run -m experiment=demo

test: $(INSTALLED)  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

torture: $(INSTALLED)  ## inject every fault for long (hours)
	OMP_NUM_THREADS=1 NANO_LLM_TORTURE=50 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 -m fuzz
	OMP_NUM_THREADS=1 NANO_LLM_TORTURE=10 NANO_LLM_TORTURE_MINUTES=30 \
	  $(BIN)/python -m pytest --capture=no --verbose tests/torture

lint: $(INSTALLED)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

table512: $(INSTALLED)  ## the reference's table, beside its published figures (a GPU; resumable, see experiments/table512)
	$(BIN)/nano-llm run -m experiment=table512 $(ARGS)

bench: $(INSTALLED)  ## measure training and decoding beside peers, preparing data, serving, and what a sweep costs
	$(BIN)/nano-llm bench train --out experiments/bench/train.json
	$(BIN)/nano-llm bench decode --out experiments/bench/decode.json
	$(BIN)/nano-llm bench data --out experiments/bench/data.json
	$(BIN)/nano-llm bench serve --out experiments/bench/serve.json
	$(BIN)/python experiments/bench/sweep.py

lock: $(INSTALLED)  ## write the lock files and the licences again, from pyproject.toml (Linux; downloads gigabytes)
	$(BIN)/python tools/lock.py $(ARGS)

clean:  ## remove the environment and caches; outputs/ stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
