# Every target creates what it needs: Python 3.11-3.13, make and a C compiler are enough.
# ARGS is put behind the command of a target: make train ARGS="model=vanilla trainer.max_minutes=10".
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Everything is checked by its hash, but torch: which of its builds fits depends on the accelerator, and each has hashes
# of its own. So it is taken by version, from the index in use; requirements-torch.lock tells how to check it too.
TORCH ?= --constraint constraints.txt torch
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

# What generate, chat and serve use: a folder of a run or of a checkpoint, or the latest run.
RUN ?= latest
# What sweep carries out, and table reports: a file of conf/experiment.
EXPERIMENT ?= separation
OUTPUTS := $(or $(NANO_LLM_OUTPUTS),outputs)
TRAIN := $(BIN)/nano-llm run model=tarnet data=scm trainer.max_minutes=2
SWEEP := $(BIN)/nano-llm run -m experiment=$(EXPERIMENT)

.PHONY: help build demo train resume train-imdb sweep table table512 generate chat serve test test-cov test-all torture \
  lint format docs bench lock clean .trained .swept

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml requirements-build.lock requirements.lock requirements-torch.lock
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --only-binary :all: --requirement requirements-build.lock
	$(PIP) install --require-hashes --no-build-isolation --requirement requirements.lock
	$(PIP) install $(TORCH)
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

build: $(INSTALLED)  ## make the wheel and the source archive, in dist/
	$(BIN)/python -m hatchling build $(ARGS)

demo: $(INSTALLED)  ## train vanilla, inter-block and TARNet on a small corpus and compare them (minutes)
	$(BIN)/nano-llm run -m experiment=demo

train: $(INSTALLED)  ## train a TARNet on structural reviews for two minutes
	$(TRAIN) $(ARGS)

resume: train  ## go on with a `make train` that was interrupted: it is the same command, with the same ARGS

train-imdb: $(INSTALLED)  ## train a TARNet on IMDB for ten minutes (NANO_LLM_IMDB names a local copy)
	$(BIN)/nano-llm run model=tarnet data=imdb trainer.max_minutes=10 $(ARGS)

sweep: $(INSTALLED)  ## carry out EXPERIMENT, by default the weights of the separation term (an hour; resumable)
	$(SWEEP) $(ARGS)

table: .swept  ## report EXPERIMENT, which is carried out first if there is nothing of it yet
	$(BIN)/nano-llm report $(OUTPUTS)/$(EXPERIMENT) $(ARGS)

table512: $(INSTALLED)  ## the reference's table, beside its published figures (a GPU; resumable, see experiments/table512)
	$(BIN)/nano-llm run -m experiment=table512 $(ARGS)

generate: .trained  ## write reviews with RUN; the latest run is made first if there is none
	$(BIN)/nano-llm generate $(RUN) $(ARGS)

chat: .trained  ## write reviews with RUN one after the other, changing outcome and steering on the way
	$(BIN)/nano-llm chat $(RUN) $(ARGS)

serve: .trained  ## serve RUN: a page for people, OpenAI's protocol for programs
	$(BIN)/nano-llm serve $(RUN) $(ARGS)

test: $(INSTALLED)  ## run the tests
	$(PYTEST) $(ARGS)

test-cov: $(INSTALLED)  ## run the tests and tell which lines none of them runs
	$(PYTEST) --cov=nano_llm --cov-report=term-missing:skip-covered $(ARGS)

test-all: test  ## run the tests, and the faults of tests/torture in their bounded form
	$(PYTEST) tests/torture $(ARGS)

torture: $(INSTALLED)  ## inject every fault for long (hours)
	NANO_LLM_TORTURE=50 $(PYTEST) -m fuzz
	OMP_NUM_THREADS=1 NANO_LLM_TORTURE=10 NANO_LLM_TORTURE_MINUTES=30 \
	  $(BIN)/python -m pytest --capture=no --verbose tests/torture

lint: $(INSTALLED)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)  ## write the pages of settings and of metrics again, from the code
	$(BIN)/python tools/configuration.py
	$(BIN)/python tools/metrics.py

bench: $(INSTALLED)  ## measure training and decoding beside peers, preparing IMDB, serving, and what a sweep costs
	$(BIN)/nano-llm bench data --imdb "$${NANO_LLM_IMDB:?is to name the folder of IMDB}" --out experiments/bench/data.json
	$(BIN)/nano-llm bench train --repeats 5 --out experiments/bench/train.json
	$(BIN)/nano-llm bench decode --scales w512 --out experiments/bench/decode.json
	$(BIN)/nano-llm bench serve --out experiments/bench/serve.json
	$(BIN)/python experiments/bench/sweep.py
	$(BIN)/python experiments/bench/profile.py

lock: $(INSTALLED)  ## write the lock files and the licences again, from pyproject.toml (Linux; downloads gigabytes)
	$(BIN)/python tools/lock.py $(ARGS)

clean:  ## remove the environment, what was built, and caches; outputs/ stays
	rm -rf $(VENV) dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Looked for when they are needed, without the ARGS of who needs them.
.trained: $(INSTALLED)
	$(if $(filter latest,$(RUN)),$(if $(wildcard $(OUTPUTS)/*/*/seed-*/checkpoints/best/manifest.json),,$(TRAIN)))

.swept: $(INSTALLED)
	$(if $(wildcard $(OUTPUTS)/$(EXPERIMENT)/sweep.json),,$(SWEEP))
